"""Example schedule: exponential decay.

Name the paper here, with its address: `ganblocks blocks` shows it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from blocks.families import Schedule


class Example(Schedule, kind="example"):
    """init times 2^(-images / half_life).

    Args:
        init: First value.
        half_life_kimg: Thousands of images after which the value is half as large.
    """

    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"init": 0.5}},)

    def __init__(self, *, init: PositiveFloat, half_life_kimg: PositiveFloat = 1.0) -> None:
        super().__init__()
        self.init, self.half_life_kimg = init, half_life_kimg

    def forward(self, images: Float[Tensor, ...]) -> Float[Tensor, ...]:
        return self.init * 2 ** (-images / (1000 * self.half_life_kimg))

    def bounds(self) -> tuple[float, float]:
        return 0.0, self.init
