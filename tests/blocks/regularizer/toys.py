"""Networks with gradients known in closed form."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from blocks.families import Networks


def images(seed: int, num: int = 4) -> Tensor:
    return torch.rand(num, 3, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


class Linear(nn.Module):
    """D(x) = <a, x> + c, of gradient a; counts its calls."""

    def __init__(self, num_logits: int = 1) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.slope = nn.Parameter(torch.randn(60, num_logits, generator=generator, dtype=torch.float64))
        self.calls = 0

    def forward(self, image: Tensor, c: Tensor | None = None) -> Tensor:
        self.calls += 1
        logits = image.flatten(1) @ self.slope
        return logits if c is None else logits + c


class Quadratic(nn.Module):
    """D(x) = k |x|^2 / 2, of gradient k x."""

    def __init__(self) -> None:
        super().__init__()
        self.k = nn.Parameter(torch.tensor(3.0, dtype=torch.float64))

    def forward(self, image: Tensor, c: Tensor | None = None) -> Tensor:
        return self.k * image.square().sum(dim=(1, 2, 3)) / 2


def networks(discriminator: Callable[..., Tensor], augment: Callable[[Tensor], Tensor] | None = None) -> Networks:
    return Networks(nn.Identity(), discriminator, augment or nn.Identity())
