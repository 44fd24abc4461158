"""The divisors that errors suggest."""

from __future__ import annotations

import time

import pytest

from blocks.common.divisors import nearest_divisors


@pytest.mark.parametrize(
    ("number", "wanted", "text"), [(64, 7, "4 or 8"), (12, 32, "12"), (20, 8, "5 or 10"), (7, 2, "1 or 7"), (6, 3, "3")]
)
def test_the_nearest_divisors_below_and_above_are_named(number: int, wanted: int, text: str) -> None:
    assert nearest_divisors(number, wanted) == text


def test_divisors_of_large_numbers_take_no_time() -> None:
    start = time.process_time()
    assert nearest_divisors(2**31 - 1, 1000) == "1 or 2147483647"
    assert time.process_time() - start < 1
