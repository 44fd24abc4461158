"""Linformer: keys and values are projected to a fixed number of tokens, so that cost is linear in the pixels.

Linformer, Wang et al. 2020, https://arxiv.org/abs/2006.04768, section 4; in a generator: Styleformer, Park and Kim
2021, https://arxiv.org/abs/2106.07023.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from blocks.attention.heads import attention_map, head_problems
from blocks.attention.query_key import query_key
from blocks.common.linear import linear
from blocks.common.shapes import check_nhwc, check_resolution
from blocks.families import Attention, Resolution
from blocks.ops.attention import attention
from registry import IncompatibleError


class TokenProjection(nn.Module):
    """Learned projection of n tokens to `rank` tokens, the same for all channels: E x with E [rank,n].

    Args:
        num_tokens: Number n of input tokens.
        rank: Number of output tokens.
    """

    def __init__(self, num_tokens: int, rank: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(num_tokens)
        self.weight = nn.Parameter(nn.init.uniform_(torch.empty(rank, num_tokens), -bound, bound))

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b rank c"]:
        return self.weight.expand(x.shape[0], -1, -1) @ x


class Linformer(Attention, kind="linformer"):
    """Multi-head self-attention in which each pixel attends to `rank` learned linear combinations of all pixels.

    The token projections are made for one resolution.

    Args:
        dim: Channels C of the map; heads share them evenly.
        resolution: Height and width of the map, in pixels.
        num_heads: Number of heads.
        rank: Number of tokens that keys and values are projected to, by the same weights for all heads.
        share_kv: Whether keys and values share one token projection.
        qkv_bias: Whether queries, keys and values have a bias.
        qk_norm: Whether queries and keys are normalised (RMSNorm over a head, with a learned scale).
        rotary: Whether queries, and keys before their projection, are rotated by row and column (2-D rotary position
            embedding).
        scale: Factor of the logits q.k; null for head_dim ** -0.5.
        equalized: Whether the linear layers use equalised learning rate, as in the ViTGAN authors' code.
        kernel: Kernel of the attention op; "auto" takes the best one that supports each call, "tune" the fastest,
            measured once per machine.

    Raises:
        IncompatibleError: `dim` does not divide by `num_heads`.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"num_heads": 4, "rank": 10}},
        {"spec": {"num_heads": 4, "rank": 10, "qk_norm": True, "rotary": True}},
        {"spec": {"num_heads": 2, "rank": 5, "share_kv": False, "qkv_bias": False, "scale": 0.5, "equalized": True}},
    )

    def __init__(
        self,
        dim: int,
        resolution: Resolution,
        *,
        num_heads: PositiveInt = 8,
        rank: PositiveInt = 256,
        share_kv: bool = True,
        qkv_bias: bool = True,
        qk_norm: bool = False,
        rotary: bool = False,
        scale: PositiveFloat | None = None,
        equalized: bool = False,
        kernel: str = "auto",
    ) -> None:
        super().__init__()
        if problems := head_problems(dim, num_heads):
            raise IncompatibleError(problems)
        num_tokens = resolution[0] * resolution[1]
        self.dim, self.resolution = dim, resolution
        self.num_heads, self.scale = num_heads, scale
        self.attend = attention.bind(kernel)
        self.qkv = linear(dim, 3 * dim, bias=qkv_bias, equalized=equalized)
        self.query_key = query_key(dim // num_heads, qk_norm=qk_norm, rotary=rotary)
        self.proj_k = TokenProjection(num_tokens, rank)
        self.proj_v = None if share_kv else TokenProjection(num_tokens, rank)
        self.proj = linear(dim, dim, equalized=equalized)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        check_nhwc(self, x, self.dim)
        check_resolution(self, x.shape[1], x.shape[2], self.resolution)
        qkv = self.projected(x).flatten(3).flatten(1, 2)  # b pixels 3c
        q, kv = torch.tensor_split(qkv, [x.shape[-1]], dim=-1)
        if self.proj_v is None:
            k, v = self.proj_k(kv).chunk(2, dim=-1)
        else:
            k, v = kv.chunk(2, dim=-1)
            k, v = self.proj_k(k), self.proj_v(v)
        q, k, v = (torch.unflatten(each, -1, (self.num_heads, -1)).transpose(1, 2) for each in (q, k, v))
        attended = self.attend(q, k, v, scale=self.scale).transpose(1, 2).flatten(-2)
        y: Tensor = self.proj(attended.unflatten(1, x.shape[1:3]))
        return y

    def key_projection(self) -> Float[Tensor, "rank n"]:
        """Weights of the pixels in each projected value, for attention maps."""
        return (self.proj_v or self.proj_k).weight

    def attention_map(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b heads h w"]:
        """Logits of each head's mean query against each pixel's key before its projection, for visualisation."""
        return attention_map(self.projected(x), self.scale)

    def projected(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w 3 n d"]:
        """Queries, keys and values, normalised and rotated where the options say so."""
        qkv: Tensor = self.query_key(self.qkv(x).unflatten(-1, (3, self.num_heads, -1)))
        return qkv
