"""Registers the metrics that need this package's data."""

from __future__ import annotations

from ganblocks.metrics.digit import DigitDistance
from registry import Register, hookimpl


@hookimpl
def register_blocks(register: Register) -> None:
    register(DigitDistance)
