"""Guidance by a network that compares images with texts: what it sees of an image, and how far two embeddings are.

StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515, section 3.3.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def spherical_distance(x: Float[Tensor, "b d"], y: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    """The squared angle between vectors; finite, as its gradient is, for parallel ones too."""
    cosine = (F.normalize(x, dim=-1) * F.normalize(y, dim=-1)).sum(dim=-1)
    limit = 1 - torch.finfo(cosine.dtype).eps
    return cosine.clamp(-limit, limit).acos().square()


def random_crop(image: Float[Tensor, "b k h w"], side: int) -> Float[Tensor, "b k i j"]:
    """A square of that side somewhere in the images, the same place for the whole batch; all of smaller ones."""
    height, width = image.shape[2:]
    top, left = (int(torch.randint(max(size - side, 0) + 1, ())) for size in (height, width))
    return image[:, :, top : top + side, left : left + side]


def as_seen(
    image: Float[Tensor, "b k h w"], size: tuple[int, int], mean: Float[Tensor, 3], std: Float[Tensor, 3]
) -> Float[Tensor, "b 3 i j"]:
    """Images in [-1,1] as a network for photographs sees them: resized by area, RGB, and normalised in [0,1]."""
    resized = F.adaptive_avg_pool2d(image, size).expand(-1, 3, -1, -1)
    return ((resized + 1) / 2 - mean[:, None, None]) / std[:, None, None]
