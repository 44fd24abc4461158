"""The head of a vision transformer's discriminator: what its class token has gathered, as one logit.

ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589, section 3.2; after ViT, https://arxiv.org/abs/2010.11929.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from blocks.families import Head, Resolution
from blocks.head.projection import Projection
from registry import misfit


class ClassTokenHead(Head, kind="class-token"):
    """LayerNorm and an MLP on the first token of a one-row map, to one logit or to a scalar product with the condition.

    Args:
        dim: Features D of a token.
        resolution: Height and width of the features: one row, the class token first.
        cond_dim: Features of the condition c; with any the logit is a scalar product with its embedding.
        hidden_dim: Features of the hidden layer, which ends in a GELU; None for no hidden layer.
        eps: Added to the variance in the LayerNorm.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {}, "wiring": {"resolution": (1, 5)}},
        {"spec": {"hidden_dim": 12}, "wiring": {"resolution": (1, 5)}},
    )

    def __init__(
        self,
        dim: int,
        resolution: Resolution,
        cond_dim: int = 0,
        *,
        hidden_dim: PositiveInt | None = None,
        eps: Annotated[float, Field(gt=0)] = 1e-6,
    ) -> None:
        super().__init__()
        if resolution[0] != 1:
            fact = f"a class token is the first of one row of tokens, the features are {resolution[0]}x{resolution[1]}"
            raise misfit((), f"{fact}; give overlapping-patches class_token: true")
        self.norm = nn.LayerNorm(dim, eps=eps)
        self.hidden = nn.Identity() if hidden_dim is None else nn.Sequential(nn.Linear(dim, hidden_dim), nn.GELU())
        self.out = nn.Linear(hidden_dim or dim, (hidden_dim or dim) if cond_dim else 1)
        self.projection = Projection(hidden_dim or dim, cond_dim) if cond_dim else None

    def forward(self, x: Float[Tensor, "b c 1 n"], c: Float[Tensor, "b d"] | None = None) -> Float[Tensor, "b 1"]:
        y: Tensor = self.out(self.hidden(self.norm(x[:, :, 0, 0])))
        return y if self.projection is None else self.projection(y, c)[:, None]
