"""Shifted-window attention against attention over the whole map with a mask."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from blocks.attention.shifted_window import ShiftedWindowAttention
from registry import IncompatibleError, recording


def masked_attention(block: ShiftedWindowAttention, x: Tensor) -> Tensor:
    """The definition: logits of all pairs of pixels, minus infinity for pairs in different windows."""
    _, height, width, _ = x.shape
    row, column = torch.cartesian_prod(torch.arange(height), torch.arange(width)).unbind(dim=1)
    down, right = row - row[:, None], column - column[:, None]  # of each key from each query
    middle = block.window_size - 1
    attended = []
    for heads, shift, table in zip(
        block.qkv(x).flatten(1, 2).unflatten(-1, (3, sum(block.heads), -1)).split(block.heads, dim=-2),
        block.shift_sizes,
        block.rpb if block.rpb is not None else [None] * len(block.heads),
        strict=True,
    ):
        q, k, v = heads.unbind(dim=2)
        logits = torch.einsum("bind,bjnd->bnij", q, k) * (block.scale or q.shape[-1] ** -0.5)
        window_row, window_column = (row - shift) // block.window_size, (column - shift) // block.window_size
        together = (window_row == window_row[:, None]) & (window_column == window_column[:, None])
        if table is not None:
            indices = (down + middle).clamp(0, 2 * middle), (right + middle).clamp(0, 2 * middle)
            logits = logits + table[:, indices[0], indices[1]]
        weights = logits.masked_fill(~together, -torch.inf).softmax(-1)
        attended.append(torch.einsum("bnij,bjnd->bind", weights, v))
    return block.proj(torch.cat(attended, dim=2).flatten(2)).unflatten(1, (height, width))


@pytest.mark.parametrize(
    ("resolution", "options"),
    [
        ((8, 12), {"window_size": 4, "shift_sizes": [0, 2]}),
        ((7, 11), {"window_size": 4, "shift_sizes": [0, 1, 3]}),
        ((5, 6), {"window_size": 5, "shift_sizes": [2], "relative_position_bias": False}),
        ((4, 4), {"window_size": 4, "shift_sizes": [0, 0], "scale": 0.7, "qkv_bias": False}),
    ],
    ids=str,
)
def test_windows_equal_a_mask_on_the_whole_map(resolution, options):
    torch.manual_seed(0)
    block = ShiftedWindowAttention(12, resolution, num_heads=4, **options).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(std=0.4)
    x = torch.randn(2, *resolution, 12, dtype=torch.float64)
    torch.testing.assert_close(block(x), masked_attention(block, x), rtol=1e-9, atol=1e-11)


def test_maps_larger_than_the_resolution_have_more_windows():
    torch.manual_seed(0)
    block = ShiftedWindowAttention(12, (6, 6), num_heads=4, window_size=4, shift_sizes=[0, 2]).double()
    x = torch.randn(2, 9, 13, 12, dtype=torch.float64)
    torch.testing.assert_close(block(x), masked_attention(block, x), rtol=1e-9, atol=1e-11)


def test_windows_of_equal_size_are_one_call_of_the_op():
    plain = ShiftedWindowAttention(4, 32, num_heads=2, window_size=8, shift_sizes=[0])
    shifted = ShiftedWindowAttention(4, 32, num_heads=2, window_size=8, shift_sizes=[4])
    calls = []
    for block in (plain, shifted):
        with recording() as ran:
            block(torch.randn(1, 32, 32, 4))
        calls.append(len(ran))
    assert calls == [1, 9]


@pytest.mark.parametrize(
    ("resolution", "options", "location", "message"),
    [
        (4, {"window_size": 8}, "window_size", "window 8 > 4 px; at most 4 fits"),
        (8, {}, "shift_sizes.1", "one window covers the whole map of 8x8, so a shift has no effect; take 0"),
        (16, {"shift_sizes": [9]}, "shift_sizes.0", "shift 9 is not smaller than window 8; take 1"),
        (16, {"num_heads": 3}, "num_heads", "16 channels do not split evenly over 3 heads; take 2 or 4"),
        (16, {"num_heads": 1}, "num_heads", "2 partitions need at least 2 heads, not 1"),
    ],
    ids=str,
)
def test_incompatible_options_are_reported_with_numbers(resolution, options, location, message):
    with pytest.raises(IncompatibleError) as caught:
        ShiftedWindowAttention(16, resolution, **options)
    assert [(problem.location, problem.message) for problem in caught.value.problems] == [(location, message)]
