"""The source of GAT's generator: a table of sinusoidal positions, without noise.

GAT, https://arxiv.org/abs/2509.24935; the table: MAE, He et al. 2021, https://arxiv.org/abs/2111.06377.
"""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from blocks.common.computed_buffer import computed_buffer
from blocks.common.position import sine_cosine_grid
from blocks.families import Resolution, SynthesisInput, to_nchw
from registry import incompatible


class SinusoidalTokens(SynthesisInput, kind="sinusoidal-tokens"):
    """A sinusoidal table of positions, the same for every image.

    Args:
        dim: Features C of a token, a multiple of 4.
        resolution: Rows and columns of tokens.
        learned: Whether the table is trained from its sinusoidal initial values on, as by GAT's code.

    Raises:
        IncompatibleError: C is not a multiple of 4.
    """

    examples: ClassVar = (
        {"spec": {"dim": 16, "resolution": [3, 5]}},
        {"spec": {"dim": 16, "resolution": [4, 3], "learned": False}},
    )
    table: Tensor

    def __init__(self, *, dim: PositiveInt = 768, resolution: Resolution = (16, 16), learned: bool = True) -> None:
        super().__init__()
        if dim % 4:
            raise incompatible("dim", f"{dim} is not a multiple of 4, which positions need; take {dim + 4 - dim % 4}")
        if learned:
            self.table = nn.Parameter(sine_cosine_grid(dim, resolution))
        else:
            computed_buffer(self, "table", sine_cosine_grid, dim, resolution)

    def forward(self, ws: Float[Tensor, "b n s"]) -> Float[Tensor, "b c h w"]:
        return to_nchw(self.table.expand(ws.shape[0], -1, -1, -1).contiguous())
