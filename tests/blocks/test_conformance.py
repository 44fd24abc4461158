"""Every registered block passes the conformance suite; see `registry.testing`."""

from __future__ import annotations

import pytest
import torch

from registry import catalogue
from registry.testing import Check, checks
from registry.testing.checks import FEW_OPTIONS
from tests.budget import FULL

ENTRIES = list(catalogue.entries())
QUICK = (  # compiled to machine code in the default tests; the rest takes minutes
    "head/class-token/",
    "layer/conv/",
    "loss/hinge/",
    "norm/sln/",
    "synthesis-input/constant/",
    "weight-norm/spectral-norm/",
)
CHECKS = [check for entry in ENTRIES for check in checks(entry.block)]
EXPORTS = [check for check in CHECKS if check.function.__name__.startswith("exports")]
FURTHER = {  # exports of further sets of options than two of each block
    str(check)
    for number, check in enumerate(EXPORTS)
    if number >= FEW_OPTIONS and EXPORTS[number - FEW_OPTIONS].case.block is check.case.block
}
COMPILED = [check for entry in ENTRIES for check in checks(entry.block, slow=True)]
FIRST = {tuple(str(check).split("/")[:2]): check for check in reversed(COMPILED)}  # one set of options of each block
COMPOSED = (  # a third of the time together; made of blocks that are compiled here, or networks of other packages
    *("attention/mixed-heads/", "autoencoder/", "backbone/", "discriminator/", "generator/", "mapping/text-mapping/"),
)
SLOW = COMPILED if FULL else [check for check in FIRST.values() if not str(check).startswith(COMPOSED)]


def test_all_plugins_load() -> None:
    assert not catalogue.failures


@pytest.mark.parametrize("check", [check for check in CHECKS if str(check) not in FURTHER], ids=str)
def test_every_block_conforms(check: Check, device: torch.device) -> None:
    check(str(device))


@pytest.mark.slow
@pytest.mark.parametrize("check", [check for check in EXPORTS if str(check) in FURTHER], ids=str)
def test_every_set_of_options_can_be_exported(check: Check, device: torch.device) -> None:
    check(str(device))


@pytest.mark.parametrize("check", [check for check in SLOW if str(check).startswith(QUICK)], ids=str)
def test_small_blocks_compile_to_machine_code(check: Check, device: torch.device) -> None:
    check(str(device))


@pytest.mark.slow
@pytest.mark.parametrize("check", [check for check in SLOW if not str(check).startswith(QUICK)], ids=str)
def test_every_block_compiles_to_machine_code(check: Check, device: torch.device) -> None:
    check(str(device))
