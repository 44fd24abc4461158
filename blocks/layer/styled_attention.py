"""Styled attention: self-attention with linear layers modulated and demodulated by the style.

Styleformer, Park and Kim 2021, https://arxiv.org/abs/2106.07023, section 3; with Linformer, Wang et al. 2020,
https://arxiv.org/abs/2006.04768: Styleformer-L.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.attention.heads import attention_map, head_problems
from blocks.attention.linformer import TokenProjection
from blocks.common.equalized import EqualLinear
from blocks.common.modulation import demodulation_factors, scaled_linear
from blocks.common.noise import Noise
from blocks.common.shapes import check_nchw, check_resolution, check_styles
from blocks.families import FeedForward, Layer, Resolution, to_nchw, to_nhwc
from blocks.ops.attention import attention
from blocks.ops.bias_act import bias_act
from registry import IncompatibleError, Slot

EPS = 1e-5


class StyledAttention(Layer, kind="styled-attention"):
    """Self-attention with style-modulated weights and a learned residual connection from the values.

    Two styles, s and t, are affine in w. The input is multiplied by s and normalised over its channels. Queries, keys
    and values are linear in it, demodulated by s; values are multiplied by t. The attended values and the values
    themselves each pass a linear layer demodulated by t, and are added. Noise, bias and leaky ReLU follow.
    `layer_norm`, `residual` and `feed_forward` have the alternatives of the paper's ablation.

    Args:
        in_dim: Channels C of the input; heads share them evenly.
        resolution: Height and width of the map, in pixels.
        style_dim: Features S of the style.
        dim: Channels of the output; null for `in_dim`.
        num_heads: Number of heads; Styleformer has one per 32 channels.
        rank: Number of tokens that keys and values are projected to, as in Linformer (256 in Styleformer-L from 32x32
            on); null for attention to all pixels.
        layer_norm: "pre" normalises the modulated input, "post" the sum of attended values and residual connection, as
            the first transformers did; null for no normalisation.
        residual: Input of the residual connection's linear layer: "values", the paper's modified residual connection,
            or "raw", the layer's input, whose linear layer has no style; null for no residual connection.
        feed_forward: The feed-forward block at the end, y + feed_forward(LayerNorm(y)); null for none, as in the paper.
        noise: Whether noise with a learned strength is added to each pixel.
        clamp: Largest magnitude of the output; null for no limit, 256 in Styleformer.
        kernel: Kernel of the attention op; "auto" takes the best one that supports each call, "tune" the fastest,
            measured once per machine.

    Raises:
        IncompatibleError: `in_dim` does not divide by `num_heads`.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"num_heads": 4, "dim": 12, "clamp": 2.0}},
        {"spec": {"num_heads": 2, "rank": 5, "noise": False}},
        {"spec": {"layer_norm": "post", "residual": "raw", "feed_forward": "mlp", "dim": 12}},
        {"spec": {"layer_norm": None, "residual": None}},
    )
    num_styles = 1

    def __init__(
        self,
        in_dim: int,
        resolution: Resolution,
        style_dim: int,
        *,
        dim: PositiveInt | None = None,
        num_heads: PositiveInt = 8,
        rank: PositiveInt | None = None,
        layer_norm: Literal["pre", "post"] | None = "pre",
        residual: Literal["values", "raw"] | None = "values",
        feed_forward: Slot[FeedForward] | None = None,
        noise: bool = True,
        clamp: PositiveFloat | None = None,
        kernel: str = "auto",
    ) -> None:
        super().__init__()
        if problems := head_problems(in_dim, num_heads):
            raise IncompatibleError(problems)
        out_dim = in_dim if dim is None else dim
        self.dim, self.style_dim, self.resolution = in_dim, style_dim, resolution
        self.num_heads, self.clamp = num_heads, clamp
        self.layer_norm, self.residual_source = layer_norm, residual
        self.affine = EqualLinear(style_dim, 2 * in_dim, bias_init=1)
        self.qkv = _weight(3 * in_dim, in_dim)
        self.proj = _weight(out_dim, in_dim)
        self.residual = None if residual is None else _weight(out_dim, in_dim)
        self.bias = nn.Parameter(torch.zeros(out_dim))
        self.proj_kv = None if rank is None else TokenProjection(resolution[0] * resolution[1], rank)
        self.noise = Noise(resolution) if noise else nn.Identity()
        self.feed_forward: FeedForward | None = self.fill("feed_forward", feed_forward, dim=out_dim)
        self.attend = attention.bind(kernel)
        self.bias_act = bias_act.bind()

    def forward(
        self, x: Float[Tensor, "b c h w"], ws: Float[Tensor, "b n s"] | None = None
    ) -> Float[Tensor, "b d h w"]:
        check_nchw(self, x, self.dim)
        if self.proj_kv is not None:
            check_resolution(self, x.shape[2], x.shape[3], self.resolution)
        ws = check_styles(self, ws, 1, self.style_dim, x)
        s, t = self.affine(ws[:, 0]).chunk(2, dim=-1)
        q, k, v = self.queries_keys_values(x, s, t).chunk(3, dim=-1)
        attended = self.attend(*self.heads(q, k, v)).transpose(1, 2).flatten(-2)
        y = scaled_linear(attended, self.proj, demodulation_factors(self.proj, t))
        if self.residual is not None and self.residual_source == "values":
            y = scaled_linear(v, self.residual, demodulation_factors(self.residual, t), plus=y)
        elif self.residual is not None:
            y = y + F.linear(to_nhwc(x).flatten(1, 2), self.residual)
        if self.layer_norm == "post":
            y = normalize(y)
        y = torch.unflatten(y, 1, x.shape[2:])
        noise = self.noise.sample(y) if isinstance(self.noise, Noise) else None
        y = self.bias_act(y, self.bias, noise=noise, activation="lrelu", gain=1, clamp=self.clamp, dim=-1)
        return to_nchw(y if self.feed_forward is None else y + self.feed_forward(normalize(y)))

    def queries_keys_values(
        self, x: Float[Tensor, "b c h w"], s: Float[Tensor, "b c"], t: Float[Tensor, "b c"]
    ) -> Float[Tensor, "b n 3c"]:
        """Queries, keys and values of all pixels, concatenated; `s` modulates the input, `t` the values."""
        pixels = to_nhwc(x).flatten(1, 2) * s[:, None]
        normalized = F.layer_norm(pixels, s.shape[1:], eps=EPS) if self.layer_norm == "pre" else pixels
        dim = x.shape[1]
        scales = demodulation_factors(self.qkv, s)
        scales = torch.cat([scales[:, : 2 * dim], scales[:, 2 * dim :] * t], dim=1)
        return scaled_linear(normalized, self.qkv, scales)

    def heads(
        self, q: Float[Tensor, "b n c"], k: Float[Tensor, "b n c"], v: Float[Tensor, "b n c"]
    ) -> tuple[Tensor, ...]:
        """Queries, keys and values as [B,heads,tokens,head_dim]; with a `rank`, keys and values are projected."""
        if self.proj_kv is not None:
            k, v = self.proj_kv(k), self.proj_kv(v)
        return tuple(torch.unflatten(each, -1, (self.num_heads, -1)).transpose(1, 2) for each in (q, k, v))

    def key_projection(self) -> Float[Tensor, "rank n"] | None:
        """Weights of the pixels in each projected value, for attention maps; None without a `rank`."""
        return None if self.proj_kv is None else self.proj_kv.weight

    def attention_map(self, x: Float[Tensor, "b c h w"], ws: Float[Tensor, "b n s"]) -> Float[Tensor, "b heads h w"]:
        """Logits of each head's mean query against each pixel's key before its projection, for visualisation."""
        qkv = self.queries_keys_values(x, *self.affine(ws[:, 0]).chunk(2, dim=-1))
        qkv = torch.unflatten(torch.unflatten(qkv, -1, (3, self.num_heads, -1)), 1, x.shape[2:])
        return attention_map(qkv, None)


def normalize(x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
    """LayerNorm without gain and bias, in the data type of `x` also under autocast."""
    return F.layer_norm(x, x.shape[-1:], eps=EPS).to(x.dtype)


def _weight(out_dim: int, in_dim: int) -> nn.Parameter:
    bound = 1 / math.sqrt(in_dim)
    return nn.Parameter(nn.init.uniform_(torch.empty(out_dim, in_dim), -bound, bound))
