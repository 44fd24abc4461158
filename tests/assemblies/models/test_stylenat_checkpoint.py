"""The names and options of StyleNAT's reference, where they are not what the recordings have."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from assemblies.conversion.weight_map import translate
from assemblies.models.stylenat import architecture as stylenat
from registry import IncompatibleError, catalogue

SMALL: dict[str, Any] = {
    "size": 16,
    "style_dim": 8,
    "n_mlp": 2,
    "in_channels": [16, 8, 8],
    "min_heads": 2,
    "kernels": [[3], [3], [3]],
    "dilations": [[1], [1], [1, 2]],
}


def meta(**options):
    with torch.device("meta"):
        return stylenat.generator_spec(SMALL | options).build()


def read(args):
    return stylenat.generator_spec(args), stylenat.generator_rules(args)


@pytest.mark.parametrize("options", [{}, {"legacy": True}, {"block_type": "swin"}, {"qkv_bias": False}], ids=str)
def test_every_tensor_of_the_generator_has_its_move(options):
    network, rules = meta(**options), stylenat.generator_rules(SMALL | options)
    assert sorted(each.ours for each in rules) == sorted(network.state_dict())
    names = [name for each in rules if each.ours != "mapping.w_avg" for name in each.theirs]
    assert len(names) == len(set(names))


def test_the_mean_style_is_made_of_the_mapping_so_that_images_can_be_truncated():
    network = stylenat.generator_spec(SMALL).build().eval()
    for layer in network.mapping.layers:
        torch.nn.init.normal_(layer.bias, std=50.0)
    state = network.state_dict()
    (rule,) = [each for each in stylenat.generator_rules(SMALL) if each.ours == "mapping.w_avg"]
    assert rule.theirs == ("style.1.weight", "style.1.bias", "style.2.weight", "style.2.bias")
    ours = [f"mapping.layers.{layer}.{part}" for layer in (0, 1) for part in ("weight", "bias")]
    mean = network.mapping(torch.randn(10_000, 8))[:, 0].mean(dim=0)
    torch.testing.assert_close(rule.make(*(state[name] for name in ours)), mean, rtol=0, atol=0.05)


@pytest.mark.parametrize("sn", [False, True])
@pytest.mark.parametrize("size", [16, 64])
def test_every_tensor_of_the_discriminator_has_its_move(sn, size):
    args = {"size": size, "sn": sn, "channels": dict.fromkeys(["4", "8", "16", "32", "64"], 4)}
    with torch.device("meta"):
        network = stylenat.discriminator_spec(args).build(resolution=size)
    rules = stylenat.discriminator_rules(args)
    assert sorted(each.ours for each in rules) == sorted(network.state_dict())
    names = [name for each in rules for name in each.theirs]
    assert len(names) == len(set(names))


def test_a_tensor_that_is_missing_or_was_not_expected_is_named():
    args = SMALL | {"size": 8}
    network = stylenat.generator_spec(args).build()
    rules = stylenat.generator_rules(args)
    ours = network.state_dict()
    given = {"layers.0.blocks.0.attn.rpb": ours["synthesis.1.attn.rpb"], "to_rgbs.9.bias": torch.zeros(3)}
    with pytest.raises(IncompatibleError) as caught:
        translate(rules, given, network, ignored=stylenat.generator_ignored)
    told = [(problem.place, problem.message) for problem in caught.value.problems]
    assert ("style.1.weight", "is missing; mapping.layers.0.weight is made of it") in told
    assert ("to_rgbs.9.bias", "is not expected") in told
    assert "layers.0.blocks.0.attn.rpb" not in dict(told)


@pytest.mark.parametrize(
    ("name", "computed"),
    [
        ("layers.0.blocks.1.attn.relative_position_index", True),
        ("layers.3.blocks.0.attn_mask2", True),
        ("layers.0.upsample.sin_pos_embed._float_tensor", True),
        ("to_rgbs.0.upsample.kernel", True),
        ("layers.0.upsample.alpha", False),
        ("layers.0.blocks.0.attn.rpb.0", False),
    ],
)
def test_what_the_reference_computes_is_not_read(name, computed):
    assert stylenat.generator_ignored(name) is computed


@pytest.mark.parametrize(
    ("name", "computed"),
    [
        ("dwt.ll", True),
        ("from_rgbs.1.iwt.hh", True),
        ("convs.0.conv2.0.kernel", True),
        ("convs.0.conv2.1.weight", False),
    ],
)
def test_what_the_references_discriminator_computes_is_not_read(name, computed):
    assert stylenat.discriminator_ignored(name) is computed


@pytest.mark.parametrize(
    ("options", "place", "said"),
    [
        ({"size": 48}, "size", "the reference has powers of two from 8 on, not 48"),
        ({"size": 32}, "in_channels", r"3 entries for the 4 resolutions \[4, 8, 16, 32\]"),
        ({"block_type": "transformer"}, "block_type", "'transformer' is neither nat nor swin"),
        ({"legacy": True, "dilations": [[1], [1], [1, 2, 3]]}, "dilations", "two partitions at most, not 3"),
    ],
    ids=str,
)
def test_options_that_the_reference_cannot_have_are_refused(options, place, said):
    with pytest.raises(IncompatibleError, match=said) as caught:
        read(SMALL | options)
    assert caught.value.problems[0].place == place


def test_options_of_the_published_models_give_their_presets():
    options = {
        "size": 256,
        "style_dim": 512,
        "channel_multiplier": 2,
        "min_heads": 4,
        "n_mlp": 8,
        "mlp_ratio": 4,
        "lr_mlp": 0.01,
        "kernels": [[7]] * 9,
        "dilations": [[1], [1], [1, 2], [1, 4], [1, 8], [1, 16], [1, 32], [1, 64], [1, 128]],
    }
    preset = catalogue.presets()["stylenat-ffhq-256"]()
    assert stylenat.generator_spec(options | {"qkv_bias": True, "legacy": True}) == preset.generator
    assert stylenat.discriminator_spec({"size": 256, "channel_multiplier": 2, "sn": True}) == preset.discriminator
