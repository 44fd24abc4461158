"""Cross-attention: each pixel attends to the tokens of a caption.

GigaGAN, Kang et al. 2023, https://arxiv.org/abs/2303.05511, section 3.2.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.attention.heads import head_problems
from blocks.common.linear import linear
from blocks.common.shapes import check_nchw, check_styles
from blocks.condition.tokens import token_mask
from blocks.families import Layer, Norm, to_nchw, to_nhwc
from blocks.norm.layer_scale import LayerScale
from blocks.ops.attention import attention
from registry import IncompatibleError, Slot


class CrossAttention(Layer, kind="cross-attention"):
    """y = x + proj(attention(norm(x), tokens)); queries are pixels, keys and values are the caption's tokens.

    It needs a condition with tokens. In a generator the tokens are those of the mapping `text-mapping`, in a
    discriminator those of the condition. Zero vectors are masked; a caption without tokens has no effect but the bias.

    Args:
        dim: Channels C of the map.
        style_dim: Features S of a token.
        num_heads: Heads that share the channels evenly.
        norm: The norm of the map before the queries; one without styles.
        layer_scale: Initial value of a learned gain per channel on the branch; null for none.
        kernel: Kernel of the attention op; "auto" takes the best one that supports each call, "tune" the fastest.

    Raises:
        IncompatibleError: `dim` does not divide by `num_heads`, or the norm needs styles.
    """

    takes_tokens = True
    missing_context = {"style_dim": "the tokens of captions; set tokens: true in a condition open-clip-text"}
    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"num_heads": 2, "norm": "rms-norm"}},
        {"spec": {"num_heads": 4, "layer_scale": 0.1}},
    )

    def __init__(
        self,
        dim: int,
        style_dim: int,
        *,
        num_heads: PositiveInt = 8,
        norm: Slot[Norm] = "layer-norm",
        layer_scale: float | None = None,
        kernel: str = "auto",
    ) -> None:
        super().__init__()
        if problems := head_problems(dim, num_heads):
            raise IncompatibleError(problems)
        self.dim, self.style_dim, self.num_heads = dim, style_dim, num_heads
        self.norm = self.fill("norm", norm, dim=dim, style_dim=None)
        self.attend = attention.bind(kernel)
        self.query = linear(dim, dim)
        self.key_value = linear(style_dim, 2 * dim, bias=False)  # a zero vector has the value zero
        self.proj = linear(dim, dim)
        self.scale = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)

    def forward(
        self, x: Float[Tensor, "b c h w"], ws: Float[Tensor, "b n s"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        check_nchw(self, x, self.dim)
        tokens = check_styles(self, ws, 1, self.style_dim, x)
        pixels = to_nhwc(x)
        q = self.heads(self.query(self.norm(pixels)).flatten(1, 2))
        k, v = self.key_value(F.layer_norm(tokens, (self.style_dim,))).chunk(2, dim=2)
        bias = (~token_mask(tokens)).to(q.dtype)[:, None, None] * (torch.finfo(q.dtype).min / 2)
        attended = self.attend(q, self.heads(k), self.heads(v), bias=bias)
        branch = self.proj(attended.transpose(1, 2).flatten(2)).view_as(pixels)
        return to_nchw(pixels + self.scale(branch))

    def heads(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b heads n d"]:
        return torch.unflatten(x, 2, (self.num_heads, -1)).transpose(1, 2)
