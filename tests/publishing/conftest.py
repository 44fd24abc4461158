"""A small model with classes and noise."""

from __future__ import annotations

import pytest
import torch

from assemblies import parse, save_model
from tests.sampling.conftest import randomise

GENERATOR = {
    "kind": "layered",
    "z_dim": 8,
    "cond_dim": 3,
    "mapping": {"kind": "mapping", "num_layers": 2},
    "synthesis": [
        {"kind": "constant", "resolution": 4, "dim": 8},
        {"kind": "modulated-conv", "dim": 8},
        {"kind": "modulated-conv", "dim": 8, "up": 2},
        {"kind": "to-rgb"},
    ],
}


@pytest.fixture(scope="session")
def generator():
    torch.manual_seed(0)
    return randomise(parse(GENERATOR).build())


@pytest.fixture
def model(tmp_path, generator):
    save_model(tmp_path / "model.safetensors", generator, {"images": 48000, "data": "digits"})
    return tmp_path / "model.safetensors"
