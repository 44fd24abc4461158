"""R3GAN's presets have the published sizes, and the small ones learn digits."""

from __future__ import annotations

from pathlib import Path

import pytest

from assemblies import GAN, check, parse, read
from registry import catalogue
from tests.budget import only_in_full
from tests.digits import share_of_the_untrained_score

SIZES = {
    "r3gan-cifar10-32": (32, 20_781_952, 21_280_512),
    "r3gan-ffhq-64": (64, 22_429_824, 22_381_440),
    "r3gan-ffhq-256": (256, 23_057_952, 23_009_568),
    "r3gan-imagenet-32": (32, 82_914_304, 86_548_992),
    "r3gan-imagenet-64": (64, 103_570_432, 107_205_120),
    "mini-r3gan": (16, 324_848, 318_800),
    "mini-r3gan-conditional": (16, 127_344, 124_592),
}


@pytest.mark.parametrize("name", SIZES)
def test_a_preset_is_a_complete_document_with_its_number_of_parameters(name: str) -> None:
    spec = parse(catalogue.presets()[name]())
    assert parse(spec.to_dict()) == spec
    traces = check(spec)
    side, generator, discriminator = SIZES[name]
    assert traces["generator"].image == (3, side, side)
    assert (traces["generator"].parameters, traces["discriminator"].parameters) == (generator, discriminator)


@pytest.mark.slow
def test_the_small_conditional_preset_learns_digits(tmp_path: Path) -> None:
    spec = parse(read("mini-r3gan-conditional", GAN).to_dict() | {"kimg": 1.6})  # about 12 seconds on one thread
    assert share_of_the_untrained_score(spec, tmp_path, 0) < 0.4  # measured: 13, 12 and 20 % (seeds 0, 1 and 2)


@only_in_full("three to eight minutes")
@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", ["mini-r3gan", "mini-r3gan-conditional"])
def test_the_digit_score_is_at_most_2_percent_of_the_untrained_one(name: str, seed: int, tmp_path: Path) -> None:
    assert share_of_the_untrained_score(read(name, GAN), tmp_path, seed) <= 0.02
