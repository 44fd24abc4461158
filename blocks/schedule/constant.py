"""A constant, for programs that always set a schedule."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.families import Schedule


class ConstantSchedule(Schedule, kind="constant"):
    """The same value for the whole training; equivalent to the number itself.

    Args:
        value: The value.
    """

    examples: ClassVar = ({"spec": {"value": 0.5}},)

    def __init__(self, *, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, images: Float[Tensor, ...]) -> Float[Tensor, ...]:
        return torch.full_like(images, self.value)

    def bounds(self) -> tuple[float, float]:
        return self.value, self.value
