"""A long 1-D filter along one axis and then along the other."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from blocks.ops.upfirdn2d.reference import Padding, Pair, Reference, pair
from registry import Kernel

FEWEST_TAPS = 8  # with fewer, one pass with the outer product is as fast


class Separable(Kernel):
    """Two passes with a 1-D filter instead of one with its outer product."""

    op, name, priority = "upfirdn2d", "separable", 10
    second_order, forward_ad = True, True

    def unsupported(self, x: Tensor, filter: Tensor, **_: object) -> list[str]:
        if filter.ndim != 1:
            return ["needs a filter of one dimension"]
        return [] if filter.shape[0] >= FEWEST_TAPS else [f"only pays off from {FEWEST_TAPS} taps on"]

    def run(
        self,
        x: Float[Tensor, "b c h w"],
        filter: Float[Tensor, " f"],
        *,
        up: Pair = 1,
        down: Pair = 1,
        padding: Padding = (0, 0, 0, 0),
        gain: float = 1.0,
        flip_filter: bool = False,
    ) -> Float[Tensor, "b c i j"]:
        (up_x, up_y), (down_x, down_y) = pair(up), pair(down)
        left, right, top, bottom = padding
        across, along = (left, right, 0, 0), (0, 0, top, bottom)
        row, column, resample = filter[None, :] * gain, filter[:, None], Reference().run
        x = resample(x, row, up=(up_x, 1), down=(down_x, 1), padding=across, flip_filter=flip_filter)
        return resample(x, column, up=(1, up_y), down=(1, down_y), padding=along, flip_filter=flip_filter)
