"""Small generators with random weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assemblies import parse, save_model
from ganblocks.sampling.grids import to_picture
from tests import tiny


def randomise(generator):
    """Random weights and a random mean style, since some initial weights are zero."""
    with torch.no_grad():
        for value in generator.parameters():
            value.add_(torch.randn_like(value) * 0.3)
        for name, value in generator.named_buffers():
            if name.endswith("w_avg"):
                value.normal_()
    return generator.eval()


@pytest.fixture(scope="session")
def generator():
    torch.manual_seed(0)
    return randomise(parse(tiny.GENERATOR).build())


@pytest.fixture(scope="session")
def conditional():
    """Three classes, images in [0,1]."""
    torch.manual_seed(0)
    return randomise(parse(tiny.GENERATOR | {"cond_dim": 3, "value_range": "unit"}).build())


@pytest.fixture
def model(tmp_path, conditional):
    """The model file of `conditional`."""
    save_model(tmp_path / "model.safetensors", conditional)
    return tmp_path / "model.safetensors"


def is_part_of(image, picture, value_range):
    """Whether an image [c,h,w] is part of a picture (array) at some scale."""
    small = np.asarray(to_picture(image, value_range)).astype(int)
    for scale in range(1, 8):
        cell = small.repeat(scale, 0).repeat(scale, 1)
        height, width, _ = cell.shape
        for y in range(picture.shape[0] - height + 1):
            for x in np.flatnonzero(np.abs(picture[y, : picture.shape[1] - width + 1] - cell[0, 0]).max(-1) <= 1):
                if np.abs(picture[y : y + height, x : x + width] - cell).max() <= 1:
                    return True
    return False
