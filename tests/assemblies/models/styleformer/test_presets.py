"""Styleformer's presets: published sizes and images."""

from __future__ import annotations

import pytest

from assemblies import check, parse
from assemblies.models.styleformer import presets
from registry import catalogue

PARAMETERS = {
    "styleformer-cifar10-32": (18_369_040, 20_720_641),
    "styleformer-stl10-48": (7_966_096, None),  # the discriminator is ours
    "styleformer-celeba-64": (8_567_505, 23_407_361),
    "styleformer-church-128": (13_929_621, 23_882_369),
}
OURS = ("mini-styleformer", "styleformer-c-256", "styleformer-c-1024")


@pytest.mark.parametrize("name", PARAMETERS)
def test_presets_have_the_published_number_of_parameters(name: str) -> None:
    traces = check(parse(catalogue.presets()[name]()))
    generator, discriminator = PARAMETERS[name]
    assert traces["generator"].parameters == generator
    assert discriminator in (None, traces["discriminator"].parameters)


@pytest.mark.parametrize("name", [*PARAMETERS, *OURS])
def test_presets_are_complete_documents_of_the_image_size_in_their_name(name: str) -> None:
    spec = parse(catalogue.presets()[name]())
    assert parse(spec.to_dict()) == spec
    resolution = 16 if name.startswith("mini") else int(name.rpartition("-")[2])
    traces = check(spec)
    assert traces["generator"].image == (1 if name.startswith("mini") else 3, resolution, resolution)
    assert traces["discriminator"].steps[-1].logits == (1,)


def test_unused_style_vectors_of_the_reference_change_path_length_and_style_mixing() -> None:
    document = presets.styleformer_stl10_48().to_dict()
    penalty = next(each for each in document["regularizers"] if each["kind"] == "path-length")
    assert penalty["weight"] == pytest.approx(2 * 8 / 10)  # 7 layers and a ToRGB use 8 of 10
    assert document["style_mixing"] == pytest.approx(0.9 * 7 / 9)
