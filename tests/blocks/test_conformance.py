"""Every registered block keeps what blocks promise; see `registry.testing`."""

from __future__ import annotations

import pytest

from registry import catalogue
from registry.testing import Check, checks

ENTRIES = list(catalogue.entries())


@pytest.mark.parametrize("check", [check for entry in ENTRIES for check in checks(entry.block)], ids=str)
def test_every_block_conforms(check: Check) -> None:
    check()


@pytest.mark.slow
@pytest.mark.parametrize("check", [check for entry in ENTRIES for check in checks(entry.block, slow=True)], ids=str)
def test_every_block_compiles_to_machine_code(check: Check) -> None:
    check()
