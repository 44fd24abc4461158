"""Example head: the mean of all pixels, then a linear map.

Name the paper here, with its address: `ganblocks blocks` shows it.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from blocks.common.shapes import check_condition, check_nchw
from blocks.families import Head


class Example(Head, kind="example"):
    """A linear map of the mean feature, plus its scalar product with the embedded condition.

    Args:
        dim: Channels C of the features.
        cond_dim: Features D of the condition; 0 for none.
    """

    def __init__(self, dim: int, cond_dim: int = 0) -> None:
        super().__init__()
        self.dim, self.cond_dim = dim, cond_dim
        self.out = nn.Linear(dim, 1)
        self.embed = nn.Linear(cond_dim, dim, bias=False) if cond_dim else None

    def forward(self, x: Float[Tensor, "b c h w"], c: Float[Tensor, "b d"] | None = None) -> Float[Tensor, "b 1"]:
        check_nchw(self, x, self.dim)
        check_condition(self, c, self.cond_dim, x)
        features = x.mean(dim=(2, 3))
        logits: Tensor = self.out(features)
        return logits if self.embed is None else logits + (features * self.embed(c)).sum(dim=1, keepdim=True)
