"""Dense attention: position bias, options, compilation and errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from blocks.attention.dense import DenseAttention
from blocks.ops.attention import attention
from registry import IncompatibleError

AVAILABLE = [kernel.name for kernel in attention.kernels() if kernel.unavailable() is None]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_position_bias_is_indexed_by_key_minus_query_position():
    block = DenseAttention(4, (2, 3), num_heads=2, relative_position_bias=True)
    table = torch.arange(2 * 3 * 5.0).view(2, 3, 5)
    block.rpb.data.copy_(table)
    bias = block.position_bias(2, 3).view(2, 2, 3, 2, 3)
    for y, x, v, u in torch.cartesian_prod(*map(torch.arange, (2, 3, 2, 3))).tolist():
        assert torch.equal(bias[:, y, x, v, u], table[:, v - y + 1, u - x + 2])


def test_without_position_bias_attention_is_permutation_equivariant():
    block = DenseAttention(12, (3, 5), num_heads=4, qkv_bias=False)
    x = torch.randn(2, 3, 5, 12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(block(x.flip(1, 2)), block(x).flip(1, 2))
    assert block.qkv.bias is None


def test_head_dim_temperature_and_gain_follow_the_formula():
    block, x = (
        DenseAttention(6, (3, 4), num_heads=2, head_dim=5, temperature=True, gain=0.3).double(),
        normal(2, 3, 4, 6),
    )
    torch.nn.init.constant_(block.temperature, 1.7)
    q, k, v = block.qkv(x).flatten(1, 2).unflatten(-1, (3, 2, 5)).permute(2, 0, 3, 1, 4)
    attended = (1.7 / math.sqrt(5) * q @ k.mT).softmax(-1) @ v
    expected = block.proj(0.3 * attended.transpose(1, 2).flatten(-2))
    torch.testing.assert_close(block(x).flatten(1, 2), expected)


@pytest.mark.parametrize("kernel", ["auto", "tune", *AVAILABLE])
def test_every_kernel_compiles(kernel):
    bias = kernel != "compiled"  # which takes none
    block = DenseAttention(32, (3, 4), num_heads=2, relative_position_bias=bias, kernel=kernel).requires_grad_(False)
    x = torch.randn(2, 3, 4, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.compile(block, fullgraph=True, backend="aot_eager")(x), block(x))


def test_incompatible_heads_and_unknown_kernels_are_reported():
    with pytest.raises(IncompatibleError, match=r"num_heads +20 channels do not split evenly over 8 heads"):
        DenseAttention(20, 8)
    with pytest.raises(IncompatibleError, match=r"kernel +attention has no kernel 'spda'; did you mean 'sdpa'"):
        DenseAttention(16, 8, kernel="spda")
