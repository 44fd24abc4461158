"""Small models, and an extractor whose weights are made on the spot."""

from __future__ import annotations

import pytest
import torch

from assemblies import parse, save_model
from tests import tiny
from tests.extractors import save_extractor


@pytest.fixture(scope="session")
def extractor_file(tmp_path_factory):
    """A TorchScript file of a small network."""
    return save_extractor(tmp_path_factory.mktemp("extractor") / "pooled.pt")


@pytest.fixture
def with_extractor(extractor_file):
    """Options that make metrics use it."""

    def options(*kinds):
        return {
            "settings": [f"{kind}.extractor=torchscript" for kind in kinds],
            "extractor_weights": [f"torchscript={extractor_file}"],
        }

    return options


@pytest.fixture
def model(tmp_path):
    """The model file of a small generator without classes, with random weights throughout."""
    torch.manual_seed(0)
    generator = parse(tiny.GENERATOR).build()
    with torch.no_grad():
        for parameter in generator.parameters():  # some are zero at first
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    save_model(tmp_path / "model.safetensors", generator)
    return tmp_path / "model.safetensors"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own."""
    monkeypatch.setenv("GANBLOCKS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "metrics"
