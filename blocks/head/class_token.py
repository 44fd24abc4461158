"""The head of a vision transformer discriminator: its class token as one logit.

ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589, section 3.2; after ViT, https://arxiv.org/abs/2010.11929.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, ClassVar

from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from blocks.common.shapes import check_nchw, check_resolution
from blocks.families import Head, Resolution
from blocks.head.projection import Projection, to_logits
from registry import incompatible


class ClassTokenHead(Head, kind="class-token"):
    """LayerNorm and an MLP on the first token of a one-row map, to one logit or a scalar product with the condition.

    Args:
        dim: Features D of a token.
        resolution: Height and width of the features: one row of tokens, the class token first.
        cond_dim: Features of the condition c; 0 for no condition. With one, the logit is a scalar product with its
            embedding.
        hidden_dim: Features of one or several hidden layers, each followed by a GELU; None for no hidden layer.
        gelu_at_the_end: Whether a GELU follows the logit, as in the best-known re-implementation.
        eps: Added to the variance in the LayerNorm.

    Raises:
        IncompatibleError: The features are not one row.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {}, "context": {"resolution": (1, 5)}},
        {"spec": {"hidden_dim": 12}, "context": {"resolution": (1, 5)}},
        {"spec": {"hidden_dim": [12, 10], "gelu_at_the_end": True}, "context": {"resolution": (1, 5)}},
    )

    def __init__(
        self,
        dim: int,
        resolution: Resolution,
        cond_dim: int = 0,
        *,
        hidden_dim: PositiveInt | Annotated[tuple[PositiveInt, ...], Field(min_length=1)] | None = None,
        gelu_at_the_end: bool = False,
        eps: Annotated[float, Field(gt=0)] = 1e-6,
    ) -> None:
        super().__init__()
        if resolution[0] != 1:
            fact = f"class-token needs one row of tokens, but the features are {resolution[0]}x{resolution[1]}"
            raise incompatible((), f"{fact}; set class_token: true in overlapping-patches")
        self.norm = nn.LayerNorm(dim, eps=eps)
        widths = (hidden_dim,) if isinstance(hidden_dim, int) else hidden_dim or ()
        self.hidden = nn.Sequential()
        for i, o in pairwise((dim, *widths)):
            self.hidden.extend([nn.Linear(i, o), nn.GELU()])
        last = (dim, *widths)[-1]
        self.out = nn.Linear(last, last if cond_dim else 1)
        self.projection = Projection(last, cond_dim) if cond_dim else None
        self.end = nn.GELU() if gelu_at_the_end else nn.Identity()

    def forward(self, x: Float[Tensor, "b c 1 n"], c: Float[Tensor, "b d"] | None = None) -> Float[Tensor, "b 1"]:
        check_nchw(self, x, self.norm.normalized_shape[0])
        check_resolution(self, x.shape[2], x.shape[3], (1, x.shape[3]))  # one row of any number of tokens
        y: Tensor = self.out(self.hidden(self.norm(x[:, :, 0, 0])))
        logit: Tensor = self.end(to_logits(self, y, c, self.projection)[:, None])
        return logit
