"""The small presets learn the built-in digits at 16 px."""

from __future__ import annotations

from pathlib import Path

import pytest

from assemblies import GAN, parse, read
from tests.budget import only_in_full
from tests.digits import share_of_the_untrained_score

PRESETS = ("mini-styleformer", "mini-stylegan-t", "mini-vitgan")
IN_FULL = only_in_full("two to five minutes of one core")


@pytest.mark.slow
@pytest.mark.parametrize(  # 20 to 60 seconds on one thread; measured: 24, 14 and 8 %
    ("name", "kimg", "bound"),
    [("mini-styleformer", 4.0, 0.4), ("mini-stylegan-t", 4.0, 0.3), ("mini-vitgan", 10.0, 0.2)],
)
def test_a_short_training_of_a_small_preset_learns_digits(name: str, kimg: float, bound: float, tmp_path: Path) -> None:
    spec = parse(read(name, GAN).to_dict() | {"kimg": kimg})
    assert share_of_the_untrained_score(spec, tmp_path, 0) < bound


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("mini-stylenat", 0),  # about 90 seconds on one thread
        *(pytest.param("mini-stylenat", seed, marks=IN_FULL) for seed in (1, 2)),
        *(pytest.param(name, seed, marks=IN_FULL) for name in PRESETS for seed in (0, 1, 2)),
    ],
)
def test_the_digit_score_is_at_most_2_percent_of_the_untrained_one(name: str, seed: int, tmp_path: Path) -> None:
    assert share_of_the_untrained_score(read(name, GAN), tmp_path, seed) <= 0.02
