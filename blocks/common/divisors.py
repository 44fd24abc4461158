"""Divisors of channel counts, for errors about channels that do not divide evenly."""

from __future__ import annotations


def nearest_divisors(number: int, wanted: int) -> str:
    """The divisors of `number` next to `wanted` as text: "4 or 8" for 64 and 7, "12" for 12 and 32."""
    below = [divisor for divisor in range(1, min(number, wanted) + 1) if number % divisor == 0]
    above = [divisor for divisor in range(wanted, number + 1) if number % divisor == 0]
    return " or ".join(str(divisor) for divisor in dict.fromkeys([*below[-1:], *above[:1]]))
