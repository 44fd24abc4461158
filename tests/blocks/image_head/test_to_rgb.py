"""ToRGB: modulation, biases, clamp, and the image so far."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from blocks.common.resample import Upsample2d
from blocks.image_head.to_rgb import ToRGB
from registry import IncompatibleError
from tests.blocks.image_head.trained import trained
from tests.tensors import normal

NO_STYLES = torch.zeros(2, 0, 12, dtype=torch.float64)


def test_without_modulation_it_is_a_1x1_convolution():
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
def test_weights_are_modulated_for_each_sample(modulation):
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
    with pytest.raises(IncompatibleError, match="needs style vectors, and there are none here; take modulation: none"):
        ToRGB(6, modulation="modulate")


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_image_so_far_is_added(memory_format):
    block, x = trained(ToRGB(6)), normal(2, 6, 8, 12).contiguous(memory_format=memory_format)
    small = normal(2, 3, 2, 3, seed=1)
    upsample = Upsample2d()
    torch.testing.assert_close(block(x, NO_STYLES, small), block(x, NO_STYLES) + upsample(upsample(small)))
    same = normal(2, 3, 8, 12, seed=2)
    torch.testing.assert_close(block(x, NO_STYLES, same), block(x, NO_STYLES) + same)


def test_clamp_bounds_the_added_image_but_not_the_sum() -> None:
    torch.manual_seed(0)
    plain, clamped = (ToRGB(6, 7, modulation="modulate", clamp=clamp).double() for clamp in (None, 0.5))
    clamped.load_state_dict(plain.state_dict())
    x, ws, image = normal(2, 6, 4, 4), normal(2, 1, 7, seed=1), normal(2, 3, 4, 4, seed=2)
    added = plain(x, ws)
    assert added.abs().max() > 0.5
    torch.testing.assert_close(clamped(x, ws, image), image + added.clamp(-0.5, 0.5))


def test_second_order_styles_share_the_style_of_the_next_step() -> None:
    block = ToRGB(8, 5, 3, modulation="modulate", style_order=2, clamp=0.5)
    assert (block.num_styles, block.shares_next_style) == (1, True)
    assert block(torch.randn(2, 8, 4, 4) * 100, torch.randn(2, 1, 5)).abs().max() == 0.5


def test_styles_of_another_shape_are_refused() -> None:
    head, x = ToRGB(6, 7, modulation="modulate"), torch.randn(2, 6, 4, 4)
    with pytest.raises(ValueError, match=r"to-rgb: ws should have shape \[2, 1, 7\], not \[1, 1, 7\]"):
        head(x, torch.randn(1, 1, 7))
    with pytest.raises(ValueError, match=r"to-rgb: x should have shape \[B, 6, H, W\], not \[2, 5, 4, 4\]"):
        head(x[:, :5], torch.randn(2, 1, 7))
