"""Half a cosine from one value to another: the burn-in of R3GAN.

SGDR, Loshchilov and Hutter 2016, https://arxiv.org/abs/1608.03983, section 3; R3GAN, Huang et al. 2024,
https://arxiv.org/abs/2501.05441, changes learning rate, beta2, gamma, augmentation and averaging by it.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat
from torch import Tensor

from blocks.families import Schedule
from registry import incompatible

NonNegative = Annotated[float, Field(ge=0)]


class CosineSchedule(Schedule, kind="cosine"):
    """final + (init - final) (1 + cos(pi t)) / 2, t rising from 0 to 1 at `kimg` thousand images; then final.

    A linear warm-up from `warmup_init` to init and a time at init may precede; t then starts after them.

    Args:
        init: First value, after the warm-up.
        final: Last value.
        kimg: Thousands of images after which the value is final, warm-up included.
        warmup_kimg: Thousands of images of the warm-up.
        warmup_init: First value of the warm-up.
        hold_kimg: Thousands of images at init after the warm-up.

    Raises:
        IncompatibleError: Warm-up and hold take longer than `kimg`.
    """

    examples: ClassVar = (
        {"spec": {"init": 2e-4, "final": 5e-5, "kimg": 2}},
        {"spec": {"init": 1.0, "final": 0.1, "kimg": 2, "warmup_kimg": 0.5, "warmup_init": 0.2, "hold_kimg": 0.5}},
    )

    def __init__(
        self,
        *,
        init: float,
        final: float,
        kimg: PositiveFloat,
        warmup_kimg: NonNegative = 0.0,
        warmup_init: float = 0.0,
        hold_kimg: NonNegative = 0.0,
    ) -> None:
        super().__init__()
        if warmup_kimg + hold_kimg >= kimg:
            fact = f"{kimg:g} leaves no time for the cosine after {warmup_kimg + hold_kimg:g} of warm-up and hold"
            raise incompatible("kimg", f"{fact}; take more than {warmup_kimg + hold_kimg:g}")
        self.init, self.final, self.kimg = init, final, kimg
        self.warmup_kimg, self.warmup_init, self.start_kimg = warmup_kimg, warmup_init, warmup_kimg + hold_kimg

    def forward(self, images: Float[Tensor, ...]) -> Float[Tensor, ...]:
        kimg = images / 1000
        fraction = ((kimg - self.start_kimg) / (self.kimg - self.start_kimg)).clamp(0, 1)
        value = self.final + (self.init - self.final) * (1 + torch.cos(math.pi * fraction)) / 2
        if not self.warmup_kimg:
            return value
        warmup = self.warmup_init + (self.init - self.warmup_init) * (kimg / self.warmup_kimg)
        return torch.where(kimg < self.warmup_kimg, warmup, value)

    def bounds(self) -> tuple[float, float]:
        values = [self.init, self.final, *([self.warmup_init] if self.warmup_kimg else [])]
        return min(values), max(values)
