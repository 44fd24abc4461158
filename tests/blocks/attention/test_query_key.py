"""Normalisation and rotation of queries and keys, in every kind of attention that has them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from blocks.attention.dense import DenseAttention
from blocks.attention.hydra import HydraNA
from blocks.attention.l2 import L2Attention
from blocks.attention.linformer import Linformer
from blocks.attention.neighborhood import NeighborhoodAttention
from blocks.attention.query_key import QueryKey, rotate
from blocks.attention.shifted_window import ShiftedWindowAttention
from registry import IncompatibleError

KINDS: list[tuple[Any, dict[str, Any]]] = [
    (DenseAttention, {}),
    (HydraNA, {"kernel_sizes": [3], "dilations": [1, 2], "relative_position_bias": False}),
    (NeighborhoodAttention, {"kernel_size": 3, "relative_position_bias": False}),
    (ShiftedWindowAttention, {"window_size": 3, "shift_sizes": [0, 1], "relative_position_bias": False}),
]


def test_the_product_of_a_query_and_a_key_depends_on_their_distance_alone() -> None:
    q, k = torch.randn(2, 1, 1, 1, 1, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    q, k = (rotate(each.expand(1, 5, 7, 1, 16))[0, :, :, 0] for each in (q, k))
    products = torch.einsum("rcd,ijd->rcij", q, k)
    torch.testing.assert_close(products[1, 2, 3, 6], products[0, 1, 2, 5])
    torch.testing.assert_close(products[4, 4, 2, 0], products[3, 6, 1, 2])
    assert (products[0, 0, 1, 0] - products[0, 0, 0, 1]).abs() > 1e-3  # rows and columns differ
    torch.testing.assert_close(q.norm(dim=-1), torch.full_like(q[..., 0], q[0, 0].norm()))


def test_prefix_tokens_are_not_rotated() -> None:
    qkv = torch.randn(2, 1, 11, 3, 4, 8)
    rotated = QueryKey(8, qk_norm=False, rotary=True, prefix_tokens=2)(qkv)
    assert torch.equal(rotated[:, :, :2], qkv[:, :, :2])
    grid = QueryKey(8, qk_norm=False, rotary=True)(qkv[:, :, 2:].unflatten(2, (3, 3))[:, 0])
    torch.testing.assert_close(rotated[:, 0, 2:], grid.flatten(1, 2))
    assert torch.equal(rotated[..., 2, :, :], qkv[..., 2, :, :])  # values


@pytest.mark.parametrize(("block", "options"), KINDS, ids=lambda value: getattr(value, "kind", None))
def test_rotation_makes_attention_depend_on_positions(block: Any, options: dict[str, Any]) -> None:
    """Without it, and without a bias, transposing the map transposes the result."""
    torch.manual_seed(0)
    x = torch.randn(1, 6, 6, 16)
    plain, rotary = (block(16, 6, num_heads=2, rotary=rotary, **options) for rotary in (False, True))
    torch.nn.init.normal_(plain.qkv.weight)
    torch.nn.init.normal_(plain.proj.weight)
    rotary.load_state_dict(plain.state_dict())
    torch.testing.assert_close(plain(x.transpose(1, 2)).transpose(1, 2), plain(x), rtol=1e-4, atol=1e-4)
    assert (rotary(x.transpose(1, 2)).transpose(1, 2) - rotary(x)).abs().max() > 0.1
    assert (rotary(x) - plain(x)).abs().max() > 0.1


@pytest.mark.parametrize("block", [DenseAttention, HydraNA, ShiftedWindowAttention, Linformer])
def test_with_normalisation_the_size_of_queries_and_keys_has_no_effect(block: Any) -> None:
    torch.manual_seed(0)
    x, attention = torch.randn(1, 8, 8, 16), block(16, 8, num_heads=2, qk_norm=True, **small(block))
    expected = attention(x)
    with torch.no_grad():
        attention.qkv.weight[:32] *= 3
    torch.testing.assert_close(attention(x), expected, rtol=1e-3, atol=1e-5)


def small(block: Any) -> dict[str, Any]:
    options = {HydraNA: {"kernel_sizes": [3], "dilations": [1]}, ShiftedWindowAttention: {"shift_sizes": [0]}}
    return options.get(block, {})


def test_channels_of_a_head_divide_by_4() -> None:
    for block in (DenseAttention, L2Attention):
        with pytest.raises(IncompatibleError, match="a head has 6"):
            block(12, **({"resolution": 4} if block is DenseAttention else {}), num_heads=2, rotary=True)


def test_prefix_tokens_leave_a_square_grid() -> None:
    with pytest.raises(IncompatibleError, match="1 leaves no square grid of a map of 1x7"):
        DenseAttention(16, (1, 7), num_heads=2, rotary=True, prefix_tokens=1)
