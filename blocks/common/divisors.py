"""Divisors of channel counts, for errors about channels that do not divide evenly."""

from __future__ import annotations

from math import isqrt


def nearest_divisors(number: int, wanted: int) -> str:
    """The divisors of `number` next to `wanted` as text: "4 or 8" for 64 and 7, "12" for 12 and 32."""
    small = [divisor for divisor in range(1, isqrt(number) + 1) if number % divisor == 0]
    divisors = {*small, *(number // divisor for divisor in small)}
    below = [max(divisor for divisor in divisors if divisor <= wanted)]
    above = [min(divisor for divisor in divisors if divisor >= wanted)] if wanted <= number else []
    return " or ".join(str(divisor) for divisor in dict.fromkeys([*below, *above]))
