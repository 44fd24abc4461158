"""ViTGAN's presets: published sizes; the parts of the small preset."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from assemblies import parse
from assemblies.models.vitgan import architecture
from assemblies.models.vitgan.official import architecture as official
from registry import catalogue

PARAMETERS = {
    "vitgan-cifar10-32": (12_987_782, 6_604_033),
    "vitgan-celeba-64": (17_714_054, 10_076_929),
    "vitgan-bedroom-64": (17_714_054, 10_076_929),
    "vitgan-bedroom-128": (17_714_054, 10_150_657),
    "vitgan-official-cifar10-32": (16_982_411, 13_918_849),
    "vitgan-official-inr-cifar10-32": (12_987_786, 13_918_849),
}
OFFICIAL = [name for name in PARAMETERS if "official" in name]


def preset(name: str) -> Any:
    return catalogue.presets()[name]()


@cache
def on_meta(name: str) -> Any:
    with torch.device("meta"):
        return preset(name).build()


@pytest.mark.parametrize("name", PARAMETERS)
def test_presets_have_the_published_number_of_parameters(name):
    gan = on_meta(name)
    counts = tuple(sum(p.numel() for p in getattr(gan, part).parameters()) for part in ("generator", "discriminator"))
    assert counts == PARAMETERS[name]
    size = int(name.rpartition("-")[2])
    assert gan.generator.resolution == (size, size)


def test_the_parts_of_the_authors_generator_have_the_published_number_of_parameters():
    generator = on_meta("vitgan-official-cifar10-32").generator
    sizes = [sum(p.numel() for p in step.parameters()) for step in generator.synthesis]
    assert sum(p.numel() for p in generator.mapping.parameters()) == 1_182_720
    assert sizes[:6] == [1_152, *[2_363_137] * 4, 295_680]
    assert (sum(sizes[6:-1]), sizes[-1]) == (5_901_316, 148_995)
    inr = on_meta("vitgan-official-inr-cifar10-32").generator.synthesis[-1]
    assert sum(p.numel() for p in inr.parameters()) == 2_055_686
    assert sum(p.numel() for p in inr.mapping.parameters()) == 591_360


@pytest.mark.parametrize(("size", "expected"), [(64, 19_933_069), (128, 21_076_047)])
def test_the_authors_generator_has_its_number_of_parameters_at_other_resolutions(size, expected):
    with torch.device("meta"):
        generator = official.generator_spec({"size": size, "qkv_bias": False}).build()
    assert sum(p.numel() for p in generator.parameters()) == expected
    assert generator.resolution == (size, size)


@pytest.mark.parametrize(
    ("size", "options", "expected"),
    [
        (32, {}, 22_439_809),
        (32, {"small32": False}, 30_028_033),
        (64, {}, 35_009_793),
        (64, {"channel_multiplier": 1}, 31_928_321),
        (128, {"projections": False}, 28_389_121),
        (256, {}, 37_385_089),
        (512, {"channel_multiplier": 1}, 32_551_713),
    ],
)
def test_the_authors_discriminator_has_its_number_of_parameters(size, options, expected):
    with torch.device("meta"):
        network = official.discriminator_spec({"size": size, **options}).build(resolution=size)
    assert sum(p.numel() for p in network.parameters()) == expected


@pytest.mark.parametrize("name", [*PARAMETERS, "mini-vitgan"])
def test_presets_are_complete_documents(name):
    spec = preset(name)
    assert parse(spec.to_dict()) == spec


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_authors_networks_have_images_from_0_to_1(name):
    spec = preset(name)
    assert spec.generator.value_range == "unit"
    assert spec.discriminator.steps[0].value_range == "unit"


@pytest.mark.parametrize("name", ["vitgan-cifar10-32", "mini-vitgan"])
def test_class_tokens_attend_to_the_image_before_training(name):
    torch.manual_seed(0)
    spec = preset(name)
    channels, side = spec.generator.image_channels, 16 if name.startswith("mini") else 32
    discriminator = spec.discriminator.build(resolution=side, image_channels=channels)
    attention, weights = discriminator.steps[1].attn, []
    attend = attention.attend

    def recording_attend(q, k, v, **options):
        weights.append(attend(q, k, torch.eye(v.shape[-2]).expand(*v.shape[:-1], -1), **options))
        return attend(q, k, v, **options)

    attention.attend = recording_attend
    discriminator(torch.rand(2, channels, side, side) * 2 - 1)
    assert weights[0][:, :, 0, 1:].sum(-1).mean() > 0.5


def test_grids_need_not_be_square():
    generator = architecture.generator(
        16, patch_size=4, depth=1, dim=24, num_heads=2, mapping_layers=1, hidden_dims=(8,)
    )
    generator["synthesis"][0]["resolution"] = (2, 3)
    built = parse(generator).build()
    assert built(torch.randn(2, 24)).shape == (2, 3, 8, 12)
