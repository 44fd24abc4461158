"""Overlapping patches: windows, padding, class token."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from blocks.families import to_nhwc
from blocks.stem.overlapping_patches import OverlappingPatches
from registry import IncompatibleError
from tests.tensors import normal


def test_a_token_is_a_linear_map_of_a_zero_padded_window() -> None:
    torch.manual_seed(0)
    stem, image = OverlappingPatches(3, (8, 12), dim=5, patch_size=4, overlap=1).double(), normal(2, 3, 8, 12)
    features, same = stem(None, image)
    assert same is image
    assert features.shape == (2, 5, 2, 3)
    padded = F.pad(image, (1, 1, 1, 1))
    for row in range(2):
        for column in range(3):
            window = padded[:, :, row * 4 : row * 4 + 6, column * 4 : column * 4 + 6].flatten(1)
            token = F.linear(window, stem.proj.weight.flatten(1), stem.proj.bias)
            torch.testing.assert_close(features[:, :, row, column], token + stem.pos_embed[row * 3 + column])


def test_a_class_token_comes_first_in_one_row() -> None:
    torch.manual_seed(0)
    stem = OverlappingPatches(3, (8, 12), dim=6, patch_size=4, overlap=0, class_token=True)
    features, _ = stem(None, torch.randn(2, 3, 8, 12))
    assert features.shape == (2, 6, 1, 7)
    torch.testing.assert_close(features[0, :, 0, 0], stem.class_token + stem.pos_embed[0])


@pytest.mark.parametrize(("side", "step"), [(8, 4), (5, 3), (3, 4)])
def test_without_padding_all_windows_lie_in_the_image(side, step):
    image = normal(2, 3, 16, 13)
    options = {"patch_size": step, "window_size": side, "padding": "none", "position": "sine"}
    patches = OverlappingPatches(3, (16, 13), dim=6, **options).double()
    windows = image.unfold(2, side, step).unfold(3, side, step)  # b k rows columns side side
    tokens = torch.einsum("bkrcij,dkij->brcd", windows, patches.proj.weight) + patches.proj.bias
    expected = tokens + torch.sin(patches.pos_embed).view(tokens.shape[1:])
    torch.testing.assert_close(to_nhwc(patches(None, image)[0]), expected)


def test_an_odd_margin_has_one_more_pixel_after_the_patch():
    image = normal(2, 3, 8, 12)
    patches = OverlappingPatches(3, (8, 12), dim=6, patch_size=4, window_size=7).double()
    windows = F.pad(image, (1, 2, 1, 2)).unfold(2, 7, 4).unfold(3, 7, 4)
    tokens = torch.einsum("bkrcij,dkij->brcd", windows, patches.proj.weight) + patches.proj.bias
    expected = tokens + patches.pos_embed.view(2, 3, 6)
    torch.testing.assert_close(to_nhwc(patches(None, image)[0]), expected)


def test_patches_that_do_not_fit_are_incompatible() -> None:
    with pytest.raises(IncompatibleError, match="window of 9 pixels does not fit into 8x12; take padding: zeros"):
        OverlappingPatches(3, (8, 12), dim=6, window_size=9, padding="none")
    with pytest.raises(IncompatibleError, match=r"patch_size +8x10 pixels do not divide into patches of 4"):
        OverlappingPatches(3, (8, 10), dim=6)
    with pytest.raises(IncompatibleError, match="must be the first stem, but there are features of 16 channels"):
        OverlappingPatches(3, (8, 8), 16, dim=6)


def test_an_image_of_another_size_is_refused() -> None:
    stem = OverlappingPatches(3, (8, 12), dim=6)
    with pytest.raises(ValueError, match="overlapping-patches: built for maps of 8x12 pixels, not 12x8"):
        stem(None, torch.randn(2, 3, 12, 8))
    with pytest.raises(ValueError, match=r"patches: image should have shape \[B, 3, H, W\], not \[2, 1, 8, 12\]"):
        stem(None, torch.randn(2, 1, 8, 12))
