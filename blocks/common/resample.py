"""Resampling of maps and images by integer factors, with a low-pass filter against aliasing.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958, appendix B; the filter: binomial, after Zhang 2019,
https://arxiv.org/abs/1904.11486.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import AfterValidator, Field
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.computed_buffer import computed_buffer
from blocks.common.shapes import check_nchw
from blocks.ops.upfirdn2d import Padding, Pair, pair, upfirdn2d

Taps = Sequence[float] | Sequence[Sequence[float]]
BINOMIAL = (1.0, 3.0, 3.0, 1.0)


def _with_sum(taps: tuple[float, ...]) -> tuple[float, ...]:
    if sum(taps) == 0:
        raise ValueError(f"should have a sum other than 0, which it is divided by, not {list(taps)}")
    return taps


Filter = Annotated[tuple[float, ...], Field(min_length=1), AfterValidator(_with_sum)]
"""An option: the taps of a one-dimensional filter."""


def fir_kernel(taps: Taps) -> Float[Tensor, "*taps"]:
    """Taps divided by their sum: up to 7 taps as their outer product [f,f], 8 or more as [f], applied to each axis."""
    kernel = torch.tensor(taps, dtype=torch.float32)
    if kernel.ndim == 1 and len(kernel) < 8:
        kernel = torch.outer(kernel, kernel)
    return kernel / kernel.sum()


class Resample2d(nn.Module):
    """Filters each channel of a map and changes its resolution: x [B,C,H,W] -> [B,C,H',W'], with the op `upfirdn2d`.

    Args:
        taps: The filter, one-dimensional (for both axes) or two-dimensional; it is divided by its sum.
        up: Upsampling factor; a pair is (horizontal, vertical).
        down: Downsampling factor.
        padding: Zeros (left, right, top, bottom) around the upsampled map, in pixels; negative values crop.
        gain: Factor of the result.
        kernel: Name of the op's kernel, "auto" or "tune"; see `Op.bind`.
    """

    filter: Tensor

    def __init__(
        self,
        taps: Taps = BINOMIAL,
        *,
        up: Pair = 1,
        down: Pair = 1,
        padding: Padding = (0, 0, 0, 0),
        gain: float = 1.0,
        kernel: str = "auto",
    ) -> None:
        super().__init__()
        computed_buffer(self, "filter", fir_kernel, taps)
        self.up, self.down, self.padding, self.gain = pair(up), pair(down), padding, gain
        self.resample = upfirdn2d.bind(kernel)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c i j"]:
        options = {"up": self.up, "down": self.down, "padding": self.padding, "gain": self.gain}
        y: Tensor = self.resample(x, self.filter, **options)
        return y

    def extra_repr(self) -> str:
        return f"up={self.up}, down={self.down}, padding={self.padding}, gain={self.gain}"


class Upsample2d(Resample2d):
    """Upsamples by `factor` and keeps the mean: H x W -> factor H x factor W.

    Args:
        factor: A pair is (horizontal, vertical).
        taps: The filter.
        gain: Further factor of the result.
        kernel: Name of the op's kernel, "auto" or "tune"; see `Op.bind`.
    """

    def __init__(self, factor: Pair = 2, taps: Taps = BINOMIAL, *, gain: float = 1.0, kernel: str = "auto") -> None:
        (horizontal, vertical), (height, width) = pair(factor), _size(taps)
        padding = (*_up_padding(width, horizontal), *_up_padding(height, vertical))
        super().__init__(taps, up=factor, padding=padding, gain=gain * horizontal * vertical, kernel=kernel)


class Downsample2d(Resample2d):
    """Downsamples by `factor`: H x W -> H // factor x W // factor, for odd sizes too if the filter is even.

    Args:
        factor: A pair is (horizontal, vertical).
        taps: The filter.
        gain: Factor of the result.
        kernel: Name of the op's kernel, "auto" or "tune"; see `Op.bind`.
    """

    def __init__(self, factor: Pair = 2, taps: Taps = BINOMIAL, *, gain: float = 1.0, kernel: str = "auto") -> None:
        (horizontal, vertical), (height, width) = pair(factor), _size(taps)
        padding = (*_down_padding(width, horizontal), *_down_padding(height, vertical))
        super().__init__(taps, down=factor, padding=padding, gain=gain, kernel=kernel)


class Blur2d(Resample2d):
    """Filters at the same resolution.

    Args:
        taps: The filter.
        padding: Zeros (before, after) on both axes; None keeps the size. Before a 3x3 convolution of stride 2 (2, 2).
        kernel: Name of the op's kernel, "auto" or "tune"; see `Op.bind`.
    """

    def __init__(self, taps: Taps = BINOMIAL, *, padding: tuple[int, int] | None = None, kernel: str = "auto") -> None:
        height, width = _size(taps)
        full = (*_up_padding(width, 1), *_up_padding(height, 1)) if padding is None else (*padding, *padding)
        super().__init__(taps, padding=full, kernel=kernel)


class SkipSum(nn.Module):
    """Adds the image so far to a new image, after resampling it to the new image's size.

    For a factor 2^n, the same on both axes, `Upsample2d` is applied n times. Other sizes are interpolated: bilinear,
    with a low-pass filter where the image shrinks.

    Args:
        kernel: Name of the op's kernel, "auto" or "tune"; see `Op.bind`.
    """

    def __init__(self, *, kernel: str = "auto") -> None:
        super().__init__()
        self.upsample = Upsample2d(kernel=kernel)

    def forward(
        self, image: Float[Tensor, "b k h w"], so_far: Float[Tensor, "b k i j"] | None = None
    ) -> Float[Tensor, "b k h w"]:
        if so_far is None:
            return image
        check_nchw(self, so_far, image.shape[1], name="image", like=image)
        (height, width), (low_height, low_width) = image.shape[2:], so_far.shape[2:]
        factor = height // low_height
        if (height, width) != (low_height * factor, low_width * factor) or factor & (factor - 1):
            if so_far.shape[0]:
                so_far = F.interpolate(so_far, size=(height, width), mode="bilinear", antialias=True)
            else:  # PyTorch's CUDA kernel takes no empty batch
                so_far = so_far[:, :, :1, :1].expand(-1, -1, height, width)
        while so_far.shape[2] < height:
            so_far = self.upsample(so_far)
        return image + so_far


def _size(taps: Taps) -> tuple[int, int]:
    first = taps[0]
    return (len(taps), len(first)) if isinstance(first, Sequence) else (len(taps), len(taps))


def _up_padding(taps: int, factor: int) -> tuple[int, int]:
    """Padding (before, after) of an axis for upsampling; with factor 1 for filtering."""
    return (taps + factor - 1) // 2, (taps - factor) // 2


def _down_padding(taps: int, factor: int) -> tuple[int, int]:
    """Padding (before, after) of an axis for downsampling."""
    return (taps - factor + 1) // 2, (taps - factor) // 2
