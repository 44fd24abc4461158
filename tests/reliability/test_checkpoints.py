"""Hostile checkpoints are converted or refused: nothing in them is run, and none takes long or much memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from assemblies.conversion.read import import_network
from registry import Op, catalogue
from tests.budget import SEED, number_of_cases
from tests.reliability.checkpoints import hostile_checkpoints
from tests.reliability.sandbox import failures, run_sandboxed, summary


@pytest.mark.slow
def test_hostile_checkpoints_are_converted_or_refused(tmp_path: Path) -> None:
    catalogue.load()
    for op in Op.ops.values():
        op.bind()  # compiles kernels here, since the sandbox starts no programs
    canary, path = tmp_path / "canary", tmp_path / "x.pt"

    def convert(content: bytes) -> None:
        path.write_bytes(content)
        import_network(path).save(tmp_path / "x.safetensors")

    outcomes = run_sandboxed(convert, hostile_checkpoints(number_of_cases(30, 300), tmp_path, canary, SEED))
    print(summary(outcomes))
    assert failures(outcomes) == []
    assert not canary.exists()
