"""How much the tests try: a few cases by default, all of them and the longest tests with GANBLOCKS_FULL=1."""

from __future__ import annotations

import os

import pytest

FULL = os.environ.get("GANBLOCKS_FULL") == "1"
SEED = 20261127


def number_of_cases(few: int, full: int) -> int:
    return full if FULL else few


def only_in_full(cost: str) -> pytest.MarkDecorator:
    """Skips a test unless GANBLOCKS_FULL=1 is set; `cost` says what it takes."""
    return pytest.mark.skipif(not FULL, reason=f"takes {cost}; set GANBLOCKS_FULL=1")
