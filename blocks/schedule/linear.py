"""A linear change from one value to another, as in the warm-up of a learning rate.

Goyal et al. 2017, https://arxiv.org/abs/1706.02677, section 2.2.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from jaxtyping import Float
from pydantic import Field, PositiveFloat
from torch import Tensor

from blocks.families import Schedule


class LinearSchedule(Schedule, kind="linear"):
    """init, then a linear change to final over `kimg` thousand images, then final.

    Args:
        init: First value.
        final: Last value.
        kimg: Thousands of images over which the value changes.
        start_kimg: Thousands of images before the change starts.
    """

    examples: ClassVar = (
        {"spec": {"init": 1.0, "final": 0.1, "kimg": 2}},
        {"spec": {"init": 0.0, "final": 0.5, "kimg": 1, "start_kimg": 0.5}},
    )

    def __init__(
        self, *, init: float, final: float, kimg: PositiveFloat, start_kimg: Annotated[float, Field(ge=0)] = 0.0
    ) -> None:
        super().__init__()
        self.init, self.final, self.kimg, self.start_kimg = init, final, kimg, start_kimg

    def forward(self, images: Float[Tensor, ...]) -> Float[Tensor, ...]:
        fraction = ((images / 1000 - self.start_kimg) / self.kimg).clamp(0, 1)
        return self.init + (self.final - self.init) * fraction

    def bounds(self) -> tuple[float, float]:
        return min(self.init, self.final), max(self.init, self.final)
