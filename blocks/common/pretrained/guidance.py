"""Functions for guidance by a network that embeds images and texts in one space.

StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515, section 3.3.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.common.images.value_range import from_symmetric


def spherical_distance(x: Float[Tensor, "b d"], y: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    """Squared angle between vectors, in radians; value and gradient are finite for parallel vectors too."""
    cosine = (F.normalize(x, dim=-1) * F.normalize(y, dim=-1)).sum(dim=-1)
    limit = 1 - torch.finfo(cosine.dtype).eps
    return cosine.clamp(-limit, limit).acos().square()


def random_crop(image: Float[Tensor, "b k h w"], side: int) -> Float[Tensor, "b k i j"]:
    """A random square crop, at the same position for the whole batch; an axis shorter than `side` is not cropped."""
    height, width = image.shape[2:]
    top, left = (int(torch.randint(max(size - side, 0) + 1, ())) for size in (height, width))
    return image[:, :, top : top + side, left : left + side]


def preprocess(
    image: Float[Tensor, "b k h w"], size: tuple[int, int], mean: Float[Tensor, 3], std: Float[Tensor, 3]
) -> Float[Tensor, "b 3 i j"]:
    """Images in [-1,1] as a network's input: resized by area, grey as RGB, (x - mean) / std of images in [0,1]."""
    resized = F.adaptive_avg_pool2d(image, size).expand(-1, 3, -1, -1)
    return (from_symmetric(resized, "unit") - mean[:, None, None]) / std[:, None, None]
