"""Resampling whose derivative is a resampling again.

The adjoint exchanges the up- and downsampling factors and flips the filter. Autograd would also compute gradients of
the filter, which is constant: 1.5 to 2 times slower on CPUs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.common.autocast import no_autocast
from blocks.ops.upfirdn2d.reference import Padding, Pair, pair
from registry import Kernel


class Linear(Kernel):
    """Up- or downsampling by a constant 2-D filter; differentiable any number of times."""

    op, name, priority, second_order = "upfirdn2d", "linear", 20, True

    def unsupported(self, x: Tensor, filter: Tensor, *, up: Pair = 1, down: Pair = 1, **_: object) -> list[str]:
        reasons = []
        if filter.ndim != 2:
            reasons.append("needs a filter of two dimensions")
        if filter.requires_grad:
            reasons.append("computes no gradient of the filter")
        if pair(up) != (1, 1) and pair(down) != (1, 1):
            reasons.append("upsamples or downsamples, not both at once")
        if x.device.type not in ("cpu", "meta"):  # on meta, estimates of memory
            reasons.append(f"runs on CPUs only: depthwise transposed convolutions are slow on {x.device.type}")
        if torch.compiler.is_compiling():
            reasons.append("torch.compile cannot trace a derivative that calls itself")
        return reasons

    def run(
        self,
        x: Float[Tensor, "b c h w"],
        filter: Float[Tensor, "fh fw"],
        *,
        up: Pair = 1,
        down: Pair = 1,
        padding: Padding = (0, 0, 0, 0),
        gain: float = 1.0,
        flip_filter: bool = False,
    ) -> Float[Tensor, "b c i j"]:
        taps = filter.to(x.dtype) * gain
        with no_autocast(x):  # backward runs without it, and needs forward's dtype
            return resample(x, taps.flip(0, 1) if flip_filter else taps, pair(up), pair(down), padding)


def adjoint_padding(
    taps: tuple[int, int],
    sizes: tuple[int, int, int, int],
    up: tuple[int, int],
    down: tuple[int, int],
    padding: Padding,
) -> Padding:
    """Padding of the adjoint of a resampling, which exchanges `up` and `down`.

    Args:
        taps: Width and height of the filter.
        sizes: Height and width of the map and of the result.
        up: Upsampling factors (horizontal, vertical).
        down: Downsampling factors.
        padding: Of the resampling.
    """
    (up_x, up_y), (down_x, down_y), (left, _, top, _) = up, down, padding
    height, width, out_height, out_width = sizes
    return (
        *(taps[0] - 1 - left, width * up_x - out_width * down_x + left - up_x + 1),
        *(taps[1] - 1 - top, height * up_y - out_height * down_y + top - up_y + 1),
    )


class Resampling(torch.autograd.Function):
    """Upsampling or downsampling by a constant filter."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, taps: Tensor, up: tuple[int, int], down: tuple[int, int], padding: Padding) -> Tensor:
        (up_x, up_y), (down_x, down_y), (height, width) = up, down, taps.shape
        left, right, top, bottom = padding
        channels, weight = x.shape[1], taps.expand(x.shape[1], 1, -1, -1)
        if up == (1, 1):
            symmetric = left == right >= 0 and top == bottom >= 0
            x = x if symmetric else F.pad(x, padding)
            return F.conv2d(
                x, weight.flip(2, 3), stride=(down_y, down_x), padding=(top, left) if symmetric else 0, groups=channels
            )
        # what a transposed convolution without padding computes before and after the region that `padding` keeps
        before_y, before_x = height - 1 - top, width - 1 - left
        short_y, short_x = before_y - (height - up_y - bottom), before_x - (width - up_x - right)
        if min(before_y, before_x) >= 0 and 0 <= short_y < up_y and 0 <= short_x < up_x:
            crop, output_padding = (before_y, before_x), (short_y, short_x)
            return F.conv_transpose2d(x, weight, None, (up_y, up_x), crop, output_padding, channels)
        full = F.conv_transpose2d(x, weight, None, (up_y, up_x), 0, 0, channels)
        return F.pad(full, (-before_x, right - width + up_x, -before_y, bottom - height + up_y))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, taps, ctx.up, ctx.down, ctx.padding = inputs
        ctx.save_for_backward(taps)
        ctx.sizes = (*x.shape[2:], *output.shape[2:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (taps,) = ctx.saved_tensors
        padding = adjoint_padding((taps.shape[1], taps.shape[0]), ctx.sizes, ctx.up, ctx.down, ctx.padding)
        return resample(gradient, taps.flip(0, 1), ctx.down, ctx.up, padding), None, None, None, None


resample: Callable[..., Tensor] = Resampling.apply
