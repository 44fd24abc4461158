"""Affine maps of images without jagged edges: upsample, read between the pixels, downsample.

StyleGAN2-ADA, Karras et al. 2020, https://arxiv.org/abs/2006.06676, appendix B. Outside the image its reflection
goes on.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.augment.ada.symlets import SYM6
from blocks.common.resample import fir_kernel
from blocks.ops.grid_sample import grid_sample
from blocks.ops.upfirdn2d import upfirdn2d

Matrix = Float[Tensor, "b 3 3"]
REACH = 3  # pixels that the filter sees to each side


class Warp(nn.Module):
    """Moves each image by its own affine map: image [B,K,H,W], inverse [B,3,3] -> the same shape.

    `inverse` takes a pixel of the result to where it comes from; both are (x, y, 1) in pixels from the image's centre.
    Twice differentiable towards the image.
    """

    filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", fir_kernel(SYM6), persistent=False)
        self.resample, self.read = upfirdn2d.bind(), grid_sample.bind()

    def forward(self, image: Float[Tensor, "b k h w"], inverse: Matrix) -> Float[Tensor, "b k h w"]:
        if not knows_values(image):
            padded, left, top = self.pad_most(image, inverse)
        elif bool((inverse == torch.eye(3, device=inverse.device)).all()):
            return image  # where nothing moves, what the filters do cancels
        else:
            left, top, right, bottom = (int(side) for side in self.margins(image, inverse).tolist())
            padded = F.pad(image, (left, right, top, bottom), mode="reflect")
        fine = self.resample(padded, self.filter, up=2, padding=(6, 5, 6, 5), gain=4.0)
        moved = self.read(fine, 2 * (self.sources(image, inverse) + torch.tensor([left, top], device=image.device)))
        result: Tensor = self.resample(moved, self.filter, down=2, padding=(-1, -1, -1, -1), flip_filter=True)
        return result

    def margins(self, image: Float[Tensor, "b k h w"], inverse: Matrix) -> Float[Tensor, " sides"]:
        """Pixels (left, top, right, bottom) that the batch needs around the image; a reflection has size - 1."""
        size = torch.tensor([image.shape[3], image.shape[2]], device=image.device, dtype=inverse.dtype)
        ends = torch.tensor([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]], device=image.device, dtype=inverse.dtype)
        half = (size - 1) / 2
        corners = inverse[:, :2] @ (ends * F.pad(half, (0, 1), value=1)).T  # b 2 4
        reached = torch.cat([(-corners).amax(dim=(0, 2)), corners.amax(dim=(0, 2))])
        return (reached + 2 * REACH - half.repeat(2)).clamp(min=0).minimum(size.repeat(2) - 1).ceil()

    def pad_most(self, image: Float[Tensor, "b k h w"], inverse: Matrix) -> tuple[Float[Tensor, "b k i j"], int, int]:
        """The image with all the margin there may be, zero beyond what the batch needs: sizes then follow no values."""
        height, width = image.shape[2:]
        padded = F.pad(image, (width - 1, width - 1, height - 1, height - 1), mode="reflect")
        left, top, right, bottom = self.margins(image, inverse)
        columns, rows = (
            (torch.arange(1 - size, 2 * size - 1, device=image.device) >= -before)
            & (torch.arange(1 - size, 2 * size - 1, device=image.device) < size + after)
            for size, before, after in ((width, left, right), (height, top, bottom))
        )
        return padded * (rows[:, None] & columns), width - 1, height - 1

    def sources(self, image: Float[Tensor, "b k h w"], inverse: Matrix) -> Float[Tensor, "b i j 2"]:
        """Where in the image, in pixels from its first, each half pixel of the result and of its border comes from."""
        height, width = image.shape[2:]
        x, y = (
            torch.arange(2 * (size + 2 * REACH), device=image.device, dtype=inverse.dtype) / 2 - REACH - (size - 1) / 2
            for size in (width, height)
        )
        from_x, from_y, offset = (inverse[:, None, None, :2, axis] for axis in range(3))
        centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], device=image.device, dtype=inverse.dtype)
        return x[:, None] * from_x + y[:, None, None] * from_y + (offset + centre)


def knows_values(image: Tensor) -> bool:
    """Whether sizes may depend on numbers here: not while a compiler traces, nor without numbers."""
    return not (torch.compiler.is_compiling() or image.is_meta)


def scaling(x: Float[Tensor, " b"], y: Float[Tensor, " b"]) -> Matrix:
    zero = torch.zeros_like(x)
    return _matrix((x, zero, zero), (zero, y, zero))


def rotation(angle: Float[Tensor, " b"]) -> Matrix:
    sine, cosine, zero = angle.sin(), angle.cos(), torch.zeros_like(angle)
    return _matrix((cosine, -sine, zero), (sine, cosine, zero))


def translation(x: Float[Tensor, " b"], y: Float[Tensor, " b"]) -> Matrix:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _matrix((one, zero, x), (zero, one, y))


def quarter_turns(number: Float[Tensor, " b"]) -> Matrix:
    """Rotations by right angles, in whole numbers."""
    sine, cosine, zero = (number * (math.pi / 2)).sin().round(), (number * (math.pi / 2)).cos().round(), number * 0
    return _matrix((cosine, -sine, zero), (sine, cosine, zero))


def _matrix(*rows: tuple[Tensor, Tensor, Tensor]) -> Matrix:
    zero, one = torch.zeros_like(rows[0][0]), torch.ones_like(rows[0][0])
    return torch.stack([torch.stack(row, dim=-1) for row in (*rows, (zero, zero, one))], dim=-2)
