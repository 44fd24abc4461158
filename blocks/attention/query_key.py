"""What is done to queries and keys before attention: normalisation, and rotation by position.

QK normalisation: Henry et al. 2020, https://arxiv.org/abs/2010.04245; with RMSNorm and a learned scale in GAT,
https://arxiv.org/abs/2509.24935. Rotary position embedding: RoFormer, Su et al. 2021,
https://arxiv.org/abs/2104.09864; on two axes: EVA-02, Fang et al. 2023, https://arxiv.org/abs/2303.11331.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.autocast import at_least_float32
from registry import incompatible

THETA = 10_000.0


class QueryKey(nn.Module):
    """Normalises queries and keys over the channels of a head, then rotates them: qkv [B,H,W,3,n,D] -> the same shape.

    Args:
        head_dim: Channels D of a head.
        qk_norm: Whether queries and keys get an RMSNorm each, with a learned scale that all heads share.
        rotary: Whether they are rotated by their row (first half of D) and column (second half).
        prefix_tokens: First tokens of a map of one row that are not rotated; the others are a square grid. 0 if the map
            itself is the grid.

    Raises:
        IncompatibleError: The channels of a head do not divide by 4.
    """

    def __init__(self, head_dim: int, *, qk_norm: bool, rotary: bool, prefix_tokens: int = 0) -> None:
        super().__init__()
        if rotary:
            check_rotary(head_dim)
        self.q_norm = nn.RMSNorm(head_dim) if qk_norm else None
        self.k_norm = nn.RMSNorm(head_dim) if qk_norm else None
        self.rotary, self.prefix_tokens = rotary, prefix_tokens

    def forward(self, qkv: Float[Tensor, "b h w 3 n d"]) -> Float[Tensor, "b h w 3 n d"]:
        q, k, v = qkv.unbind(dim=-3)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = normalize(q, self.q_norm.weight), normalize(k, self.k_norm.weight)
        if self.rotary:
            q, k = self.rotate(q), self.rotate(k)
        return torch.stack([q, k, v], dim=-3)

    def rotate(self, x: Float[Tensor, "b h w n d"]) -> Float[Tensor, "b h w n d"]:
        """Queries or keys, rotated by their positions."""
        if not self.prefix_tokens:
            return rotate(x)
        prefix, tokens = x[:, :, : self.prefix_tokens], x[:, :, self.prefix_tokens :]
        side = math.isqrt(tokens.shape[2])
        return torch.cat([prefix, rotate(torch.unflatten(tokens, 2, (side, side))[:, 0]).flatten(1, 2)[:, None]], dim=2)


def normalize(x: Float[Tensor, "b h w n d"], weight: Float[Tensor, " d"]) -> Float[Tensor, "b h w n d"]:
    """RMSNorm over the channels of each head, at least in float32; eps is the smallest step of the dtype."""
    wide = at_least_float32(x)
    return F.rms_norm(wide, weight.shape, weight.to(wide.dtype)).to(x.dtype)


def query_key(
    head_dim: int, *, qk_norm: bool, rotary: bool, prefix_tokens: int = 0, resolution: tuple[int, int] | None = None
) -> nn.Module:
    """`QueryKey`, or the identity if there is nothing to do.

    Raises:
        IncompatibleError: With `prefix_tokens`, the map of `resolution` is not one row of them and a square grid.
    """
    if rotary and prefix_tokens and resolution is not None:
        height, width = resolution
        num_tokens = width - prefix_tokens
        if height != 1 or num_tokens < 0 or math.isqrt(num_tokens) ** 2 != num_tokens:
            fact = f"{prefix_tokens} leaves no square grid of a map of {height}x{width}"
            raise incompatible("prefix_tokens", f"{fact}; the map has to be one row of them and of n x n tokens")
    if not (qk_norm or rotary):
        return nn.Identity()
    return QueryKey(head_dim, qk_norm=qk_norm, rotary=rotary, prefix_tokens=prefix_tokens)


def check_rotary(head_dim: int) -> None:
    """Raise an error if heads of so many channels cannot be rotated.

    Raises:
        IncompatibleError: The channels do not divide by 4.
    """
    if head_dim % 4:
        raise incompatible("rotary", f"rotates 4 channels of a head together, and a head has {head_dim}")


def rotate_heads(x: Float[Tensor, "b n p d"], height: int, width: int) -> Float[Tensor, "b n p d"]:
    """`rotate` of queries or keys whose pixels are one axis."""
    pixels = torch.unflatten(x.transpose(1, 2), 1, (height, width))
    return rotate(pixels).flatten(1, 2).transpose(1, 2)


def rotate(x: Float[Tensor, "b h w n d"], theta: float = THETA) -> Float[Tensor, "b h w n d"]:
    """Rotates neighbouring channels in pairs: the pairs of the first half of D by the row, of the second by the column.

    Args:
        x: Queries or keys; pixel (r, c) is at x[:, r, c].
        theta: Pair i of a half turns by theta^(-4i/D) per row or column.
    """
    height, width = x.shape[1:3]
    wide = at_least_float32(x)
    cos, sin = rotary_tables(height, width, x.shape[-1], theta, wide)
    first, second = torch.unflatten(wide, -1, (-1, 2)).unbind(dim=-1)  # b h w n d/2
    rotated = torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return rotated.flatten(-2).to(x.dtype)


def rotary_tables(
    height: int, width: int, head_dim: int, theta: float, like: Tensor
) -> tuple[Float[Tensor, "h w 1 d"], Float[Tensor, "h w 1 d"]]:
    """Cosine and sine of the angle of each pair of channels at each pixel."""
    pairs = torch.arange(head_dim // 4, device=like.device, dtype=like.dtype)
    speeds = theta ** (pairs * (-4 / head_dim))
    of_row, of_column = (
        torch.arange(length, device=like.device, dtype=like.dtype)[:, None] * speeds for length in (height, width)
    )
    rows = of_row[:, None].expand(height, width, -1)
    columns = of_column[None].expand(height, width, -1)
    angles = torch.cat([rows, columns], dim=-1)[:, :, None]
    return angles.cos(), angles.sin()
