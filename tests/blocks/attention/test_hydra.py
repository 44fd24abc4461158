"""Hydra neighborhood attention: its partitions, compilation and errors."""

from __future__ import annotations

import pytest
import torch

from blocks.attention.hydra import HydraNA
from blocks.attention.neighborhood import NeighborhoodAttention
from blocks.ops.neighborhood_attention import neighborhood_attention
from registry import IncompatibleError

KERNELS = [kernel.name for kernel in neighborhood_attention.kernels() if kernel.unavailable() is None]
COMPILED = sorted({"reference", "masked", "tiled"} & {*KERNELS})


@pytest.mark.parametrize("kernel", COMPILED)
def test_kernels_compile_and_run_on_the_meta_device(kernel):
    block = HydraNA(8, (6, 7), num_heads=2, kernel_sizes=(3,), dilations=(1, 2), kernel=kernel)
    x = torch.randn(2, 6, 7, 8, generator=torch.Generator().manual_seed(0))
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), block(x))
    assert block.to("meta")(x.to("meta")).shape == x.shape


def test_partitions_with_equal_windows_equal_one_partition():
    hydra = HydraNA(12, 8, num_heads=4, kernel_sizes=(3, 3, 3), dilations=(2,))
    plain = NeighborhoodAttention(12, 8, num_heads=4, kernel_size=3, dilation=2)
    assert [table.shape[0] for table in hydra.rpb] == [1, 1, 2]
    state = hydra.state_dict()
    tables = torch.cat([state.pop(f"rpb.{index}") for index in range(3)])
    plain.load_state_dict(state | {"rpb.0": tables})
    x = torch.randn(2, 8, 8, 12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(hydra(x), plain(x))


@pytest.mark.parametrize(
    ("resolution", "options", "problems"),
    [
        (
            32,
            dict(num_heads=8, dilations=(1, 8)),
            {
                "num_heads": "20 channels do not split evenly over 8 heads; take 5 or 10",
                "dilations.1": "8 x window 7 > 32 px; at most 4 fits",
            },
        ),
        (
            (32, 12),
            dict(num_heads=2, kernel_sizes=(13,), dilations=(1, 2, 3)),
            {
                "num_heads": "3 partitions need at least 3 heads, not 2",
                "kernel_sizes.0": "window 13 > 12 px; at most 11 fits",
            },
        ),
        (
            32,
            dict(num_heads=4, kernel_sizes=(3, 5), dilations=(1, 1, 1)),
            {"dilations": "3 dilations for 2 kernel sizes; give one for each window, or one for all"},
        ),
    ],
)
def test_all_incompatible_options_are_reported_at_once(resolution, options, problems):
    with pytest.raises(IncompatibleError) as caught:
        HydraNA(20, resolution, **options)
    assert {problem.location: problem.message for problem in caught.value.problems} == problems
