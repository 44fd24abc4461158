"""Resampling by a filter: insert zeros, pad, convolve, keep every n-th pixel.

The operation and its name follow StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958, appendix B.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from registry import Kernel, Op

Pair = int | tuple[int, int]
Padding = tuple[int, int, int, int]


class Reference(Kernel):
    """The four steps one after the other; a filter of one dimension is its own outer product."""

    op, name, second_order = "upfirdn2d", "reference", True

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
        """Resample each channel of a map alike.

        Args:
            x: The map.
            filter: Taps [fh,fw], or [f] for both axes in turn.
            up: Each pixel is followed by up - 1 zeros; a pair is (horizontal, vertical), in the order of `padding`.
            down: Of the filtered map, every `down`-th pixel is kept, from the first.
            padding: Zeros (left, right, top, bottom) around the map with its inserted zeros; negative crops.
            gain: Factor of the result.
            flip_filter: Correlate instead of convolve.
        """
        (up_x, up_y), (down_x, down_y) = pair(up), pair(down)
        channels, height, width = x.shape[1:]
        with_zeros = F.pad(x[:, :, :, None, :, None], (0, up_x - 1, 0, 0, 0, up_y - 1))
        padded = F.pad(with_zeros.reshape(-1, channels, height * up_y, width * up_x), padding)
        taps = (filter if filter.ndim == 2 else torch.outer(filter, filter)).to(x.dtype) * gain
        taps = taps if flip_filter else taps.flip(0, 1)  # conv2d correlates
        return F.conv2d(padded, taps.expand(channels, 1, -1, -1), stride=(down_y, down_x), groups=channels)


class Transposed(Kernel):
    """Upsampling as a transposed convolution, which never touches the inserted zeros: 2 to 3 times faster on CPUs."""

    op, name, priority, second_order = "upfirdn2d", "transposed", 10, True

    def unsupported(self, x: Tensor, filter: Tensor, *, up: Pair = 1, down: Pair = 1, **_: object) -> list[str]:
        reasons = []
        if pair(up) == (1, 1) or pair(down) != (1, 1):
            reasons.append("only upsamples")
        if filter.ndim != 2:
            reasons.append("needs a filter of two dimensions")
        if x.device.type != "cpu":
            reasons.append("runs on CPUs only: elsewhere transposed convolutions with a group per channel are slow")
        return reasons

    def run(
        self,
        x: Tensor,
        filter: Tensor,
        *,
        up: Pair = 1,
        down: Pair = 1,
        padding: Padding = (0, 0, 0, 0),
        gain: float = 1.0,
        flip_filter: bool = False,
    ) -> Tensor:
        (up_x, up_y), (height, width) = pair(up), filter.shape
        taps = filter.to(x.dtype) * gain
        taps = (taps.flip(0, 1) if flip_filter else taps).expand(x.shape[1], 1, -1, -1)
        full = F.conv_transpose2d(x, taps, stride=(up_y, up_x), groups=x.shape[1])
        # `full` is what padding by taps - 1 on all sides gives, less the up - 1 zeros after the last pixel
        left, right, top, bottom = padding
        return F.pad(full, (left - width + 1, right - width + up_x, top - height + 1, bottom - height + up_y))


class Linear(Kernel):
    """Its own derivative: the adjoint of a resampling is a resampling, so that any derivative costs what it has to.

    Autograd would take convolutions' derivatives for the filter too, which is constant: 1.5 to 2 times slower on CPUs.
    """

    op, name, priority, second_order = "upfirdn2d", "linear", 20, True

    def unsupported(self, x: Tensor, filter: Tensor, *, up: Pair = 1, down: Pair = 1, **_: object) -> list[str]:
        reasons = []
        if filter.ndim != 2:
            reasons.append("needs a filter of two dimensions")
        if filter.requires_grad:
            reasons.append("gives no gradient of the filter")
        if pair(up) != (1, 1) and pair(down) != (1, 1):
            reasons.append("either up or down")
        if x.device.type != "cpu":
            reasons.append("runs on CPUs only: elsewhere transposed convolutions with a group per channel are slow")
        if torch.compiler.is_compiling():
            reasons.append("a derivative that contains itself cannot be traced")
        return reasons

    def run(
        self,
        x: Tensor,
        filter: Tensor,
        *,
        up: Pair = 1,
        down: Pair = 1,
        padding: Padding = (0, 0, 0, 0),
        gain: float = 1.0,
        flip_filter: bool = False,
    ) -> Tensor:
        taps = filter.to(x.dtype) * gain
        with torch.autocast(x.device.type, enabled=False):  # backward has none either, and needs the dtype of forward
            return resampled(x, taps.flip(0, 1) if flip_filter else taps, pair(up), pair(down), padding)


class Resampling(torch.autograd.Function):
    """Up or down by a constant filter; the derivative is the same with up and down exchanged and the filter turned."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, taps: Tensor, up: tuple[int, int], down: tuple[int, int], padding: Padding) -> Tensor:
        (up_x, up_y), (down_x, down_y), (height, width) = up, down, taps.shape
        left, right, top, bottom = padding
        channels, weight = x.shape[1], taps.expand(x.shape[1], 1, -1, -1)
        if up == (1, 1):
            even = left == right >= 0 and top == bottom >= 0
            x = x if even else F.pad(x, padding)
            return F.conv2d(
                x, weight.flip(2, 3), stride=(down_y, down_x), padding=(top, left) if even else 0, groups=channels
            )
        # what a transposed convolution gives beyond what padding asks for
        before_y, before_x = height - 1 - top, width - 1 - left
        short_y, short_x = before_y - (height - up_y - bottom), before_x - (width - up_x - right)
        if min(before_y, before_x) >= 0 and 0 <= short_y < up_y and 0 <= short_x < up_x:
            crop, more = (before_y, before_x), (short_y, short_x)
            return F.conv_transpose2d(x, weight, None, (up_y, up_x), crop, more, channels)
        full = F.conv_transpose2d(x, weight, None, (up_y, up_x), 0, 0, channels)
        return F.pad(full, (-before_x, right - width + up_x, -before_y, bottom - height + up_y))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, taps, ctx.up, ctx.down, ctx.padding = inputs
        ctx.save_for_backward(taps)
        ctx.sizes = (*x.shape[2:], *output.shape[2:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (taps,), (left, _, top, _) = ctx.saved_tensors, ctx.padding
        (up_x, up_y), (down_x, down_y) = ctx.up, ctx.down
        rows, columns, rows_after, columns_after = ctx.sizes
        before_x, before_y = taps.shape[1] - 1 - left, taps.shape[0] - 1 - top
        padding = (
            *(before_x, columns * up_x - columns_after * down_x + left - up_x + 1),
            *(before_y, rows * up_y - rows_after * down_y + top - up_y + 1),
        )
        return resampled(gradient, taps.flip(0, 1), ctx.down, ctx.up, padding), None, None, None, None


resampled: Callable[..., Tensor] = Resampling.apply


class Separable(Kernel):
    """A long filter of one dimension, along one axis and then along the other."""

    op, name, priority, second_order = "upfirdn2d", "separable", 10, True

    def unsupported(self, x: Tensor, filter: Tensor, **_: object) -> list[str]:
        if filter.ndim != 1:
            return ["needs a filter of one dimension"]
        return ["pays from 8 taps on"] if len(filter) < 8 else []

    def run(
        self,
        x: Tensor,
        filter: Tensor,
        *,
        up: Pair = 1,
        down: Pair = 1,
        padding: Padding = (0, 0, 0, 0),
        gain: float = 1.0,
        flip_filter: bool = False,
    ) -> Tensor:
        (up_x, up_y), (down_x, down_y) = pair(up), pair(down)
        left, right, top, bottom = padding
        sides, ends = (left, right, 0, 0), (0, 0, top, bottom)
        row, column = filter[None, :] * gain, filter[:, None]
        x = reference.run(x, row, up=(up_x, 1), down=(down_x, 1), padding=sides, flip_filter=flip_filter)
        return reference.run(x, column, up=(1, up_y), down=(1, down_y), padding=ends, flip_filter=flip_filter)


def pair(value: Pair) -> tuple[int, int]:
    """(horizontal, vertical); one number stands for both."""
    return (value, value) if isinstance(value, int) else value


reference = Reference()
upfirdn2d = Op("upfirdn2d", reference, Linear(), Transposed(), Separable())
