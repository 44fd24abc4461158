"""Affine maps of colours: brightness, contrast, inverted luma, turned hue and saturation, as one matrix.

StyleGAN2-ADA, Karras et al. 2020, https://arxiv.org/abs/2006.06676, appendix B. Luma is the mean over the channels; so
all of it holds for images of any number of channels, except for hue, which is a rotation around grey and needs three.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

Colors = Float[Tensor, "b k k"]


class Recoloring:
    """A map of colours that grows by one step after the other: colour -> matrix colour + offset.

    Args:
        image: Images [B,K,H,W], for number, channels, dtype and device.
    """

    def __init__(self, image: Float[Tensor, "b k h w"]) -> None:
        num_channels = image.shape[1]
        self.identity = torch.eye(num_channels, device=image.device, dtype=image.dtype)
        self.grey = torch.full_like(self.identity, 1 / num_channels)  # projects on the line of all greys
        self.matrix: Colors = self.identity.expand(len(image), -1, -1)
        self.offset: Float[Tensor, "b k 1"] = image.new_zeros(len(image), num_channels, 1)

    def add(self, value: Float[Tensor, " b"]) -> None:
        self.offset = self.offset + value[:, None, None]

    def scale(self, factor: Float[Tensor, " b"]) -> None:
        self._then(factor[:, None, None] * self.identity)

    def invert_luma(self, how: Float[Tensor, " b"]) -> None:
        """Mirror the luma where `how` is 1, do nothing where it is 0."""
        self._then(self.identity - 2 * how[:, None, None] * self.grey)

    def turn_hue(self, angle: Float[Tensor, " b"]) -> None:
        cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
        across = torch.tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=angle.device, dtype=angle.dtype)
        self._then(cosine * self.identity + (1 - cosine) * self.grey + sine / math.sqrt(3) * across)

    def saturate(self, factor: Float[Tensor, " b"]) -> None:
        self._then(self.grey + factor[:, None, None] * (self.identity - self.grey))

    def apply(self, image: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        return torch.baddbmm(self.offset, self.matrix, image.flatten(2)).view_as(image)

    def _then(self, step: Colors) -> None:
        self.matrix, self.offset = step @ self.matrix, step @ self.offset
