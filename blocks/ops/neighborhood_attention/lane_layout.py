"""The columns of a row as lanes of vectors, for `compiled.cpp`.

Columns are laid out dilation group after dilation group, so that the keys of a window are contiguous. Padding makes
each group begin at a lane from which the keys of 16 neighbouring queries can be loaded at once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from blocks.ops.neighborhood_attention.windows import window_starts

LANES = 16
CPU = torch.device("cpu")


class LaneLayout(NamedTuple):
    """The padded positions of a row; int32 tensors on the CPU.

    Fields:
        column: The column at each position, or -1 for padding.
        window_start: The position where the window of each position begins.
        load_start: For each vector, the position that its keys are loaded from.
        permutation: For each vector, the lane of that load that holds each lane's key.
        in_order: For each vector, whether the permutation is the identity.
        first_query: The position of the first query of a row that attends to each position.
        last_query: The position of the last one.
    """

    column: Int[Tensor, " p"]
    window_start: Int[Tensor, " p"]
    load_start: Int[Tensor, " v"]
    permutation: Int[Tensor, "v 16"]
    in_order: Int[Tensor, " v"]
    first_query: Int[Tensor, " p"]
    last_query: Int[Tensor, " p"]


@lru_cache(maxsize=256)
def lane_layout(width: int, kernel_size: int, dilation: int) -> LaneLayout:
    """The layout of a row of `width` columns."""
    group, index, start = window_starts(width, kernel_size, dilation, CPU)
    longest = -(-width // dilation)
    whole_vectors = -(-longest // LANES) * LANES
    stride = next((short for short in (4, 8) if short >= max(longest, kernel_size)), whole_vectors)
    total = -(-stride * dilation // LANES) * LANES
    position = group * stride + index

    def spread(columns: Int[Tensor, " w"], padding: int) -> Int[Tensor, " p"]:
        positions = torch.full((total,), padding, dtype=torch.int64, device=CPU)
        positions[position] = columns
        return positions

    column = spread(torch.arange(width, device=CPU), -1)
    starts = spread(group * stride + start, 0)
    by_vector, used = starts.view(-1, LANES), (column >= 0).view(-1, LANES)
    load_start = by_vector.masked_fill(~used, total).amin(1).where(used.any(1), 0)
    permutation = (by_vector - load_start[:, None]).where(used, 0)
    in_order = (permutation == torch.arange(LANES, device=CPU)).all(1)
    members = (width - group + dilation - 1) // dilation
    first = torch.where(index < kernel_size, 0, index - kernel_size // 2)
    last = torch.where(index >= members - kernel_size, members - 1, index + kernel_size // 2)
    queries = (spread(group * stride + end, 0) for end in (first, last))
    tables = (column, starts, load_start, permutation, in_order, *queries)
    return LaneLayout(*(table.to(torch.int32).contiguous() for table in tables))


def bias_by_position(bias: Float[Tensor, "n r r"], layout: LaneLayout, kernel_size: int) -> Float[Tensor, "n v r k 16"]:
    """The bias of each vector's logits, for each row of the bias table and each key of a window's row."""
    return bias.float()[:, :, _table_columns(layout, kernel_size)].permute(0, 2, 1, 4, 3).contiguous()


def bias_gradient(
    gradient: Float[Tensor, "n v r k 16"], layout: LaneLayout, kernel_size: int
) -> Float[Tensor, "n r r"]:
    """The adjoint of `bias_by_position`; the gradient of padding is zero."""
    side = 2 * kernel_size - 1
    values = gradient.permute(0, 2, 1, 4, 3).flatten(2)
    index = _table_columns(layout, kernel_size).flatten()
    return values.new_zeros(*values.shape[:2], side).index_add_(2, index, values)


def _table_columns(layout: LaneLayout, kernel_size: int) -> Int[Tensor, "v 16 k"]:
    """The column of the bias table for each position and each key of its window's row."""
    padding = layout.column < 0
    position = torch.arange(layout.column.shape[0], device=CPU)
    first = (layout.window_start - position + kernel_size - 1).masked_fill(padding, 0).view(-1, LANES)
    return first[..., None] + torch.arange(kernel_size, device=CPU)
