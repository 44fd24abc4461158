"""Reading a map at places between its pixels, by bilinear interpolation; beyond its borders it is zero.

Spatial transformers, Jaderberg et al. 2015, https://arxiv.org/abs/1506.02025, section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from registry import Kernel, Op


class Reference(Kernel):
    """The four pixels around each place, by their weights."""

    op, name, second_order = "grid_sample", "reference", True

    def run(self, x: Float[Tensor, "b c h w"], places: Float[Tensor, "b i j 2"]) -> Float[Tensor, "b c i j"]:
        """The map at some places.

        Args:
            x: The map.
            places: (x, y) of each place in pixels, counted from the centre of the first pixel.
        """
        channels, height, width = x.shape[1:]
        pixels, corner = x.flatten(2), places.floor()
        found = torch.zeros((), device=x.device, dtype=x.dtype)
        for right in (0, 1):
            for below in (0, 1):
                column, row = corner[..., 0] + right, corner[..., 1] + below
                weight = (1 - (places[..., 0] - column).abs()) * (1 - (places[..., 1] - row).abs())
                inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
                index = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
                value = pixels.gather(2, index.flatten(1)[:, None].expand(-1, channels, -1))
                value = value.view(-1, channels, *index.shape[1:])
                found = found + value * (weight * inside)[:, None].to(x.dtype)
        return found


class Linear(Kernel):
    """torch's sampler and its adjoint, each the other's derivative; places are constants."""

    op, name, priority, second_order = "grid_sample", "linear", 10, True

    def unsupported(self, x: Tensor, places: Tensor) -> list[str]:
        reasons = []
        if places.requires_grad:
            reasons.append("gives no gradient of the places")
        if x.dtype != places.dtype:
            reasons.append(f"the map is {x.dtype}, the places are {places.dtype}")
        if x.device.type == "meta":
            reasons.append("needs a device that computes")
        if torch.compiler.is_compiling():
            reasons.append("a derivative that contains itself cannot be traced")
        return reasons

    def run(self, x: Tensor, places: Tensor) -> Tensor:
        size = torch.tensor([x.shape[3], x.shape[2]], device=x.device, dtype=x.dtype)
        return gathered(x, (2 * places + 1) / size - 1)  # -1 and 1 are the outer edges of the border pixels


class Gathering(torch.autograd.Function):
    """Reads a map at the places of a grid, as `F.grid_sample` has it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.size = x.shape[2:]
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (grid,) = ctx.saved_tensors
        return scattered(gradient, grid, ctx.size), None


class Scattering(torch.autograd.Function):
    """Adds what lies at the places of a grid to a map of zeros."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, grid: Tensor, size: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        no_map = gradient.new_zeros(()).expand(*gradient.shape[:2], *size)  # only its shape is looked at
        bilinear, zeros, align_corners, which = 0, 0, False, (True, False)
        of_map: Tensor = torch.ops.aten.grid_sampler_2d_backward(
            gradient.contiguous(), no_map, grid, bilinear, zeros, align_corners, which
        )[0]
        return of_map

    @staticmethod
    def backward(ctx: Any, x: Tensor) -> Any:
        (grid,) = ctx.saved_tensors
        return gathered(x, grid), None, None


gathered: Callable[..., Tensor] = Gathering.apply
scattered: Callable[..., Tensor] = Scattering.apply
grid_sample = Op("grid_sample", Reference(), Linear())
