"""R3GAN's presets have the published sizes."""

from __future__ import annotations

import pytest

from assemblies import check, parse
from registry import catalogue

SIZES = {
    "r3gan-cifar10-32": (32, 20_781_952, 21_280_512),
    "r3gan-ffhq-64": (64, 22_429_824, 22_381_440),
    "r3gan-ffhq-256": (256, 23_057_952, 23_009_568),
    "r3gan-imagenet-32": (32, 82_914_304, 86_548_992),
    "r3gan-imagenet-64": (64, 103_570_432, 107_205_120),
}


@pytest.mark.parametrize("name", SIZES)
def test_a_preset_is_a_complete_document_with_the_published_number_of_parameters(name: str) -> None:
    spec = parse(catalogue.presets()[name]())
    assert parse(spec.to_dict()) == spec
    traces = check(spec)
    side, generator, discriminator = SIZES[name]
    assert traces["generator"].image == (3, side, side)
    assert (traces["generator"].parameters, traces["discriminator"].parameters) == (generator, discriminator)
