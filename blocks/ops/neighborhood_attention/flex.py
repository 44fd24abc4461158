"""Neighborhood attention by FlexAttention: PyTorch writes a fused kernel from a rule of who sees whom.

Dong et al. 2024, https://arxiv.org/abs/2412.05496; the rule is that of NAT, Hassani et al. 2022,
https://arxiv.org/abs/2204.07143, section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from blocks.ops.neighborhood_attention.tiles import check
from blocks.ops.neighborhood_attention.windows import window_starts
from registry import Kernel

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
SMALLEST_HEAD = 16
Rule = Callable[..., Tensor]


def window_rules(
    height: int, width: int, kernel_size: int, dilation: int, device: torch.device, bias: Tensor | None = None
) -> tuple[Rule, Rule | None]:
    """Whether a query sees a key, and the logit with its bias; both by number, pixels row by row."""
    (rows, row_places, row_starts), (columns, column_places, column_starts) = (
        window_starts(length, kernel_size, dilation, device) for length in (height, width)
    )

    def sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        qy, qx, ky, kx = query // width, query % width, key // width, key % width
        down, across = row_places[ky] - row_starts[qy], column_places[kx] - column_starts[qx]
        same_group = (rows[qy] == rows[ky]) & (columns[qx] == columns[kx])
        return same_group & (down >= 0) & (down < kernel_size) & (across >= 0) & (across < kernel_size)

    if bias is None:
        return sees, None
    table, last = bias, 2 * kernel_size - 2

    def add_bias(logit: Tensor, _batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        down = row_places[key // width] - row_places[query // width] + kernel_size - 1
        across = column_places[key % width] - column_places[query % width] + kernel_size - 1
        return logit + table[head, down.clamp(0, last), across.clamp(0, last)]

    return sees, add_bias


class Flex(Kernel):
    """FlexAttention, compiled once for each shape; has no second derivative."""

    op = "neighborhood_attention"
    name = "flex"
    priority = 50

    def __init__(self) -> None:
        self.masks: dict[tuple[Any, ...], BlockMask] = {}
        self.attend: Callable[..., Any] | None = None

    def unavailable(self) -> str | None:
        return None if torch.cuda.is_available() else "FlexAttention is fused on CUDA only, and there is none here"

    def unsupported(self, q: Tensor, k: Tensor, v: Tensor, *, kernel_size: int, **_: object) -> list[str]:
        reasons, head_dim = [], q.shape[-1]
        if q.device.type != "cuda":
            reasons.append(f"runs on CUDA, not on {q.device.type}")
        if head_dim < SMALLEST_HEAD or head_dim & (head_dim - 1):
            reasons.append(f"heads should have a power of two of channels, at least {SMALLEST_HEAD}, not {head_dim}")
        if not (q.dtype == k.dtype == v.dtype and q.dtype in DTYPES):
            said = "q, k and v should have one dtype of float32, float16 and bfloat16"
            reasons.append(f"{said}, not {q.dtype}, {k.dtype} and {v.dtype}")
        if torch.compiler.is_compiling():
            reasons.append("compiles by itself, once for each shape, and is not traced")
        return reasons

    def run(
        self,
        q: Float[Tensor, "b h w n d"],
        k: Float[Tensor, "b h w n d"],
        v: Float[Tensor, "b h w n d"],
        *,
        kernel_size: int,
        dilation: int = 1,
        bias: Float[Tensor, "n r r"] | None = None,
        scale: float | None = None,
    ) -> Float[Tensor, "b h w n d"]:
        height, width = q.shape[1:3]
        check(height, width, kernel_size, dilation)
        sees, add_bias = window_rules(height, width, kernel_size, dilation, q.device, bias)
        call = (height, width, kernel_size, dilation, q.device)
        if call not in self.masks:
            pixels = height * width
            self.masks[call] = create_block_mask(sees, None, None, pixels, pixels, device=str(q.device))
        if self.attend is None:
            self.attend = torch.compile(flex_attention, dynamic=False)
        q, k, v = (x.flatten(1, 2).transpose(1, 2) for x in (q, k, v))  # b heads pixels head_dim
        mixed = self.attend(q, k, v, score_mod=add_bias, block_mask=self.masks[call], scale=scale)
        y: Tensor = mixed.transpose(1, 2).unflatten(1, (height, width))
        return y
