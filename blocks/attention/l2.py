"""L2 attention: each pixel attends to those whose queries are near its own, so that attention is Lipschitz.

Kim et al. 2021, https://arxiv.org/abs/2006.04710, section 3.3; in discriminators: ViTGAN, Lee et al. 2021,
https://arxiv.org/abs/2107.04589, section 3.2.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from blocks.attention.heads import head_problems
from blocks.common.linear import linear
from blocks.families import Attention
from blocks.ops.l2_attention import Sign, l2_attention
from registry import IncompatibleError, incompatible


class L2Attention(Attention, kind="l2"):
    """Multi-head self-attention by distances: softmax(sign scale |q_i - k_j|^2) v, over the whole map.

    The defaults, queries that are their own keys and a minus before the square, are the form proven to be Lipschitz.
    ViTGAN's paper prints `sign` 1 and distances that are not `squared`. Its best-known re-implementation has that with
    keys of their own (`tied` false), `scale` 1 and a `gain`. Its authors' code has `tied` false, `sign` 1,
    `key_norms` "mean-of-queries" and a `temperature`.

    Args:
        dim: Channels C of the map.
        num_heads: Number of heads.
        head_dim: Channels of a head; None for C / num_heads.
        tied: Whether queries serve as keys too; otherwise keys have a map of their own.
        squared: Whether distances are squared.
        sign: -1 attends to what is near, 1 to what is far.
        key_norms: What stands for |k|^2 in |q|^2 - 2 q.k + |k|^2: "keys", the keys' own, or "mean-of-queries", the mean
            of q^2 over a head's channels, as the authors published it.
        temperature: Whether logits are multiplied by a learned number, 1 at the start.
        qkv_bias: Whether queries, keys and values have a bias.
        scale: What distances are multiplied by; None for head_dim ** -0.5.
        gain: What the mixed values are multiplied by; the re-implementation takes C ** -0.5.
        equalized: Whether the linear maps have equalised learning rate, as in the authors' code.
        kernel: Kernel of l2_attention; "auto" takes the best that can serve each call, "tune" the quickest, measured
            once for this machine and remembered.

    Raises:
        IncompatibleError: Channels do not divide over the heads, or options exclude each other.
    """

    examples: ClassVar = (
        {"spec": {"num_heads": 4}},
        {"spec": {"num_heads": 2, "squared": False, "sign": 1, "qkv_bias": True, "scale": 0.5}},
        {"spec": {"num_heads": 2, "head_dim": 3, "tied": False, "squared": False, "sign": 1, "scale": 1, "gain": 0.25}},
        {
            "spec": {
                "num_heads": 2,
                "tied": False,
                "sign": 1,
                "key_norms": "mean-of-queries",
                "temperature": True,
                "equalized": True,
            }
        },
    )

    def __init__(
        self,
        dim: int,
        *,
        num_heads: PositiveInt = 8,
        head_dim: PositiveInt | None = None,
        tied: bool = True,
        squared: bool = True,
        sign: Sign = -1,
        key_norms: Literal["keys", "mean-of-queries"] = "keys",
        temperature: bool = False,
        qkv_bias: bool = False,
        scale: PositiveFloat | None = None,
        gain: PositiveFloat = 1.0,
        equalized: bool = False,
        kernel: str = "auto",
    ) -> None:
        super().__init__()
        if head_dim is None and (problems := head_problems(dim, num_heads)):
            raise IncompatibleError(problems)
        if not squared and (temperature or key_norms != "keys"):
            option = "temperature" if temperature else "key_norms"
            raise incompatible(
                option, "goes with squared distances, whose parts it changes; take squared: true or leave it"
            )
        self.num_heads, self.squared, self.sign, self.gain = num_heads, squared, sign, gain
        self.queries_norms = key_norms == "mean-of-queries"
        self.attend = l2_attention.bind(kernel)
        inner = num_heads * (head_dim or dim // num_heads)
        self.scale = (inner // num_heads) ** -0.5 if scale is None else scale
        self.tied = tied
        # a weight norm sees weights one by one: tied ones stand alone, as printed, the others are one, as published
        if tied:
            self.q = linear(dim, inner, bias=qkv_bias, equalized=equalized)
            self.v = linear(dim, inner, bias=qkv_bias, equalized=equalized)
        else:
            self.qkv = linear(dim, 3 * inner, bias=qkv_bias, equalized=equalized)
        self.temperature = nn.Parameter(torch.ones(1)) if temperature else None
        self.proj = linear(inner, dim, equalized=equalized)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        resolution = x.shape[1:3]
        q, k, v = self.heads(x.flatten(1, 2))
        norms = None
        if self.queries_norms:
            norms = q.square().mean(-1)
        elif self.temperature is not None:
            norms = k.square().sum(-1)
        if self.temperature is not None and norms is not None:
            q, norms = q * self.temperature, norms * self.temperature
        options = {"squared": self.squared, "sign": self.sign, "scale": self.scale}
        mixed = self.attend(q, k, v, key_norms=norms, **options).transpose(1, 2).flatten(-2)
        y: Tensor = self.proj(mixed if self.gain == 1 else mixed * self.gain)
        return y.view(y.shape[0], *resolution, -1)

    def heads(self, x: Float[Tensor, "b n c"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B,heads,N,head_dim]; where they are tied, keys are the queries themselves."""
        if self.tied:
            q, v = (part(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in (self.q, self.v))
            return q, q, v
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v

    def attention_map(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b heads h w"]:
        """How near each pixel's key is to the mean query, per head, with the sign and scale that attention has."""
        q, k, _ = self.heads(x.flatten(1, 2))
        square = (q.mean(-2, keepdim=True) - k).square().sum(-1)
        far = square if self.squared else square.sqrt()
        return (self.sign * self.scale * far).view(*far.shape[:-1], *x.shape[1:3])
