"""Shared parts of multi-head attention blocks: checks of the head count, position tables, attention maps."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from blocks.common.divisors import nearest_divisors
from blocks.common.linear import STD
from registry import Problem


def head_problems(dim: int, num_heads: int, num_partitions: int = 1) -> list[Problem]:
    """Problems if `dim` does not divide over the heads, or if there are fewer heads than partitions of them."""
    problems = []
    if dim % num_heads:
        fact = f"{dim} channels do not split evenly over {num_heads} heads"
        problems.append(Problem(("num_heads",), f"{fact}; take {nearest_divisors(dim, num_heads)}"))
    if num_heads < num_partitions:
        message = f"{num_partitions} partitions need at least {num_partitions} heads, not {num_heads}"
        problems.append(Problem(("num_heads",), message))
    return problems


def split_heads(num_heads: int, num_partitions: int) -> tuple[int, ...]:
    """Number of heads of each partition, as even as possible; the last partitions get the remaining heads."""
    each, left = divmod(num_heads, num_partitions)
    return (each,) * (num_partitions - left) + (each + 1,) * left


def relative_position_table(num_heads: int, height: int, width: int) -> nn.Parameter:
    """A learned bias per head and relative position in a window: [heads, 2 height - 1, 2 width - 1]."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(num_heads, 2 * height - 1, 2 * width - 1), std=STD))


def attention_map(qkv: Float[Tensor, "b h w 3 n d"], scale: float | None) -> Float[Tensor, "b n h w"]:
    """Logits of each head's mean query against the key of each pixel, without softmax."""
    q, k, _ = qkv.unbind(dim=-3)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return torch.einsum("bnd,bhwnd->bnhw", scale * q.mean((1, 2)), k)
