"""Registers the metrics that need this package's data."""

from __future__ import annotations

from ganblocks.metrics.classifier.digits import DigitDistance
from ganblocks.metrics.classifier.emoji import EmojiDistance
from registry import Register, hookimpl


@hookimpl
def register_blocks(register: Register) -> None:
    register(DigitDistance)
    register(EmojiDistance)
