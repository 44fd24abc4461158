"""PyTorch's sampler with derivatives of any order: sampling and its adjoint are each other's derivative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.common.computed_buffer import filled
from registry import Kernel


class Linear(Kernel):
    """`F.grid_sample` as a linear function of the map; coordinates are constants."""

    op, name, priority, second_order = "grid_sample", "linear", 10, True

    def unsupported(self, x: Tensor, coordinates: Tensor) -> list[str]:
        reasons = []
        if coordinates.requires_grad:
            reasons.append("computes no gradient of the coordinates")
        if x.dtype != coordinates.dtype:
            reasons.append(f"the map is {x.dtype}, the coordinates are {coordinates.dtype}")
        if x.is_cuda and x.requires_grad and torch.are_deterministic_algorithms_enabled():
            reasons.append("its gradient is not deterministic")
        if torch.compiler.is_compiling():
            reasons.append("torch.compile cannot trace a derivative that calls itself")
        return reasons

    def run(self, x: Float[Tensor, "b c h w"], coordinates: Float[Tensor, "b i j 2"]) -> Float[Tensor, "b c i j"]:
        size = filled((x.shape[3], x.shape[2]), x)
        return gather(x, (2 * coordinates + 1) / size - 1)  # -1 and 1 are the outer edges of the border pixels


class Gather(torch.autograd.Function):
    """`F.grid_sample`: reads a map at the points of a normalised grid."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.size = x.shape[2:]
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (grid,) = ctx.saved_tensors
        return scatter(gradient, grid, ctx.size), None


class Scatter(torch.autograd.Function):
    """The adjoint of `Gather`: adds values at the points of a grid to a map of zeros."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, grid: Tensor, size: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        shape_only = gradient.new_zeros(()).expand(*gradient.shape[:2], *size)  # its values are never read
        bilinear, zeros, align_corners, needs_gradient = 0, 0, False, (True, False)
        map_gradient: Tensor = torch.ops.aten.grid_sampler_2d_backward(
            gradient.contiguous(), shape_only, grid, bilinear, zeros, align_corners, needs_gradient
        )[0]
        return map_gradient

    @staticmethod
    def backward(ctx: Any, x: Tensor) -> Any:
        (grid,) = ctx.saved_tensors
        return gather(x, grid), None, None


gather: Callable[..., Tensor] = Gather.apply
scatter: Callable[..., Tensor] = Scatter.apply
