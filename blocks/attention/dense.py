"""Self-attention over the whole map.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2.2; the bias over relative positions:
Swin, Liu et al. 2021, https://arxiv.org/abs/2103.14030, section 3.2.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from blocks.attention.heads import attention_map, misfits_of_heads, relative_position_table
from blocks.families import Attention, Resolution
from blocks.kernels.attention import attention, relative_bias
from blocks.linear import linear
from registry import Misfit


class DenseAttention(Attention, kind="dense"):
    """Multi-head self-attention: each pixel attends to the whole map.

    Args:
        dim: Channels C of the map; heads share them evenly.
        resolution: Height and width of the map, in pixels.
        num_heads: Number of heads.
        qkv_bias: Whether queries, keys and values have a bias.
        relative_position_bias: Whether each head learns a bias for each distance in rows and columns.
        scale: What queries are multiplied by; null for head_dim ** -0.5.
        equalized: Whether the linear maps have equalised learning rate, as in the ViTGAN authors' code.
        kernel: Kernel of attention; "auto" takes the best that can serve each call, "tune" the quickest,
            measured once for this machine and remembered.

    Raises:
        Misfit: Channels do not divide over the heads.
    """

    examples: ClassVar = (
        {"spec": {"num_heads": 4, "relative_position_bias": True}},
        {"spec": {"num_heads": 2, "qkv_bias": False, "scale": 0.5, "equalized": True}},
    )

    def __init__(
        self,
        dim: int,
        resolution: Resolution,
        *,
        num_heads: PositiveInt = 8,
        qkv_bias: bool = True,
        relative_position_bias: bool = False,
        scale: PositiveFloat | None = None,
        equalized: bool = False,
        kernel: str = "auto",
    ) -> None:
        super().__init__()
        if problems := misfits_of_heads(dim, num_heads):
            raise Misfit(problems)
        self.num_heads = num_heads
        self.scale = scale
        self.attend = attention.bind(kernel)
        self.qkv = linear(dim, 3 * dim, bias=qkv_bias, equalized=equalized)
        self.rpb = relative_position_table(num_heads, *resolution) if relative_position_bias else None
        self.proj = linear(dim, dim, equalized=equalized)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        resolution = x.shape[1:3]
        qkv = self.qkv(x).flatten(1, 2).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each b heads pixels head_dim
        mixed = self.attend(q, k, v, bias=self.position_bias(*resolution), scale=self.scale)
        y: Tensor = self.proj(mixed.transpose(1, 2).flatten(-2).unflatten(1, resolution))
        return y

    def position_bias(self, height: int, width: int) -> Float[Tensor, "heads n n"] | None:
        """The bias of every pixel on every other; a map smaller than `resolution` uses the middle of the table."""
        if self.rpb is None:
            return None
        _, rows, columns = self.rpb.shape
        device = self.rpb.device
        return relative_bias(self.rpb, distances(height, rows, device), distances(width, columns, device))

    def attention_map(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b heads h w"]:
        """How well each pixel's key matches the mean query, per head: a picture of what the heads look for."""
        return attention_map(self.qkv(x).unflatten(-1, (3, self.num_heads, -1)), self.scale)


def distances(length: int, entries: int, device: torch.device) -> Int[Tensor, "l l"]:
    """How far each pixel of an axis is from each other, as places in a table whose middle is distance zero."""
    pixel = torch.arange(length, device=device)
    return pixel - pixel[:, None] + entries // 2
