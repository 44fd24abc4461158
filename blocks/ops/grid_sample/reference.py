"""Bilinear interpolation as a weighted sum of four gathers."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from registry import Kernel


class Reference(Kernel):
    """The four pixels around each coordinate, weighted; differentiable in both arguments any number of times."""

    op, name = "grid_sample", "reference"
    second_order, forward_ad = True, True

    def run(self, x: Float[Tensor, "b c h w"], coordinates: Float[Tensor, "b i j 2"]) -> Float[Tensor, "b c i j"]:
        """Interpolate a map at some coordinates.

        Args:
            x: The map.
            coordinates: (x, y) of each sample in pixels, counted from the centre of the first pixel.
        """
        channels, height, width = x.shape[1:]
        pixels, corner = x.flatten(2), coordinates.floor()
        total = torch.zeros((), device=x.device, dtype=x.dtype)
        for right in (0, 1):
            for below in (0, 1):
                column, row = corner[..., 0] + right, corner[..., 1] + below
                weight = (1 - (coordinates[..., 0] - column).abs()) * (1 - (coordinates[..., 1] - row).abs())
                inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
                index = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
                value = pixels.gather(2, index.flatten(1)[:, None].expand(-1, channels, -1))
                value = torch.unflatten(value, 2, index.shape[1:])
                total = total + value * (weight * inside)[:, None].to(x.dtype)
        return total
