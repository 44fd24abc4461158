"""The names and options of StyleNAT's checkpoints that the recordings do not have."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from assemblies.conversion.weight_map import translate
from assemblies.models.stylenat import architecture, checkpoint
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


@pytest.mark.parametrize("options", [{}, {"legacy": True}, {"block_type": "swin"}, {"qkv_bias": False}], ids=str)
def test_every_tensor_of_the_generator_has_one_rule(options):
    with torch.device("meta"):
        network = architecture.generator_spec(SMALL | options).build()
    rules = checkpoint.generator_rules(SMALL | options)
    assert sorted(rule.target for rule in rules) == sorted(network.state_dict())
    names = [name for rule in rules if rule.target != "mapping.w_avg" for name in rule.sources]
    assert len(names) == len(set(names))


def test_the_mean_style_is_estimated_from_the_mapping():
    network = architecture.generator_spec(SMALL).build().eval()
    for layer in network.mapping.layers:
        torch.nn.init.normal_(layer.bias, std=50.0)
    state = network.state_dict()
    (rule,) = [rule for rule in checkpoint.generator_rules(SMALL) if rule.target == "mapping.w_avg"]
    assert rule.sources == ("style.1.weight", "style.1.bias", "style.2.weight", "style.2.bias")
    names = [f"mapping.layers.{layer}.{part}" for layer in (0, 1) for part in ("weight", "bias")]
    mean = network.mapping(torch.randn(10_000, 8))[:, 0].mean(dim=0)
    torch.testing.assert_close(rule.convert(*(state[name] for name in names)), mean, rtol=0, atol=0.05)


@pytest.mark.parametrize("sn", [False, True])
@pytest.mark.parametrize("size", [16, 64])
def test_every_tensor_of_the_discriminator_has_one_rule(sn, size):
    args = {"size": size, "sn": sn, "channels": dict.fromkeys(["4", "8", "16", "32", "64"], 4)}
    with torch.device("meta"):
        network = architecture.discriminator_spec(args).build(resolution=size)
    rules = checkpoint.discriminator_rules(args)
    assert sorted(rule.target for rule in rules) == sorted(network.state_dict())
    names = [name for rule in rules for name in rule.sources]
    assert len(names) == len(set(names))


def test_missing_and_unexpected_tensors_are_named():
    args = SMALL | {"size": 8}
    network = architecture.generator_spec(args).build()
    rules = checkpoint.generator_rules(args)
    state = network.state_dict()
    tensors = {"layers.0.blocks.0.attn.rpb": state["synthesis.1.attn.rpb"], "to_rgbs.9.bias": torch.zeros(3)}
    with pytest.raises(IncompatibleError) as caught:
        translate(rules, tensors, network, ignored=checkpoint.generator_ignored)
    problems = [(problem.location, problem.message) for problem in caught.value.problems]
    assert ("style.1.weight", "is missing; mapping.layers.0.weight needs it") in problems
    assert ("to_rgbs.9.bias", "is not expected") in problems
    assert "layers.0.blocks.0.attn.rpb" not in dict(problems)


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
def test_computed_buffers_of_the_generator_are_ignored(name, computed):
    assert checkpoint.generator_ignored(name) is computed


@pytest.mark.parametrize(
    ("name", "computed"),
    [
        ("dwt.ll", True),
        ("from_rgbs.1.iwt.hh", True),
        ("convs.0.conv2.0.kernel", True),
        ("convs.0.conv2.1.weight", False),
    ],
)
def test_computed_buffers_of_the_discriminator_are_ignored(name, computed):
    assert checkpoint.discriminator_ignored(name) is computed


@pytest.mark.parametrize(
    ("options", "location", "message"),
    [
        ({"size": 48}, "size", "must be a power of two and at least 8, not 48"),
        ({"size": 32}, "in_channels", r"3 entries for the 4 resolutions \[4, 8, 16, 32\]"),
        ({"block_type": "transformer"}, "block_type", "must be 'nat' or 'swin', not 'transformer'"),
        ({"legacy": True, "dilations": [[1], [1], [1, 2, 3]]}, "dilations", "at most two partitions, not 3"),
    ],
    ids=str,
)
def test_options_that_the_reference_cannot_have_are_refused(options, location, message):
    args = SMALL | options
    with pytest.raises(IncompatibleError, match=message) as caught:
        checkpoint.generator_rules(args) if options.get("legacy") else architecture.generator_spec(args)
    assert caught.value.problems[0].location == location


def test_the_options_of_the_published_model_give_its_preset():
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
    assert architecture.generator_spec(options | {"qkv_bias": True, "legacy": True}) == preset.generator
    assert architecture.discriminator_spec({"size": 256, "channel_multiplier": 2, "sn": True}) == preset.discriminator
