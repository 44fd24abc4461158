"""Neighborhood attention reports incompatible windows under its own option names."""

from __future__ import annotations

import pytest

from blocks.attention.neighborhood import NeighborhoodAttention
from registry import IncompatibleError


@pytest.mark.parametrize(
    ("resolution", "options", "problems"),
    [
        ((8, 5), {}, {"kernel_size": "window 7 > 5 px; at most 5 fits"}),
        (8, {"dilation": 2}, {"dilation": "2 x window 7 > 8 px; at most 1 fits"}),
        (8, {"num_heads": 8}, {"num_heads": "20 channels do not split evenly over 8 heads; take 5 or 10"}),
    ],
    ids=str,
)
def test_incompatible_options_are_reported_under_their_own_names(resolution, options, problems):
    with pytest.raises(IncompatibleError) as caught:
        NeighborhoodAttention(20, resolution, **{"num_heads": 4, **options})
    assert {problem.location: problem.message for problem in caught.value.problems} == problems
