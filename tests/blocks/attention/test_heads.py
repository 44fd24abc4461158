"""Shared parts of attention blocks with heads."""

from __future__ import annotations

import pytest

from blocks.attention.heads import split_heads


@pytest.mark.parametrize(
    ("heads", "partitions", "expected"), [(7, 3, (2, 2, 3)), (8, 6, (1, 1, 1, 1, 2, 2)), (4, 2, (2, 2))]
)
def test_the_last_partitions_get_the_remaining_heads(heads, partitions, expected):
    assert split_heads(heads, partitions) == expected
