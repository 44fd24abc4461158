"""StyleNAT's presets: published sizes, parts and heads."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from assemblies import parse
from assemblies.generator import LayeredGenerator
from registry import catalogue

PARAMETERS = {
    "stylenat-ffhq-256": (48_921_000, 26_211_585),
    "stylenat-ffhq-1024": (49_452_934, 27_736_641),
    "stylenat-church-256": (48_922_352, 26_211_585),
    "styleswin-ffhq-256": (48_929_512, 26_211_585),
}


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
    assert (gan.generator.resolution, gan.generator.value_range) == ((size, size), "imagenet")
    assert gan.generator.num_ws == 2 * (size.bit_length() - 2)


@pytest.mark.parametrize(
    ("name", "tables", "to_rgb"),
    [
        ("stylenat-ffhq-256", 27_256, 7_722),
        ("stylenat-ffhq-1024", 29_960, 7_734),
        ("stylenat-church-256", 28_608, 7_722),
    ],
)
def test_the_parts_of_a_generator_have_the_published_number_of_parameters(name, tables, to_rgb):
    generator = on_meta(name).generator
    sizes = {name: parameter.numel() for name, parameter in generator.named_parameters()}
    heads = [number for number, step in enumerate(generator.synthesis) if step.spec.kind == "to-rgb"]
    prefixes = tuple(f"synthesis.{number}." for number in heads)
    assert sum(size for name, size in sizes.items() if ".rpb" in name) == tables
    assert sum(size for name, size in sizes.items() if name.startswith(prefixes)) == to_rgb
    assert sum(size for name, size in sizes.items() if name.startswith("mapping.")) == 2_101_248


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("stylenat-ffhq-256", [(16,), (8, 8), (8, 8), (8, 8), (4, 4), (2, 2)]),
        ("stylenat-church-256", [(16,), (8, 8), (5, 5, 6), (4,) * 4, (1, 1, 2, 2, 2), (1, 1, 1, 1, 2, 2)]),
    ],
)
def test_partitions_have_the_published_number_of_heads(name, expected):
    generator = on_meta(name).generator
    heads = [step.attn.heads for step in generator.synthesis if hasattr(getattr(step, "attn", None), "windows")]
    assert heads[::2] == heads[1::2] == expected


@pytest.mark.parametrize("name", [*PARAMETERS, "mini-stylenat"])
def test_presets_are_complete_documents(name):
    spec = preset(name)
    assert parse(spec.to_dict()) == spec


def test_neighborhoods_and_shifted_windows_work_together_on_a_map_that_is_not_square():
    neighborhoods = {"kind": "hydra-na", "num_heads": 4, "kernel_sizes": [3], "dilations": [1, 2, 3]}
    windows = {"kind": "shifted-window", "num_heads": 4, "window_size": 4, "shift_sizes": [0, 2]}
    block = {"kind": "transformer", "norm": "adain"}
    up = {"kind": "upsample-linear", "dim": 16}
    spec = LayeredGenerator.Spec(
        z_dim=8,
        mapping={"kind": "mapping", "num_layers": 1},
        synthesis=[
            {"kind": "constant", "dim": 16, "resolution": [5, 6]},
            *({**block, "attention": {"kind": "dense", "relative_position_bias": True}}, up, "to-rgb"),
            *({**block, "attention": neighborhoods}, {**block, "attention": windows}, up, "to-rgb"),
            *({**block, "attention": windows}, "to-rgb"),
        ],
    )
    torch.manual_seed(0)
    generator = spec.build()
    image = generator(torch.randn(2, 8))
    assert image.shape == (2, 3, 20, 24)
    assert generator.num_ws == 4
    image.square().mean().backward()
    without_gradient = [name for name, parameter in generator.named_parameters() if not parameter.grad.any()]
    assert without_gradient == []
