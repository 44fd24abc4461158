"""Values that change at once, such as a learning rate that is divided by 10 at certain epochs.

He et al. 2015, https://arxiv.org/abs/1512.03385, section 3.4.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat
from torch import Tensor

from blocks.families import Schedule
from registry import incompatible


class StepSchedule(Schedule, kind="step"):
    """values[0] at first, values[i] from kimg[i-1] thousand images on.

    Args:
        values: The values, one more than changes.
        kimg: Thousands of images at each change, increasing.

    Raises:
        IncompatibleError: The numbers of values and changes do not fit, or the changes do not increase.
    """

    examples: ClassVar = ({"spec": {"values": [1.0, 0.1, 0.01], "kimg": [0.5, 1.5]}},)

    def __init__(
        self,
        *,
        values: Annotated[tuple[float, ...], Field(min_length=1)],
        kimg: tuple[PositiveFloat, ...],
    ) -> None:
        super().__init__()
        if len(values) != len(kimg) + 1:
            raise incompatible("values", f"{len(values)} values for {len(kimg)} changes; give {len(kimg) + 1}")
        if any(first >= second for first, second in pairwise(kimg)):
            raise incompatible("kimg", f"{list(kimg)} does not increase; sort the changes")
        self.values, self.kimg = values, kimg

    def forward(self, images: Float[Tensor, ...]) -> Float[Tensor, ...]:
        value = torch.full_like(images, self.values[0])
        for start, following in zip(self.kimg, self.values[1:], strict=True):
            value = torch.where(images / 1000 >= start, following, value)
        return value

    def bounds(self) -> tuple[float, float]:
        return min(self.values), max(self.values)
