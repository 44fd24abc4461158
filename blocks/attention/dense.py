"""Multi-head self-attention over the whole feature map.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2.2; relative position bias:
Swin, Liu et al. 2021, https://arxiv.org/abs/2103.14030, section 3.2.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from blocks.attention.heads import attention_map, head_problems, relative_position_table
from blocks.attention.query_key import query_key
from blocks.common.linear import Init, linear
from blocks.common.shapes import check_nhwc, check_resolution
from blocks.families import Attention, Resolution
from blocks.ops.attention import attention, relative_bias
from registry import IncompatibleError, incompatible


class DenseAttention(Attention, kind="dense"):
    """Multi-head self-attention: each pixel attends to all pixels of the map.

    Args:
        dim: Channels C of the map; heads share them evenly.
        resolution: Height and width of the map, in pixels.
        num_heads: Number of heads.
        head_dim: Channels of a head; null for C / num_heads.
        qkv_bias: Whether queries, keys and values have a bias.
        relative_position_bias: Whether each head learns a bias per relative position (rows and columns apart).
        qk_norm: Whether queries and keys are normalised (RMSNorm over a head, with a learned scale).
        rotary: Whether queries and keys are rotated by row and column (2-D rotary position embedding).
        prefix_tokens: First tokens of a map of one row, such as a class token, that `rotary` does not change; the other
            tokens are a square grid.
        init: Initial weights: normal of standard deviation 0.02, truncated, or uniform after Glorot and Bengio.
        scale: Factor of the logits q.k; null for head_dim ** -0.5.
        temperature: Whether a learned scalar, initially 1, multiplies the logits, as in the ViTGAN authors' code.
        gain: Factor of the attended values; ViTGAN's best-known re-implementation takes C ** -0.5.
        equalized: Whether the linear layers use equalised learning rate, as in the ViTGAN authors' code.
        out_proj: Whether a linear layer follows the heads; without it the heads' channels together must be C.
        kernel: Kernel of the attention op; "auto" takes the best one that supports each call, "tune" the fastest,
            measured once per machine.

    Raises:
        IncompatibleError: `dim` does not divide by `num_heads`, or `out_proj` is needed.
    """

    examples: ClassVar = (
        {"spec": {"num_heads": 4, "relative_position_bias": True}},
        {"spec": {"num_heads": 2, "qkv_bias": False, "scale": 0.5, "equalized": True}},
        {"spec": {"num_heads": 3, "head_dim": 5, "temperature": True, "gain": 0.5}},
        {"spec": {"num_heads": 1, "out_proj": False}},
        {"spec": {"num_heads": 4, "qk_norm": True, "rotary": True, "init": "xavier-uniform"}},
        {"spec": {"num_heads": 4, "rotary": True, "prefix_tokens": 1}, "context": {"resolution": (1, 10)}},
    )

    def __init__(
        self,
        dim: int,
        resolution: Resolution,
        *,
        num_heads: PositiveInt = 8,
        head_dim: PositiveInt | None = None,
        qkv_bias: bool = True,
        relative_position_bias: bool = False,
        qk_norm: bool = False,
        rotary: bool = False,
        prefix_tokens: NonNegativeInt = 0,
        init: Init = "truncated-normal",
        scale: PositiveFloat | None = None,
        temperature: bool = False,
        gain: PositiveFloat = 1.0,
        equalized: bool = False,
        out_proj: bool = True,
        kernel: str = "auto",
    ) -> None:
        super().__init__()
        if head_dim is None and (problems := head_problems(dim, num_heads)):
            raise IncompatibleError(problems)
        self.dim, self.resolution = dim, resolution
        self.num_heads, self.scale, self.gain = num_heads, scale, gain
        self.attend = attention.bind(kernel)
        inner = num_heads * (head_dim or dim // num_heads)
        self.qkv = linear(dim, 3 * inner, bias=qkv_bias, equalized=equalized, init=init)
        self.query_key = query_key(
            inner // num_heads, qk_norm=qk_norm, rotary=rotary, prefix_tokens=prefix_tokens, resolution=resolution
        )
        self.temperature = nn.Parameter(torch.ones(1)) if temperature else None
        self.rpb = relative_position_table(num_heads, *resolution) if relative_position_bias else None
        if not out_proj and inner != dim:
            raise incompatible("out_proj", f"{inner} channels of the heads cannot be the map's {dim}; set it to true")
        self.proj = linear(inner, dim, equalized=equalized, init=init) if out_proj else nn.Identity()

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        check_nhwc(self, x, self.dim)
        resolution = x.shape[1:3]
        q, k, v = self.projected(x).flatten(1, 2).permute(2, 0, 3, 1, 4)  # each b heads pixels head_dim
        if self.temperature is not None:
            q = q * self.temperature
        attended = self.attend(q, k, v, bias=self.position_bias(*resolution), scale=self.scale)
        attended = attended.transpose(1, 2).flatten(-2)
        attended = attended if self.gain == 1 else attended * self.gain
        y: Tensor = self.proj(attended.unflatten(1, resolution))
        return y

    def position_bias(self, height: int, width: int) -> Float[Tensor, "heads n n"] | None:
        """The bias of each pair of pixels; a map smaller than `resolution` uses the middle of the table."""
        if self.rpb is None:
            return None
        if height > self.resolution[0] or width > self.resolution[1]:
            check_resolution(self, height, width, self.resolution)
        _, rows, columns = self.rpb.shape
        device = self.rpb.device
        return relative_bias(self.rpb, table_indices(height, rows, device), table_indices(width, columns, device))

    def attention_map(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b heads h w"]:
        """Logits of each head's mean query against each pixel's key, for visualisation."""
        return attention_map(self.projected(x), self.scale)

    def projected(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w 3 n d"]:
        """Queries, keys and values, normalised and rotated where the options say so."""
        qkv: Tensor = self.query_key(self.qkv(x).unflatten(-1, (3, self.num_heads, -1)))
        return qkv


def table_indices(length: int, entries: int, device: torch.device) -> Int[Tensor, "l l"]:
    """Indices of key minus query position along one axis, in a table whose middle entry is distance 0."""
    pixel = torch.arange(length, device=device)
    return pixel - pixel[:, None] + entries // 2
