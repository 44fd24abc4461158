"""Positions as sinusoids of many wave lengths, along two axes.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.5; on grids: Xu et al. 2021, https://arxiv.org/abs/2012.05217.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


def sinusoids(length: int, dim: int) -> Float[Tensor, "length dim"]:
    """Sines and then cosines of the positions 1, 2, ..., with dim / 2 frequencies from 1 down to 1/10000.

    In float32 whatever the default: models were trained with these numbers, at position 1000 as far as 3e-5 from exact.
    """
    positions, steps = torch.arange(1, length + 1, dtype=torch.float32), torch.arange(dim // 2, dtype=torch.float32)
    frequencies = torch.exp(steps * -(math.log(10000) / (dim // 2 - 1)))
    angles = positions[:, None] * frequencies
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)


class SinusoidalGrid(nn.Module):
    """Where each pixel of a grid is: [H,W,C], the first half of C by its column, the second by its row.

    Args:
        dim: Channels C, a multiple of 4 from 8 on.
        resolution: Height H and width W of the grid.
    """

    columns: Tensor
    rows: Tensor

    def __init__(self, dim: int, resolution: tuple[int, int]) -> None:
        super().__init__()
        height, width = resolution
        self.register_buffer("columns", sinusoids(width, dim // 2), persistent=False)
        self.register_buffer("rows", sinusoids(height, dim // 2), persistent=False)

    def forward(self) -> Float[Tensor, "h w c"]:
        (width, half), height = self.columns.shape, len(self.rows)
        across = self.columns[None].expand(height, width, half)
        return torch.cat([across, self.rows[:, None].expand(height, width, half)], dim=-1)


class LearnedFourier(nn.Module):
    """Learned Fourier features of each pixel's place: [H,W,C], sin(A p + a) with p = (column, row) in [-1,1]^2.

    ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589, section 3.3; after CIPS, https://arxiv.org/abs/2011.13775.

    Args:
        dim: Features C of a pixel.
        resolution: Height and width of the grid, whose outer pixels lie at -1 and 1.
    """

    places: Tensor

    def __init__(self, dim: int, resolution: tuple[int, int]) -> None:
        super().__init__()
        rows, columns = (torch.linspace(-1, 1, size) for size in resolution)
        places = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
        self.register_buffer("places", places, persistent=False)
        self.linear = nn.Linear(2, dim)
        nn.init.uniform_(self.linear.weight, -math.sqrt(9 / 2), math.sqrt(9 / 2))

    def forward(self) -> Float[Tensor, "h w c"]:
        return torch.sin(self.linear(self.places))
