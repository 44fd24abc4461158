"""The identity in place of a feed-forward network; a transformer layer then adds its norm's output.

The generator of the best-known re-implementation of ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589, computes
the feed-forward networks of its layers and discards their outputs.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from blocks.families import FeedForward


class Identity(FeedForward, kind="identity"):
    """Returns its input."""

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        return x
