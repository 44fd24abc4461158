"""The custom GAN of the examples learns digits."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tests.budget import only_in_full
from tests.digits import share_of_the_untrained_score

EXAMPLE = Path(__file__).parents[2] / "examples" / "build_custom_gan.py"


@only_in_full("four minutes of one core")
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_the_digit_score_is_at_most_1_percent_of_the_untrained_one(seed: int, tmp_path: Path) -> None:
    spec = runpy.run_path(str(EXAMPLE))["HYBRID"]
    assert share_of_the_untrained_score(spec, tmp_path, seed) <= 0.01
