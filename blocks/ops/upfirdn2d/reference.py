"""Resampling in the four steps of its name."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from registry import Kernel

Pair = int | tuple[int, int]
Padding = tuple[int, int, int, int]


def pair(value: Pair) -> tuple[int, int]:
    """(horizontal, vertical) of one number or two."""
    return (value, value) if isinstance(value, int) else value


class Reference(Kernel):
    """Insert zeros, pad, convolve, subsample; a 1-D filter is expanded to its outer product with itself."""

    op, name = "upfirdn2d", "reference"
    second_order, forward_ad = True, True

    def run(
        self,
        x: Float[Tensor, "b c h w"],
        filter: Float[Tensor, "*taps"],
        *,
        up: Pair = 1,
        down: Pair = 1,
        padding: Padding = (0, 0, 0, 0),
        gain: float = 1.0,
        flip_filter: bool = False,
    ) -> Float[Tensor, "b c i j"]:
        """Resample every channel of a map with the same filter.

        Args:
            x: The map.
            filter: Taps [fh,fw], or [f] for both axes in turn.
            up: Upsampling factor: up - 1 zeros follow each pixel. A pair is (horizontal, vertical), as in `padding`.
            down: Downsampling factor: every `down`-th pixel of the filtered map is kept, starting with the first.
            padding: Zeros (left, right, top, bottom) around the upsampled map; negative values crop.
            gain: Factor of the result.
            flip_filter: Correlate instead of convolve.
        """
        (up_x, up_y), (down_x, down_y) = pair(up), pair(down)
        batch, channels, height, width = x.shape
        with_zeros = F.pad(x[:, :, :, None, :, None], (0, up_x - 1, 0, 0, 0, up_y - 1))
        padded = F.pad(with_zeros.reshape(batch, channels, height * up_y, width * up_x), padding)
        taps = (filter if filter.ndim == 2 else torch.outer(filter, filter)).to(x.dtype) * gain
        taps = taps if flip_filter else taps.flip(0, 1)  # conv2d correlates
        return F.conv2d(padded, taps.expand(channels, 1, -1, -1), stride=(down_y, down_x), groups=channels)
