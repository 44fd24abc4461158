"""The dense head with two additional projections for a contrastive loss.

ContraD, Jeong and Shin 2021, https://arxiv.org/abs/2103.09742, section 3. Every discriminator in its code has them, and
the authors of ViTGAN (https://arxiv.org/abs/2107.04589) train with that code.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from blocks.families import Mapping, Resolution
from blocks.head.linear import LinearHead
from registry import Slot


class ContraDHead(LinearHead, kind="contrad"):
    """The head `linear` plus two networks with one hidden layer, from the same features to contrastive embeddings.

    The logit does not depend on the projections, which `projections` computes. They are frozen until
    `head.requires_grad_()` is called.

    Args:
        dim: Channels C of the features.
        resolution: Height and width of the features, in pixels.
        cond_dim: Features of the condition c; 0 for no condition. With one, the logit is a scalar product with its
            embedding.
        hidden_dim: Features of the hidden layer, and of the embedding; None for no hidden layer and an embedding of C.
        mapping: Embeds the condition; None for a linear embedding.
        num_biases: Number of biases of the hidden layer.
        projection_hidden_dim: Features of the projections' hidden layers.
        projection_dim: Features of the projections.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"hidden_dim": 12, "projection_hidden_dim": 10, "projection_dim": 6}},
    )

    def __init__(
        self,
        dim: int,
        resolution: Resolution,
        cond_dim: int = 0,
        *,
        hidden_dim: PositiveInt | None = 512,
        mapping: Slot[Mapping] | None = "mapping",
        num_biases: Literal[1, 2] = 1,
        projection_hidden_dim: PositiveInt = 512,
        projection_dim: PositiveInt = 128,
    ) -> None:
        super().__init__(dim, resolution, cond_dim, hidden_dim=hidden_dim, mapping=mapping, num_biases=num_biases)
        widths = dim * resolution[0] * resolution[1], projection_hidden_dim, projection_dim
        self.project1, self.project2 = (
            nn.Sequential(nn.Linear(*widths[:2]), nn.LeakyReLU(0.1), nn.Linear(*widths[1:])).requires_grad_(False)
            for _ in range(2)
        )

    def projections(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b p"], Float[Tensor, "b p"]]:
        """Embeddings for the contrastive losses: for real images, and for generated ones."""
        flat = x.flatten(1)
        return self.project1(flat), self.project2(flat)
