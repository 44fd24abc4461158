"""Example backbone: fixed random patches as filters, in place of a pretrained network.

Name the paper here, with its address: `ganblocks blocks` shows it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.shapes import check_nchw
from blocks.families import Backbone, Resolution


class Example(Backbone, kind="example"):
    """Features of patches at two depths: relu(W1 image), and relu(W2 relu(W1 image)).

    Args:
        image_channels: Channels K of the images.
        dim: Features of a token.
        patch_size: Height and width of a patch, in pixels of the resized image.
        image_size: Height and width that images are resized to, in pixels.
    """

    def __init__(
        self,
        image_channels: int = 3,
        *,
        dim: PositiveInt = 32,
        patch_size: PositiveInt = 4,
        image_size: Resolution = (32, 32),
    ) -> None:
        super().__init__()
        self.image_channels, self.input_size = image_channels, image_size
        self.patches = nn.Conv2d(image_channels, dim, patch_size, stride=patch_size)
        self.linear = nn.Linear(dim, dim)
        self.requires_grad_(False)
        self.num_parameters = sum(parameter.numel() for parameter in self.parameters())
        self.eval()

    def forward(self, image: Float[Tensor, "b k h w"]) -> tuple[Float[Tensor, "b n c"], ...]:
        check_nchw(self, image, self.image_channels, name="image")
        resized = F.adaptive_avg_pool2d(image.contiguous(memory_format=torch.channels_last), self.input_size)
        first = F.relu(self.patches(resized).flatten(2).mT)
        return first, F.relu(self.linear(first))
