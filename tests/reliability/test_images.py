"""Hostile images are decoded or skipped with a reason, in little time and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ganblocks.data.decode import FILTERS, decode
from tests.budget import SEED, number_of_cases
from tests.reliability.images import hostile_images
from tests.reliability.sandbox import failures, run_sandboxed, summary


@pytest.mark.slow
def test_hostile_images_are_decoded_or_skipped(tmp_path: Path) -> None:
    def decode_one(case: tuple[str, str, bytes]) -> None:
        name, suffix, content = case
        path = tmp_path / f"image.{suffix}"
        path.write_bytes(content)
        number = sum(map(ord, name))
        resize_filter: Any = list(FILTERS)[number % len(FILTERS)]
        pixels = decode(path, (32, 24), (1, 3, 4)[number % 3], resize_filter)
        assert pixels.shape == ((1, 3, 4)[number % 3], 32, 24)

    cases = [(case[0], case) for case in hostile_images(number_of_cases(400, 6000), SEED)]
    outcomes = run_sandboxed(decode_one, cases)
    print(summary(outcomes))
    assert failures(outcomes) == []
    assert sum(each.kind == "used" for each in outcomes) > len(outcomes) / 20
    assert sum(each.kind == "refused" for each in outcomes) > len(outcomes) / 4
