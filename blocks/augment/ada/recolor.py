"""Affine colour transforms (brightness, contrast, luma inversion, hue rotation, saturation) as one matrix.

StyleGAN2-ADA, Karras et al. 2020, https://arxiv.org/abs/2006.06676, appendix B. Luma is the mean over the channels, so
that all transforms work for any number of channels, except hue, a rotation around the grey axis, which needs three.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

Colors = Float[Tensor, "b k k"]


class ColorTransform:
    """A composition of affine colour transforms: colour -> matrix colour + offset.

    Args:
        image: Images [B,K,H,W]; they set batch size, channels, dtype and device.
    """

    def __init__(self, image: Float[Tensor, "b k h w"]) -> None:
        num_channels = image.shape[1]
        self.identity = torch.eye(num_channels, device=image.device, dtype=image.dtype)
        self.grey = torch.full_like(self.identity, 1 / num_channels)  # projection onto the grey axis
        self.matrix: Colors = self.identity.expand(image.shape[0], -1, -1)
        self.offset: Float[Tensor, "b k 1"] = image.new_zeros(image.shape[0], num_channels, 1)

    def add(self, value: Float[Tensor, " b"]) -> None:
        self.offset = self.offset + value[:, None, None]

    def scale(self, factor: Float[Tensor, " b"]) -> None:
        self._append(factor[:, None, None] * self.identity)

    def invert_luma(self, inverted: Float[Tensor, " b"]) -> None:
        """Inverts the luma where `inverted` is 1 and changes nothing where it is 0."""
        self._append(self.identity - 2 * inverted[:, None, None] * self.grey)

    def rotate_hue(self, angle: Float[Tensor, " b"]) -> None:
        cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
        shifted = self.identity.roll(1, 0).to(angle.dtype)
        cross = shifted - shifted.mT  # [[0, -1, 1], [1, 0, -1], [-1, 1, 0]]: the cross product with the grey axis
        self._append(cosine * self.identity + (1 - cosine) * self.grey + sine / math.sqrt(3) * cross)

    def saturate(self, factor: Float[Tensor, " b"]) -> None:
        self._append(self.grey + factor[:, None, None] * (self.identity - self.grey))

    def apply(self, image: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        return torch.baddbmm(self.offset, self.matrix, image.flatten(2)).view_as(image)

    def _append(self, step: Colors) -> None:
        self.matrix, self.offset = step @ self.matrix, step @ self.offset
