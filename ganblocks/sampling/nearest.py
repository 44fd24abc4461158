"""The training images nearest to generated ones, pixel by pixel: whether a generator memorises."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def nearest(
    images: Float[Tensor, "n c h w"], references: Float[Tensor, "m c h w"], chunk: int = 256
) -> tuple[Int64[Tensor, " n"], Float[Tensor, " n"]]:
    """Index of each image's nearest reference, and its distance: the root mean square difference of pixels."""
    flat = references.flatten(1)
    minima = [torch.cdist(part.flatten(1), flat).min(dim=1) for part in torch.split(images, chunk)]
    distances = torch.cat([each.values for each in minima]) / flat.shape[1] ** 0.5
    return torch.cat([each.indices for each in minima]), distances


def beside_nearest(images: Float[Tensor, "n c h w"], references: Float[Tensor, "m c h w"]) -> Float[Tensor, "2n c h w"]:
    """Images followed by their nearest references: two rows for `save_grid(..., columns=len(images))`."""
    return torch.cat([images, references[nearest(images, references)[0]]])
