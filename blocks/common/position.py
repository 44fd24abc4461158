"""Position embeddings of a grid: sinusoids of fixed frequencies, or learned Fourier features.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.5; on grids: Xu et al. 2021, https://arxiv.org/abs/2012.05217.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from blocks.common.computed_buffer import computed_buffer


def sinusoids(length: int, dim: int) -> Float[Tensor, "length dim"]:
    """Sines and then cosines of the positions 1, 2, ..., with dim / 2 frequencies from 1 to 1/10000.

    Always computed in float32, as in the code that published models were trained with; the rounding error reaches 3e-5
    at position 1000.
    """
    positions, steps = torch.arange(1, length + 1, dtype=torch.float32), torch.arange(dim // 2, dtype=torch.float32)
    frequencies = torch.exp(steps * -(math.log(10000) / (dim // 2 - 1)))
    angles = positions[:, None] * frequencies
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)


class SinusoidalGrid(nn.Module):
    """Position embedding of a grid's pixels: [H,W,C], the first half of C from the column, the second from the row.

    Args:
        dim: Channels C, a multiple of 4, at least 8.
        resolution: Height H and width W of the grid.
    """

    columns: Tensor
    rows: Tensor

    def __init__(self, dim: int, resolution: tuple[int, int]) -> None:
        super().__init__()
        height, width = resolution
        computed_buffer(self, "columns", sinusoids, width, dim // 2)
        computed_buffer(self, "rows", sinusoids, height, dim // 2)

    def forward(self) -> Float[Tensor, "h w c"]:
        (width, half), height = self.columns.shape, len(self.rows)
        columns = self.columns[None].expand(height, width, half)
        return torch.cat([columns, self.rows[:, None].expand(height, width, half)], dim=-1)


class LearnedFourier(nn.Module):
    """Learned Fourier features of each pixel's coordinates: [H,W,C], sin(A p + a) with p = (column, row) in [-1,1]^2.

    ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589, section 3.3; after CIPS, https://arxiv.org/abs/2011.13775.

    Args:
        dim: Features C of a pixel.
        resolution: Height and width of the grid; its outer pixels lie at -1 and 1.
    """

    steps: Tensor
    spans: Tensor

    def __init__(self, dim: int, resolution: tuple[int, int]) -> None:
        super().__init__()
        self.resolution = resolution
        # integers, so that their quotient has the precision of the module's dtype, whatever it was built in
        computed_buffer(self, "steps", grid_steps, resolution)
        computed_buffer(self, "spans", grid_spans, resolution)
        self.linear = nn.Linear(2, dim)
        nn.init.uniform_(self.linear.weight, -math.sqrt(9 / 2), math.sqrt(9 / 2))

    def forward(self) -> Float[Tensor, "h w c"]:
        return torch.sin(self.linear(self.steps / self.spans))


def grid_steps(resolution: tuple[int, int]) -> Float[Tensor, "h w 2"]:
    """Coordinates (column, row) of each pixel in half steps from the centre; `grid_spans` scales them to [-1,1]."""
    rows, columns = (2 * torch.arange(size) - max(size - 1, 1) for size in resolution)
    steps = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
    return steps.to(torch.get_default_dtype())


def grid_spans(resolution: tuple[int, int]) -> Float[Tensor, 2]:
    """Half steps between the centre and an outer pixel, along a row and along a column."""
    return torch.tensor([float(max(size - 1, 1)) for size in reversed(resolution)])


def sine_cosine_grid(dim: int, resolution: tuple[int, int], dtype: torch.dtype | None = None) -> Float[Tensor, "h w c"]:
    """Table of a grid's positions 0, 1, ...: sines and cosines of the column, then of the row, C / 4 frequencies each.

    MAE, He et al. 2021, https://arxiv.org/abs/2111.06377; frequencies from 1 to nearly 1/10000. Computed in float64.

    Args:
        dim: Features C of a position, a multiple of 4.
        resolution: Height and width of the grid.
        dtype: Dtype of the result; None for the default dtype.
    """
    frequencies = 10_000.0 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    height, width = resolution
    rows, columns = (torch.arange(size, dtype=torch.float64)[:, None] * frequencies for size in resolution)
    of_row, of_column = (torch.cat([angles.sin(), angles.cos()], dim=1) for angles in (rows, columns))
    table = torch.cat([of_column[None].expand(height, width, -1), of_row[:, None].expand(height, width, -1)], dim=-1)
    return table.to(torch.get_default_dtype() if dtype is None else dtype)
