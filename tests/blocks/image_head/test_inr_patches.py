"""Implicit neural representations: modulation per token, noise, colour outputs, the image so far."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from blocks.common.noise import noise_mode
from blocks.common.resample import Upsample2d
from blocks.image_head.inr_patches import INRPatches
from registry import IncompatibleError
from tests.blocks.image_head.trained import trained
from tests.tensors import normal

NO_STYLES = torch.zeros(2, 0, 12, dtype=torch.float64)


def patch_of(block: INRPatches, token: Tensor) -> Tensor:
    """The patch [K,P,P] that one token draws, by weights of its own."""
    size = block.patch_size
    if len(block.mapping):
        token = block.mapping(token / (token.square().mean() + 1e-8).sqrt())
    patch = torch.zeros(block.to_rgb.weight.shape[0], size, size, dtype=token.dtype)
    coordinates = torch.linspace(-1, 1, size, dtype=token.dtype)
    for i in range(size):
        for j in range(size):
            pixel = torch.sin(block.fourier.linear(torch.stack([coordinates[j], coordinates[i]])))
            for layer in block.layers:
                weight = layer.weight * layer.affine(token) / math.sqrt(layer.weight.shape[1])
                weight = weight / (weight.square().sum(dim=1, keepdim=True) + 1e-8).sqrt()
                pixel = F.leaky_relu(weight @ pixel + layer.bias, 0.2) * math.sqrt(2)
            weight = block.to_rgb.weight * block.to_rgb.affine(token) / math.sqrt(len(pixel))
            patch[:, i, j] = weight @ pixel + block.to_rgb.bias
    return patch


@pytest.mark.parametrize(
    "options", [{"hidden_dims": [7]}, {"hidden_dims": [7, 5, 5], "fourier_dim": 9, "mapping_layers": 2}]
)
def test_each_token_modulates_its_own_network(options):
    block = trained(INRPatches(6, patch_size=3, **options))
    x = normal(2, 6, 2, 4)
    image = block(x, NO_STYLES)
    assert image.shape == (2, 3, 6, 12)
    for sample in range(2):
        for row in range(2):
            for column in range(4):
                patch_pixels = image[sample, :, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
                torch.testing.assert_close(patch_pixels, patch_of(block, x[sample, :, row, column]))


def test_no_modulated_weights_are_stored():
    block, x = INRPatches(16, patch_size=2, hidden_dims=(32, 32)), torch.randn(4, 16, 8, 8)
    kept: list[int] = []

    def keep(saved: Tensor) -> Tensor:
        kept.append(saved.numel())
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        block(x, NO_STYLES)
    tokens, pixels = 4 * 8 * 8, 2 * 2
    assert max(kept) <= tokens * pixels * 32  # one activation; weights per token would be tokens * 32 * 32


def test_the_image_so_far_is_added():
    block, x = trained(INRPatches(6, patch_size=2, hidden_dims=(5,))), normal(2, 6, 3, 5)
    same, half = normal(2, 3, 6, 10), normal(2, 3, 3, 5)
    torch.testing.assert_close(block(x, NO_STYLES, same), block(x, NO_STYLES) + same)
    torch.testing.assert_close(block(x, NO_STYLES, half), block(x, NO_STYLES) + Upsample2d()(half))


def test_the_image_has_unit_scale_at_init():
    torch.manual_seed(0)
    image = INRPatches(64, patch_size=4, hidden_dims=(64, 64))(torch.randn(4, 64, 8, 8), NO_STYLES)
    assert 0.5 < image.std().item() < 2


def test_second_derivatives_are_right():
    block, x = trained(INRPatches(4, 1, patch_size=2, hidden_dims=(3, 3))), normal(1, 4, 1, 2).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: block(x, NO_STYLES), x)


def test_noise_mode_selects_no_constant_or_random_noise():
    block, x = INRPatches(6, 1, (2, 3), patch_size=2, hidden_dims=(5, 5), noise=True).double(), normal(2, 6, 2, 3)
    for noise in block.noise:
        torch.nn.init.constant_(noise.strength, 0.4)
    plain = INRPatches(6, 1, patch_size=2, hidden_dims=(5, 5)).double()
    plain.load_state_dict({name: value for name, value in block.state_dict().items() if "noise" not in name})
    ws = NO_STYLES
    with noise_mode("none"):
        torch.testing.assert_close(block(x, ws), plain(x, ws))
    with noise_mode("const"):
        assert torch.equal(block(x, ws), block(x, ws))
    with noise_mode("random"):
        assert not torch.equal(block(x, ws), block(x, ws))
    with pytest.raises(IncompatibleError, match="needs the resolution of the map of tokens"):
        INRPatches(6, noise=True)


def test_noise_is_added_at_its_pixel():
    block, x = INRPatches(6, 1, (2, 3), patch_size=2, hidden_dims=(5,), noise=True).double(), normal(1, 6, 2, 3)
    torch.nn.init.constant_(block.noise[0].strength, 1.0)
    block.noise[0].const.zero_()
    with noise_mode("const"):
        before = block(x, NO_STYLES)
        block.noise[0].const[3, 4] = 2.0
        changed = (block(x, NO_STYLES) != before)[0, 0].nonzero()
    assert changed.tolist() == [[3, 4]]


def test_colours_of_several_depths_are_summed_and_converted_to_the_unit_range():
    options = {"patch_size": 2, "hidden_dims": (5, 4, 4, 3, 3), "rgb_every": 2}
    block, x = INRPatches(6, 1, **options).double(), normal(2, 6, 2, 3)
    assert list(block.early_rgb) == ["2"]
    unit = INRPatches(6, 1, **options, value_range="unit").double()
    unit.load_state_dict(block.state_dict())
    torch.testing.assert_close(unit(x, NO_STYLES), block(x, NO_STYLES) / 2 + 0.5)
    both = block(x, NO_STYLES)
    torch.nn.init.zeros_(block.to_rgb.weight)
    early = block(x, NO_STYLES)
    torch.nn.init.zeros_(block.early_rgb["2"].weight)
    assert not torch.allclose(both, early)
    assert (block(x, NO_STYLES) == 0).all()
