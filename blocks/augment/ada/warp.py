"""Anti-aliased affine warps of images: upsample, sample bilinearly, downsample. Images are padded by reflection.

StyleGAN2-ADA, Karras et al. 2020, https://arxiv.org/abs/2006.06676, appendix B.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.augment.ada.symlets import SYM6
from blocks.common.computed_buffer import computed_buffer, filled
from blocks.common.resample import fir_kernel
from blocks.ops.grid_sample import grid_sample
from blocks.ops.upfirdn2d import upfirdn2d

Matrix = Float[Tensor, "b 3 3"]
MARGIN = 3  # pixels that the filter reaches to each side
SMALL = 128**2  # pixels of an image


class Warp(nn.Module):
    """Warps each image by its own affine map: image [B,K,H,W], inverse [B,3,3] -> [B,K,H,W].

    `inverse` maps output positions to input positions (x, y, 1), in pixels from the image's centre. Twice
    differentiable with respect to the image.
    """

    filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        computed_buffer(self, "filter", fir_kernel, SYM6)
        self.resample, self.sample = upfirdn2d.bind(), grid_sample.bind()

    def forward(self, image: Float[Tensor, "b k h w"], inverse: Matrix) -> Float[Tensor, "b k h w"]:
        if not has_known_values(image):
            padded, left, top = self.pad_fully(image, inverse)
        elif bool((inverse == torch.eye(3, device=inverse.device)).all()):
            return image  # without a warp, the two filters cancel
        else:
            left, top, right, bottom = (int(side) for side in self.margins(image, inverse).tolist())
            padded = pad_by_reflection(image, left, right, top, bottom)
        upsampled = self.resample(padded, self.filter, up=2, padding=(6, 5, 6, 5), gain=4.0)
        corner = filled((left, top), inverse)
        warped = self.sample(upsampled, 2 * (self.sources(image, inverse) + corner))
        result: Tensor = self.resample(warped, self.filter, down=2, padding=(-1, -1, -1, -1), flip_filter=True)
        return result

    def margins(self, image: Float[Tensor, "b k h w"], inverse: Matrix) -> Float[Tensor, " sides"]:
        """Padding (left, top, right, bottom) that the batch needs, in pixels; reflection allows size - 1 at most."""
        size = filled((image.shape[3], image.shape[2]), inverse)
        signs = 2 * torch.arange(2, device=image.device, dtype=inverse.dtype) - 1
        ends = F.pad(torch.cartesian_prod(signs, signs), (0, 1), value=1.0)  # of the diagonals: x, y, 1
        half = (size - 1) / 2
        corners = inverse[:, :2] @ (ends * F.pad(half, (0, 1), value=1)).T  # b 2 4
        reached = torch.cat([(-corners).amax(dim=(0, 2)), corners.amax(dim=(0, 2))])
        return (reached + 2 * MARGIN - half.repeat(2)).clamp(min=0).minimum(size.repeat(2) - 1).ceil()

    def pad_fully(self, image: Float[Tensor, "b k h w"], inverse: Matrix) -> tuple[Float[Tensor, "b k i j"], int, int]:
        """The image with the largest padding, 0 where the batch needs none: shapes do not depend on values."""
        height, width = image.shape[2:]
        padded = pad_by_reflection(image, width - 1, width - 1, height - 1, height - 1)
        left, top, right, bottom = self.margins(image, inverse)
        columns, rows = (
            (torch.arange(1 - size, 2 * size - 1, device=image.device) >= -before)
            & (torch.arange(1 - size, 2 * size - 1, device=image.device) < size + after)
            for size, before, after in ((width, left, right), (height, top, bottom))
        )
        return padded * (rows[:, None] & columns), width - 1, height - 1

    def sources(self, image: Float[Tensor, "b k h w"], inverse: Matrix) -> Float[Tensor, "b i j 2"]:
        """Input position, in pixels from the first, of each half pixel of the output and its margin."""
        height, width = image.shape[2:]
        x, y = (
            torch.arange(2 * (size + 2 * MARGIN), device=image.device, dtype=inverse.dtype) / 2 - (MARGIN + half)
            for size, half in ((width, (width - 1) / 2), (height, (height - 1) / 2))
        )
        from_x, from_y, offset = (inverse[:, None, None, :2, axis] for axis in range(3))
        centre = filled(((width - 1) / 2, (height - 1) / 2), inverse)
        return x[:, None] * from_x + y[:, None, None] * from_y + (offset + centre)


def pad_by_reflection(
    image: Float[Tensor, "b k h w"], left: int, right: int, top: int, bottom: int
) -> Float[Tensor, "b k i j"]:
    """Reflection padding. Where PyTorch has no deterministic gradient of it, pixels are taken by their index."""
    if not (image.is_cuda and torch.are_deterministic_algorithms_enabled()):
        return F.pad(image, (left, right, top, bottom), mode="reflect")
    rows = reflected(image.shape[2], top, bottom, image.device)
    return image[:, :, rows][:, :, :, reflected(image.shape[3], left, right, image.device)]


def reflected(size: int, before: int, after: int, device: torch.device) -> Int64[Tensor, " i"]:
    """The pixel along an axis that each pixel of the padded axis repeats."""
    last = size - 1
    return last - (last - torch.arange(-before, size + after, device=device).abs()).abs()


def has_known_values(image: Tensor) -> bool:
    """Whether shapes may depend on tensor values: not while compiling, and not on the meta device.

    Nor on CUDA for small images: there a step waits longer for the values than it computes for more padding.
    """
    small = image.is_cuda and image.numel() > 0 and image.shape[2] * image.shape[3] <= SMALL
    return not (torch.compiler.is_compiling() or image.is_meta or small)


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
    """Rotations by a number of right angles; entries are exact."""
    sine, cosine, zero = (number * (math.pi / 2)).sin().round(), (number * (math.pi / 2)).cos().round(), number * 0
    return _matrix((cosine, -sine, zero), (sine, cosine, zero))


def _matrix(*rows: tuple[Tensor, Tensor, Tensor]) -> Matrix:
    zero, one = torch.zeros_like(rows[0][0]), torch.ones_like(rows[0][0])
    return torch.stack([torch.stack(row, dim=-1) for row in (*rows, (zero, zero, one))], dim=-2)
