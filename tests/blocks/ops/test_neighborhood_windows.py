"""The windows of neighborhood attention by every kernel, against the papers' definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from blocks.ops.attention import attention, relative_bias
from blocks.ops.neighborhood_attention import neighborhood_attention
from blocks.ops.neighborhood_attention.reference import window_logits
from blocks.ops.neighborhood_attention.tiles import tile_axis
from registry import KernelError, recording, second_order
from tests.blocks.ops.examples import kernels_on_device

pytestmark = pytest.mark.usefixtures("default_device")

KERNELS = pytest.mark.parametrize("kernel", kernels_on_device(neighborhood_attention), ids=lambda kernel: kernel.name)


def draw(*shape: int, kernel_size: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator(torch.get_default_device()).manual_seed(seed)
    q, k, v = torch.randn(3, *shape, generator=generator)
    return q, k, v, torch.randn(shape[3], 2 * kernel_size - 1, 2 * kernel_size - 1, generator=generator)


@KERNELS
def test_a_window_of_the_size_of_the_map_gives_dense_attention(kernel):
    q, k, v, bias = draw(2, 5, 5, 3, 4, kernel_size=5)
    distance = torch.arange(5) - torch.arange(5)[:, None] + 4
    tokens = [x.flatten(1, 2).transpose(1, 2) for x in (q, k, v)]
    expected = attention(*tokens, bias=relative_bias(bias, distance, distance), kernel="reference")
    actual = kernel.run(q, k, v, kernel_size=5, bias=bias)
    torch.testing.assert_close(actual, expected.transpose(1, 2).unflatten(1, (5, 5)))


@KERNELS
def test_dilation_d_is_attention_among_every_dth_pixel(kernel):
    q, k, v, bias = draw(1, 11, 13, 2, 4, kernel_size=3)
    expected = torch.empty_like(q)
    for y in range(3):
        for x in range(3):
            group = (slice(None), slice(y, None, 3), slice(x, None, 3))
            expected[group] = kernel.run(q[group], k[group], v[group], kernel_size=3, bias=bias)
    torch.testing.assert_close(kernel.run(q, k, v, kernel_size=3, dilation=3, bias=bias), expected)


@KERNELS
def test_windows_at_the_border_are_shifted_inwards(kernel):
    column = torch.arange(9.0).expand(1, 7, 9)[..., None, None]
    same = torch.zeros_like(column)
    mean = kernel.run(same, same, column, kernel_size=5)[0, :, :, 0, 0]
    torch.testing.assert_close(mean, torch.tensor([2.0, 2, 2, 3, 4, 5, 6, 6, 6]).expand(7, 9))


@KERNELS
def test_the_bias_is_indexed_by_key_minus_query_in_units_of_the_dilation(kernel):
    column = torch.arange(12.0).expand(1, 6, 12)[..., None, None]
    same, bias = torch.zeros_like(column), torch.zeros(1, 5, 5)
    bias[:, :, 3] = 100.0  # one step to the right
    attended = kernel.run(same, same, column, kernel_size=3, dilation=2, bias=bias)[0, :, :, 0, 0]
    last_of_its_group = torch.tensor([6.0 + 2, 7 + 2])  # without a neighbour to the right: the mean of the window
    expected = torch.cat([torch.arange(2.0, 12.0), last_of_its_group])
    torch.testing.assert_close(attended, expected.expand(6, 12))


@KERNELS
@pytest.mark.parametrize(
    ("window", "message"),
    [
        (dict(kernel_size=9), "1 x 9 does not fit on 8 pixels"),
        (dict(kernel_size=3, dilation=3), "3 x 3 does not fit on 8 pixels"),
        (dict(kernel_size=4), "kernel_size 4 is even"),
    ],
)
def test_windows_that_do_not_fit_raise(kernel, window, message):
    q = torch.zeros(1, 12, 8, 1, 2)
    with pytest.raises(ValueError, match=message):
        kernel.run(q, q, q, **window)


def test_window_logits_have_one_entry_for_each_pixel_of_the_window():
    q, k, _, bias = draw(2, 6, 7, 3, 4, kernel_size=3)
    assert window_logits(q, k, kernel_size=3, dilation=2, bias=bias).shape == (2, 3, 6, 7, 9)


@pytest.mark.parametrize(
    ("side", "kernel_size", "name"), [(8, 7, "masked"), (33, 7, "tiled-math"), (25, 3, "tiled-math")]
)
def test_small_maps_are_masked_and_large_ones_tiled(side, kernel_size, name):
    q = torch.zeros(1, side, side, 1, 1)
    with recording() as ran, second_order():
        neighborhood_attention(q, q, q, kernel_size=kernel_size)
    assert ran == [("neighborhood_attention", name)]
    if name != "masked":
        with pytest.raises(KernelError, match=r"masked: .* at most \d+ px"):
            neighborhood_attention(q, q, q, kernel_size=kernel_size, kernel="masked")


def test_kernels_that_compare_all_pairs_of_pixels_refuse_maps_whose_masks_are_large():
    heads, most_bytes = 16, 16 * 2**20
    masked = next(kernel for kernel in neighborhood_attention.kernels() if kernel.name == "masked")
    for side in range(7, 2049):
        q = torch.empty(1, side, side, heads, 32, device="meta")
        if heads * side**4 * q.element_size() > most_bytes:
            assert masked.unsupported(q, q, q, kernel_size=7)


@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7, 9, 13])
def test_tiles_cover_an_axis_and_include_every_window(kernel_size):
    for length in range(kernel_size, 70):
        axis = tile_axis(length, kernel_size)
        first, last = axis.tile - axis.before, length + axis.before - (axis.num_tiles - 1) * axis.tile
        assert axis.padded >= length
        assert axis.num_tiles == 1 or min(first, last) > kernel_size // 2


def test_a_dynamic_graph_serves_all_batches_and_map_sizes():
    torch._dynamo.reset()
    attend, counter = neighborhood_attention.bind(), CompileCounterWithBackend("eager")
    compiled = torch.compile(lambda q: attend(q, q, q, kernel_size=3), fullgraph=True, dynamic=True, backend=counter)
    for batch, height, width in ((3, 24, 25), (4, 30, 41), (5, 22, 50)):
        q = torch.randn(
            batch, height, width, 2, 16, generator=torch.Generator(torch.get_default_device()).manual_seed(batch)
        )
        torch.testing.assert_close(compiled(q), attend(q, q, q, kernel_size=3))
    assert counter.frame_count == 1
