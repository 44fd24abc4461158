"""Attention style injection: self-attention whose linear maps the style modulates and demodulates.

Styleformer, Park and Kim 2021, https://arxiv.org/abs/2106.07023, section 3; with Linformer, Wang et al. 2020,
https://arxiv.org/abs/2006.04768: Styleformer-L.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.attention.heads import attention_map, head_problems
from blocks.attention.linformer import TokenProjection
from blocks.common.equalized import EqualLinear
from blocks.common.modulation import demodulation, scaled_linear
from blocks.common.noise import Noise
from blocks.families import Layer, Resolution, to_nchw, to_nhwc
from blocks.ops.attention import attention
from blocks.ops.bias_act import bias_act
from registry import IncompatibleError

EPS = 1e-5


class StyledAttention(Layer, kind="styled-attention"):
    """Self-attention under a style, with a learned residual from its values instead of an identity.

    Two styles, s and t, are affine in w. The input is scaled by s and normalised over its channels; queries, keys and
    values are linear in it, each output divided by the length of its row of weights under s, and values are scaled by
    t. The mixed values and the values as they were each pass a linear map demodulated under t, and are added.
    Noise, bias and leaky ReLU follow.

    Args:
        in_dim: Channels C of the map that comes in; heads share them evenly.
        resolution: Height and width of the map, in pixels.
        style_dim: Features S of the style.
        dim: Channels of the map that goes out; as many as come in if null.
        num_heads: Number of heads; Styleformer has one for every 32 channels.
        rank: Tokens that keys and values are summed up in, as in Linformer (Styleformer-L takes 256 from 32x32 on);
            null for attention to all pixels.
        noise: Whether noise of a learned strength is added to each pixel.
        clamp: Largest magnitude of the output; 256 in Styleformer.
        kernel: Kernel of attention; "auto" takes the best that can serve each call, "tune" the quickest,
            measured once for this machine and remembered.

    Raises:
        IncompatibleError: Channels do not divide over the heads.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"num_heads": 4, "dim": 12, "clamp": 2.0}},
        {"spec": {"num_heads": 2, "rank": 5, "noise": False}},
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
        noise: bool = True,
        clamp: PositiveFloat | None = None,
        kernel: str = "auto",
    ) -> None:
        super().__init__()
        if problems := head_problems(in_dim, num_heads):
            raise IncompatibleError(problems)
        out_dim = in_dim if dim is None else dim
        self.num_heads, self.clamp = num_heads, clamp
        self.affine = EqualLinear(style_dim, 2 * in_dim, bias_init=1)
        self.qkv = _weight(3 * in_dim, in_dim)
        self.proj = _weight(out_dim, in_dim)
        self.residual = _weight(out_dim, in_dim)
        self.bias = nn.Parameter(torch.zeros(out_dim))
        self.sums = None if rank is None else TokenProjection(resolution[0] * resolution[1], rank)
        self.noise = Noise(resolution) if noise else nn.Identity()
        self.attend = attention.bind(kernel)
        self.bend = bias_act.bind()

    def forward(
        self, x: Float[Tensor, "b c h w"], ws: Float[Tensor, "b n s"] | None = None
    ) -> Float[Tensor, "b d h w"]:
        assert ws is not None
        s, t = self.affine(ws[:, 0]).chunk(2, dim=-1)
        qkv = self.queries_keys_values(x, s, t)
        values = qkv[..., -x.shape[1] :]
        mixed = self.attend(*self.heads(qkv)).transpose(1, 2).flatten(-2)
        y = scaled_linear(mixed, self.proj, demodulation(self.proj, t))
        y = scaled_linear(values, self.residual, demodulation(self.residual, t), plus=y)
        y = self.noise(y.reshape(len(y), *x.shape[2:], -1))
        return to_nchw(self.bend(y, self.bias, activation="lrelu", gain=1, clamp=self.clamp, dim=-1))

    def queries_keys_values(
        self, x: Float[Tensor, "b c h w"], s: Float[Tensor, "b c"], t: Float[Tensor, "b c"]
    ) -> Float[Tensor, "b n 3c"]:
        """Queries, keys and values of all pixels, side by side; `s` comes in, `t` goes out with the values."""
        pixels = to_nhwc(x).flatten(1, 2)
        normal = F.layer_norm(pixels * s[:, None], s.shape[1:], eps=EPS)
        dim = x.shape[1]
        scales = demodulation(self.qkv, s)
        scales = torch.cat([scales[:, : 2 * dim], scales[:, 2 * dim :] * t], dim=1)
        return scaled_linear(normal, self.qkv, scales)

    def heads(self, qkv: Float[Tensor, "b n c3"]) -> tuple[Tensor, ...]:
        """Queries, keys and values as [B,heads,tokens,head_dim], keys and values summed up if there is a rank."""
        dim = qkv.shape[-1] // 3
        if self.sums is None:
            q, k, v = qkv.chunk(3, dim=-1)
        else:
            q, kv = qkv.tensor_split([dim], dim=-1)
            k, v = self.sums(kv).chunk(2, dim=-1)
        return tuple(each.reshape(*each.shape[:2], self.num_heads, -1).transpose(1, 2) for each in (q, k, v))

    def key_projection(self) -> Float[Tensor, "rank n"] | None:
        """By which weights each value is a sum of pixels: for pictures of attention."""
        return None if self.sums is None else self.sums.weight

    def attention_map(self, x: Float[Tensor, "b c h w"], ws: Float[Tensor, "b n s"]) -> Float[Tensor, "b heads h w"]:
        """How well each pixel's key, before it is summed up, matches the mean query, per head."""
        qkv = self.queries_keys_values(x, *self.affine(ws[:, 0]).chunk(2, dim=-1))
        return attention_map(qkv.reshape(len(x), *x.shape[2:], 3, self.num_heads, -1), None)


def _weight(out_dim: int, in_dim: int) -> nn.Parameter:
    bound = 1 / math.sqrt(in_dim)
    return nn.Parameter(nn.init.uniform_(torch.empty(out_dim, in_dim), -bound, bound))
