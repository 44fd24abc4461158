"""Neighborhood attention by FlexAttention, which generates a fused kernel from a function that masks pairs of pixels.

Dong et al. 2024, https://arxiv.org/abs/2412.05496; the windows: NAT, Hassani et al. 2022,
https://arxiv.org/abs/2204.07143, section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from blocks.ops.neighborhood_attention.tiles import check_map
from blocks.ops.neighborhood_attention.windows import window_starts
from registry import Kernel

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
SMALLEST_HEAD = 16
Modification = Callable[..., Tensor]


def window_modifications(
    height: int, width: int, kernel_size: int, dilation: int, device: torch.device, bias: Tensor | None = None
) -> tuple[Modification, Modification | None]:
    """FlexAttention's mask_mod and score_mod; pixels are numbered row by row."""
    (row_group, row_index, row_start), (column_group, column_index, column_start) = (
        window_starts(length, kernel_size, dilation, device) for length in (height, width)
    )

    def is_visible(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        qy, qx, ky, kx = query // width, query % width, key // width, key % width
        down, across = row_index[ky] - row_start[qy], column_index[kx] - column_start[qx]
        same_group = (row_group[qy] == row_group[ky]) & (column_group[qx] == column_group[kx])
        return same_group & (down >= 0) & (down < kernel_size) & (across >= 0) & (across < kernel_size)

    if bias is None:
        return is_visible, None
    table, last = bias, 2 * kernel_size - 2

    def add_bias(logit: Tensor, _batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        down = row_index[key // width] - row_index[query // width] + kernel_size - 1
        across = column_index[key % width] - column_index[query % width] + kernel_size - 1
        return logit + table[head, down.clamp(0, last), across.clamp(0, last)]

    return is_visible, add_bias


class Flex(Kernel):
    """FlexAttention, compiled once for each shape; no second derivative."""

    op, name, priority = "neighborhood_attention", "flex", 50

    def __init__(self) -> None:
        self.masks: dict[tuple[Any, ...], BlockMask] = {}
        self.attend: Callable[..., Any] | None = None

    def unavailable(self) -> str | None:
        return None if torch.cuda.is_available() else "FlexAttention is fused on CUDA only, and there is none here"

    def unsupported(self, q: Tensor, k: Tensor, v: Tensor, *, kernel_size: int, **_: object) -> list[str]:
        reasons, head_dim = [], q.shape[-1]
        if q.device.type != "cuda":
            reasons.append(f"runs on CUDA only, not on {q.device.type}")
        if head_dim < SMALLEST_HEAD or head_dim & (head_dim - 1):
            reasons.append(f"needs a head size that is a power of two and at least {SMALLEST_HEAD}, not {head_dim}")
        if not (q.dtype == k.dtype == v.dtype and q.dtype in DTYPES):
            dtypes = f"{q.dtype}, {k.dtype} and {v.dtype}"
            reasons.append(f"q, k and v should have one dtype of float32, float16 and bfloat16, not {dtypes}")
        if torch.compiler.is_compiling():
            reasons.append("compiles itself, once for each shape, and cannot be traced by torch.compile")
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
        check_map(height, width, kernel_size, dilation)
        mask_mod, score_mod = window_modifications(height, width, kernel_size, dilation, q.device, bias)
        key = (height, width, kernel_size, dilation, q.device)
        if key not in self.masks:
            pixels = height * width
            self.masks[key] = create_block_mask(mask_mod, None, None, pixels, pixels, device=str(q.device))
        if self.attend is None:
            self.attend = torch.compile(flex_attention, dynamic=False)
        q, k, v = (x.flatten(1, 2).transpose(1, 2) for x in (q, k, v))  # b heads pixels head_dim
        y: Tensor = self.attend(q, k, v, score_mod=score_mod, block_mask=self.masks[key], scale=scale)
        return torch.unflatten(y.transpose(1, 2), 1, (height, width))
