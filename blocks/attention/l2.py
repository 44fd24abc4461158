"""L2 attention: weights from distances between queries and keys, which makes attention Lipschitz continuous.

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
from blocks.attention.query_key import check_rotary, rotate_heads
from blocks.common.linear import linear
from blocks.common.shapes import check_nhwc
from blocks.families import Attention
from blocks.ops.l2_attention import Sign, l2_attention
from registry import IncompatibleError, incompatible


class L2Attention(Attention, kind="l2"):
    """Multi-head self-attention by distances: softmax(sign scale |q_i - k_j|^2) v, over the whole map.

    The defaults (keys equal to queries, sign -1, squared distances) are the form proven to be Lipschitz. Published
    variants: ViTGAN's paper prints `sign` 1 and `squared` false. Its best-known re-implementation does the same with
    separate keys (`tied` false), `scale` 1 and a `gain`. Its authors' code has `tied` false, `sign` 1, `key_norms`
    "mean-of-queries" and a `temperature`.

    Args:
        dim: Channels C of the map.
        num_heads: Number of heads.
        head_dim: Channels of a head; null for C / num_heads.
        tied: Whether the queries are also the keys; otherwise keys have their own projection.
        squared: Whether distances are squared.
        sign: -1 attends to near keys, 1 to distant ones.
        key_norms: The term |k|^2 in |q|^2 - 2 q.k + |k|^2: "keys" computes it from the keys, "mean-of-queries" is the
            mean of q^2 over the channels of a head, as in the authors' code.
        temperature: Whether a learned scalar, initially 1, multiplies the logits.
        qkv_bias: Whether queries, keys and values have a bias.
        rotary: Whether queries and keys are rotated by row and column (2-D rotary position embedding), which keeps the
            norm of each.
        scale: Factor of the distances; null for head_dim ** -0.5.
        gain: Factor of the attended values; the re-implementation takes C ** -0.5.
        equalized: Whether the linear layers use equalised learning rate, as in the authors' code.
        out_proj: Whether a linear layer follows the heads; without it the heads' channels together must be C.
        kernel: Kernel of the l2_attention op; "auto" takes the best one that supports each call, "tune" the fastest,
            measured once per machine.

    Raises:
        IncompatibleError: `dim` does not divide by `num_heads`, `out_proj` is needed, or `temperature` or
            `key_norms` is combined with distances that are not squared.
    """

    examples: ClassVar = (
        {"spec": {"num_heads": 4}},
        {"spec": {"num_heads": 2, "squared": False, "sign": 1, "qkv_bias": True, "scale": 0.5}},
        {"spec": {"num_heads": 1, "out_proj": False}},
        {"spec": {"num_heads": 4, "rotary": True}},
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

    dead_parameters = ("q.bias",)  # cancels in the distances of tied queries and keys

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
        rotary: bool = False,
        scale: PositiveFloat | None = None,
        gain: PositiveFloat = 1.0,
        equalized: bool = False,
        out_proj: bool = True,
        kernel: str = "auto",
    ) -> None:
        super().__init__()
        if head_dim is None and (problems := head_problems(dim, num_heads)):
            raise IncompatibleError(problems)
        if not squared and (temperature or key_norms != "keys"):
            option = "temperature" if temperature else "key_norms"
            raise incompatible(option, "needs squared distances; set squared: true or leave this option out")
        if rotary:
            check_rotary(head_dim or dim // num_heads)
        self.dim, self.rotary = dim, rotary
        self.num_heads, self.squared, self.sign, self.gain = num_heads, squared, sign, gain
        self.key_norms_from_queries = key_norms == "mean-of-queries"
        self.attend = l2_attention.bind(kernel)
        inner = num_heads * (head_dim or dim // num_heads)
        self.scale = (inner // num_heads) ** -0.5 if scale is None else scale
        self.tied = tied
        # a weight norm acts on each weight by itself: separate weights as in the paper, one as in the authors' code
        if tied:
            self.q = linear(dim, inner, bias=qkv_bias, equalized=equalized)
            self.v = linear(dim, inner, bias=qkv_bias, equalized=equalized)
        else:
            self.qkv = linear(dim, 3 * inner, bias=qkv_bias, equalized=equalized)
        self.temperature = nn.Parameter(torch.ones(1)) if temperature else None
        if not out_proj and inner != dim:
            raise incompatible("out_proj", f"{inner} channels of the heads cannot be the map's {dim}; set it to true")
        self.proj = linear(inner, dim, equalized=equalized) if out_proj else nn.Identity()

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        check_nhwc(self, x, self.dim)
        resolution = x.shape[1:3]
        q, k, v = self.heads(x)
        norms = None
        if self.key_norms_from_queries:
            norms = q.square().mean(-1)
        elif self.temperature is not None:
            norms = k.square().sum(-1)
        if self.temperature is not None and norms is not None:
            q, norms = q * self.temperature, norms * self.temperature
        options = {"squared": self.squared, "sign": self.sign, "scale": self.scale}
        attended = self.attend(q, k, v, key_norms=norms, **options).transpose(1, 2).flatten(-2)
        attended = attended if self.gain == 1 else attended * self.gain
        y: Tensor = self.proj(torch.unflatten(attended, 1, resolution))
        return y

    def heads(self, x: Float[Tensor, "b h w c"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B,heads,N,head_dim]; if tied, keys are the queries."""
        height, width = x.shape[1:3]
        x = x.flatten(1, 2)
        if self.tied:
            q, v = (part(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in (self.q, self.v))
            q = rotate_heads(q, height, width) if self.rotary else q
            return q, q, v
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        if self.rotary:
            q, k = rotate_heads(q, height, width), rotate_heads(k, height, width)
        return q, k, v

    def attention_map(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b heads h w"]:
        """Signed, scaled distance of each pixel's key from each head's mean query, for visualisation."""
        q, k, _ = self.heads(x)
        square = (q.mean(-2, keepdim=True) - k).square().sum(-1)
        distance = square if self.squared else square.sqrt()
        return (self.sign * self.scale * distance).view(*distance.shape[:-1], *x.shape[1:3])
