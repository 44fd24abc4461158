"""Relative position bias: one value per head and offset, looked up for every pair of pixels.

Swin Transformer, Liu et al. 2021, https://arxiv.org/abs/2103.14030, section 3.2.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor


def relative_bias(
    table: Float[Tensor, "n r s"], rows: Int[Tensor, "h i"], columns: Int[Tensor, "w j"]
) -> Float[Tensor, "n hw ij"]:
    """The bias of each pair of pixels of two maps, looked up in a table of offsets.

    Args:
        table: One value per head, row offset and column offset.
        rows: Index into the table's rows for each pair of rows.
        columns: Index into the table's columns for each pair of columns.
    """
    index = rows[:, None, :, None] * table.shape[2] + columns[None, :, None, :]
    bias = table.flatten(1).index_select(1, index.flatten())  # faster than indexing with two tensors
    return bias.view(-1, *index.shape).flatten(3).flatten(1, 2)
