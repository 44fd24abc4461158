"""Example attention: each pixel attends to all pixels of its row and its column.

Name the paper here, with its address: `ganblocks blocks` shows it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from blocks.common.shapes import check_nhwc
from blocks.families import Attention
from blocks.ops.attention import attention
from registry import incompatible


class Example(Attention, kind="example"):
    """Multi-head attention along rows, plus multi-head attention along columns.

    Args:
        dim: Channels C of the map; heads share them evenly.
        num_heads: Number of heads.
        kernel: Kernel of the op attention.

    Raises:
        IncompatibleError: `dim` is not divisible by `num_heads`.
    """

    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"num_heads": 2}},)

    def __init__(self, dim: int, *, num_heads: PositiveInt = 4, kernel: str = "auto") -> None:
        super().__init__()
        if dim % num_heads:
            raise incompatible("num_heads", f"{dim} channels do not split evenly over {num_heads} heads")
        self.dim, self.num_heads = dim, num_heads
        self.attend = attention.bind(kernel)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        check_nhwc(self, x, self.dim)
        heads = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(3, 0, 1, 4, 2, 5)  # 3 b h heads w head_dim
        q, k, v = heads
        rows = self.along_rows(q, k, v)
        columns = self.along_rows(*(part.transpose(1, 3) for part in heads)).transpose(1, 2)
        y: Tensor = self.proj(rows + columns)
        return y

    def along_rows(self, q: Tensor, k: Tensor, v: Tensor) -> Float[Tensor, "b h w c"]:
        attended: Tensor = self.attend(*(part.flatten(0, 1) for part in (q, k, v)))  # b*h heads w head_dim
        return attended.transpose(1, 2).reshape(*q.shape[:2], q.shape[3], self.dim)
