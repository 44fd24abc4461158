"""Readouts against plain definitions: the sum of images, modulated colours, implicit and linear patches."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from blocks.common.resample import Upsample2d
from blocks.image_head.inr_patches import INRPatches
from blocks.image_head.linear_patches import LinearPatches
from blocks.image_head.to_rgb import ToRGB
from registry import IncompatibleError

NO_STYLES = torch.zeros(2, 0, 12, dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def trained(block: torch.nn.Module) -> torch.nn.Module:
    """In float64, with biases that are not zero."""
    torch.manual_seed(0)
    block = block.double()
    with torch.no_grad():
        for name, parameter in block.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    return block


def test_without_modulation_to_rgb_is_a_convolution_of_one_pixel():
    block, x = trained(ToRGB(6)), normal(2, 6, 5, 7)
    assert (block.num_styles, block.shares_next_style) == (0, False)
    torch.testing.assert_close(block(x, NO_STYLES), F.conv2d(x, block.weight[:, :, None, None], block.bias))


def test_two_biases_add_up():
    block, x = trained(ToRGB(6, num_biases=2)), normal(2, 6, 5, 7)
    with torch.no_grad():
        block.bias2.normal_()
    expected = F.conv2d(x, block.weight[:, :, None, None], block.bias + block.bias2)
    torch.testing.assert_close(block(x, NO_STYLES), expected)


@pytest.mark.parametrize("modulation", ["modulate", "demodulate"])
def test_modulated_to_rgb_is_a_convolution_by_each_samples_own_weight(modulation):
    block = trained(ToRGB(6, 12, modulation=modulation))
    x, ws = normal(2, 6, 5, 7), normal(2, 1, 12, seed=1)
    assert (block.num_styles, block.shares_next_style) == (1, True)
    expected = []
    for sample, style in zip(x, block.affine(ws[:, 0]), strict=True):
        weight = block.weight * style
        if modulation == "demodulate":
            weight = weight / (weight.square().sum(dim=1, keepdim=True) + 1e-8).sqrt()
        else:
            weight = weight / math.sqrt(6)
        expected.append(F.conv2d(sample[None], weight[:, :, None, None], block.bias))
    torch.testing.assert_close(block(x, ws), torch.cat(expected))


def test_modulation_needs_a_style():
    with pytest.raises(IncompatibleError, match="no style here to modulate by; take none"):
        ToRGB(6, modulation="modulate")


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_to_rgb_adds_the_image_so_far(memory_format):
    block, x = trained(ToRGB(6)), normal(2, 6, 8, 12).contiguous(memory_format=memory_format)
    small = normal(2, 3, 2, 3, seed=1)
    upsample = Upsample2d()
    torch.testing.assert_close(block(x, NO_STYLES, small), block(x, NO_STYLES) + upsample(upsample(small)))
    same = normal(2, 3, 8, 12, seed=2)
    torch.testing.assert_close(block(x, NO_STYLES, same), block(x, NO_STYLES) + same)


def network_of_a_token(block: INRPatches, token: Tensor) -> Tensor:
    """The patch [K,P,P] that one token draws, by weights of its own."""
    size = block.patch_size
    if len(block.mapping):
        token = block.mapping(token / (token.square().mean() + 1e-8).sqrt())
    patch = torch.zeros(block.to_rgb.weight.shape[0], size, size, dtype=token.dtype)
    places = torch.linspace(-1, 1, size, dtype=token.dtype)
    for i in range(size):
        for j in range(size):
            pixel = torch.sin(block.fourier.linear(torch.stack([places[j], places[i]])))
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
def test_each_token_draws_its_patch_by_weights_of_its_own(options):
    block = trained(INRPatches(6, patch_size=3, **options))
    x = normal(2, 6, 2, 4)
    image = block(x, NO_STYLES)
    assert image.shape == (2, 3, 6, 12)
    for sample in range(2):
        for row in range(2):
            for column in range(4):
                found = image[sample, :, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
                torch.testing.assert_close(found, network_of_a_token(block, x[sample, :, row, column]))


def test_implicit_patches_keep_no_weights_per_token():
    block, x = INRPatches(16, patch_size=2, hidden_dims=(32, 32)), torch.randn(4, 16, 8, 8)
    kept: list[int] = []

    def keep(saved: Tensor) -> Tensor:
        kept.append(saved.numel())
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        block(x, NO_STYLES)
    tokens, pixels = 4 * 8 * 8, 2 * 2
    assert max(kept) <= tokens * pixels * 32  # one activation; weights per token would be tokens * 32 * 32


def test_implicit_patches_are_added_to_the_image_so_far():
    block, x = trained(INRPatches(6, patch_size=2, hidden_dims=(5,))), normal(2, 6, 3, 5)
    same, half = normal(2, 3, 6, 10), normal(2, 3, 3, 5)
    torch.testing.assert_close(block(x, NO_STYLES, same), block(x, NO_STYLES) + same)
    torch.testing.assert_close(block(x, NO_STYLES, half), block(x, NO_STYLES) + Upsample2d()(half))


def test_implicit_patches_start_at_unit_scale():
    torch.manual_seed(0)
    image = INRPatches(64, patch_size=4, hidden_dims=(64, 64))(torch.randn(4, 64, 8, 8), NO_STYLES)
    assert 0.5 < image.std().item() < 2


def test_implicit_patches_have_second_derivatives():
    block, x = trained(INRPatches(4, 1, patch_size=2, hidden_dims=(3, 3))), normal(1, 4, 1, 2).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: block(x, NO_STYLES), x)


def test_linear_patches_lie_where_their_tokens_are():
    block = LinearPatches(1, 1, patch_size=2).double()
    with torch.no_grad():
        block.patch.weight.copy_(torch.tensor([[1.0], [2.0], [3.0], [4.0]]))
    tokens = torch.tensor([[1.0, 10.0, 100.0]], dtype=torch.float64)[None, None]
    expected = [[1.0, 2.0, 10.0, 20.0, 100.0, 200.0], [3.0, 4.0, 30.0, 40.0, 300.0, 400.0]]
    assert block(tokens, NO_STYLES)[0, 0].tolist() == expected
