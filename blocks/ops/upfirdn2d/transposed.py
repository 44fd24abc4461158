"""Upsampling as a transposed convolution."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.ops.upfirdn2d.reference import Padding, Pair, pair
from registry import Kernel


class Transposed(Kernel):
    """A transposed convolution, which skips the inserted zeros: 2 to 3 times faster on CPUs."""

    op, name, priority = "upfirdn2d", "transposed", 10
    second_order, forward_ad = True, True

    def unsupported(self, x: Tensor, filter: Tensor, *, up: Pair = 1, down: Pair = 1, **_: object) -> list[str]:
        reasons = []
        if pair(up) == (1, 1) or pair(down) != (1, 1):
            reasons.append("only upsamples")
        if filter.ndim != 2:
            reasons.append("needs a filter of two dimensions")
        if x.device.type != "cpu":
            reasons.append(f"runs on CPUs only: depthwise transposed convolutions are slow on {x.device.type}")
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
        (up_x, up_y), (height, width) = pair(up), filter.shape
        taps = filter.to(x.dtype) * gain
        taps = (taps.flip(0, 1) if flip_filter else taps).expand(x.shape[1], 1, -1, -1)
        full = F.conv_transpose2d(x, taps, stride=(up_y, up_x), groups=x.shape[1])
        # `full` has padding by taps - 1 on all sides, without the up - 1 zeros after the last pixel
        left, right, top, bottom = padding
        return F.pad(full, (left - width + 1, right - width + up_x, top - height + 1, bottom - height + up_y))
