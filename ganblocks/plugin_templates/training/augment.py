"""Example augmentation: random brightness.

Name the paper here, with its address: `ganblocks blocks` shows it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from blocks.common.shapes import check_nchw
from blocks.families import Augment


class Example(Augment, kind="example"):
    """Adds a number from N(0, strength^2) to each image.

    Args:
        strength: Standard deviation of the number.
    """

    def __init__(self, *, strength: PositiveFloat = 0.2) -> None:
        super().__init__()
        self.std = strength

    def forward(self, image: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        check_nchw(self, image, name="image")
        if not self.training:
            return image
        return image + self.std * torch.randn_like(image[:, :1, :1, :1])
