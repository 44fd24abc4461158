"""Hostile model files are loaded or refused before they cost memory, and nothing outside of them is opened."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from assemblies import load_discriminator, load_model
from assemblies.model_file import read_metadata
from plugins.clip_towers import open_clip
from plugins.timm_networks import library
from registry import Op, catalogue
from tests.budget import SEED, number_of_cases
from tests.reliability.model_files import hostile_model_files
from tests.reliability.sandbox import failures, run_sandboxed, summary


@pytest.mark.slow
def test_hostile_model_files_are_loaded_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue.load()
    for op in Op.ops.values():
        op.bind()  # compiles kernels here, since the sandbox starts no programs
    library(), open_clip()
    monkeypatch.delenv("GANBLOCKS_WEIGHTS", raising=False)
    forbidden, path = tmp_path / "secret" / "weights.safetensors", tmp_path / "x.safetensors"
    forbidden.parent.mkdir()
    forbidden.write_bytes(b"secret")

    def load(content: bytes) -> None:
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that are not finite
            if "context" in read_metadata(path):
                load_discriminator(path)
            else:
                network = load_model(path)
                with torch.no_grad():
                    network(torch.zeros(1, network.z_dim))

    cases = hostile_model_files(number_of_cases(50, 150), forbidden, SEED)
    outcomes = run_sandboxed(load, cases, forbidden_files=[forbidden])
    print(summary(outcomes))
    assert failures(outcomes) == []
