"""How many cases the tests of reliability try: a few by default, all with GANBLOCKS_RELIABILITY=full."""

from __future__ import annotations

import os

FULL = os.environ.get("GANBLOCKS_RELIABILITY") == "full"
SEED = 20261127


def number_of_cases(few: int, full: int) -> int:
    return full if FULL else few
