"""SIREN patches against a loop over tokens and pixels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from blocks.families import to_nhwc
from blocks.image_head.siren_patches import SirenPatches
from registry import IncompatibleError

NO_STYLES = torch.zeros(2, 0, 12, dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("modulation", ["modulate", "demodulate", "add"])
@pytest.mark.parametrize("num_tokens", [2, 30])
def test_each_token_modulates_its_own_network(modulation, num_tokens):
    torch.manual_seed(0)
    block = SirenPatches(6, patch_size=3, hidden_dims=(5, 6), omega=2.0, modulation=modulation).double()
    x = normal(1, 6, 1, num_tokens)
    image = block(x, NO_STYLES)
    for number in (0, num_tokens - 1):
        token = x[0, :, 0, number]
        for row, column in ((0, 0), (2, 1)):
            pixel = block.fourier()[row, column]
            for index, layer in enumerate(block.network.layers):
                weight = layer.weight / math.sqrt(layer.weight.shape[1])
                style = token if layer.affine is None else layer.affine(token)
                if modulation == "add":
                    pixel = weight @ (pixel + style)
                else:
                    weight = weight * style
                    if modulation == "demodulate":
                        weight = weight / (weight.square().sum(1, keepdim=True) + 1e-8).sqrt()
                    pixel = weight @ pixel
                pixel = torch.sin(2 * pixel) if index < 2 else pixel
            torch.testing.assert_close(image[0, :, row, 3 * number + column], pixel)


def test_one_network_can_produce_the_whole_image():
    block, x = SirenPatches(6, 1, (2, 3), patch_size=2, hidden_dims=(6,), whole=True).double(), normal(2, 6, 2, 3)
    token = F.gelu(block.join(to_nhwc(x).reshape(2, -1)))
    expected = block.network(block.fourier().flatten(0, 1), token)  # b p 1
    torch.testing.assert_close(block(x, NO_STYLES)[:, 0].flatten(1), expected[..., 0])
    with pytest.raises(IncompatibleError, match="needs the resolution of the map of tokens"):
        SirenPatches(6, whole=True)


def test_a_network_for_the_whole_image_refuses_another_map_size() -> None:
    head = SirenPatches(6, 3, (4, 5), patch_size=2, hidden_dims=(8,), whole=True)
    with pytest.raises(ValueError, match="siren-patches: built for maps of 4x5 pixels, not 5x4"):
        head(torch.randn(2, 6, 5, 4), torch.zeros(2, 0, 1))
