"""Neighborhood attention in plain PyTorch: gather every window, then attend.

NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143, section 3.1.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.ops.attention import softmax
from blocks.ops.neighborhood_attention.windows import neighbors
from registry import Kernel


def window_logits(
    q: Float[Tensor, "b h w n d"],
    k: Float[Tensor, "b h w n d"],
    *,
    kernel_size: int,
    dilation: int = 1,
    bias: Float[Tensor, "n r r"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "b n h w kk"]:
    """The logits of each head and pixel over its K*K window, row by row."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    logits = torch.einsum("byxnd,byxknd->bnyxk", q * scale, gather(k, kernel_size, dilation))
    if bias is None:
        return logits
    height, width = q.shape[1:3]
    _, rows = neighbors(height, kernel_size, dilation, q.device)
    _, columns = neighbors(width, kernel_size, dilation, q.device)
    return logits + bias[:, rows[:, None, :, None], columns[None, :, None, :]].flatten(-2)


def gather(x: Float[Tensor, "b h w n d"], kernel_size: int, dilation: int) -> Float[Tensor, "b h w kk n d"]:
    """The window of each pixel."""
    height, width = x.shape[1:3]
    rows, _ = neighbors(height, kernel_size, dilation, x.device)
    columns, _ = neighbors(width, kernel_size, dilation, x.device)
    return x[:, rows[:, None, :, None], columns[None, :, None, :]].flatten(3, 4)


class Reference(Kernel):
    """Gathers every window; the other kernels have to agree with this one."""

    op, name = "neighborhood_attention", "reference"
    second_order, forward_ad = True, True

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
        logits = window_logits(q, k, kernel_size=kernel_size, dilation=dilation, bias=bias, scale=scale)
        return torch.einsum("bnyxk,byxknd->byxnd", softmax(logits, v.dtype), gather(v, kernel_size, dilation))
