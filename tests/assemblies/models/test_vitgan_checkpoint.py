"""ViTGAN's importers: the singular values that no checkpoint holds, options that do not fit, and tensors left aside."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from assemblies.conversion.weight_map import translate
from assemblies.models.vitgan import architecture as vitgan
from assemblies.models.vitgan import reimplementation as vitgan_reimplementation
from assemblies.models.vitgan.parts import isn_rules, of_normal
from blocks.weight_norm.improved_spectral import ImprovedSpectralNorm
from registry import IncompatibleError

SMALL = {"size": 16, "dim": 12, "heads": 3, "num_layers": 1, "n_mlp": 1, "cnn_channels": {16: 6}}


def sigma_init(weight: Tensor, how: str, **more: Tensor) -> float:
    tensors = {"map.module.weight_bar": weight, "map.module.weight_u": torch.zeros(len(weight)), **more}
    rules = isn_rules("ours", "map", "map.multiplier", {"sigma_init": how}, of_normal)
    made = {ours: make(*(tensors[name] for name in theirs)) for ours, theirs, make in rules}
    return made["ours.parametrizations.weight.0.sigma_init"].item()


def test_what_stands_for_the_first_singular_value_is_the_users_choice():
    weight = torch.randn(300, 200, generator=torch.Generator().manual_seed(0))
    exact = torch.linalg.svdvals(weight)[0].item()
    assert sigma_init(weight, "expected") == pytest.approx(exact, rel=0.02)
    assert sigma_init(3 * weight, "expected") == pytest.approx(exact, rel=0.02)
    assert sigma_init(3 * weight, "current") == pytest.approx(3 * exact, rel=1e-5)
    assert sigma_init(weight, "recorded", **{"map.multiplier": torch.tensor(7.0)}) == 7.0
    with pytest.raises(IncompatibleError, match="'expect' is no way to it; did you mean expected"):
        sigma_init(weight, "expect")


def test_the_re_implementations_first_estimate_is_expected_on_average():
    torch.manual_seed(0)
    found = []
    for _ in range(8):
        linear = torch.nn.Linear(120, 200)
        norm = ImprovedSpectralNorm(linear.weight.detach(), sigma="power-iteration")
        found.append((norm.sigma_init * linear.weight / norm(linear.weight)).flatten()[0].item())
    expected = vitgan_reimplementation.of_uniform(linear.weight).item()
    assert sum(found) / len(found) == pytest.approx(expected, rel=0.05)
    assert expected == pytest.approx(math.sqrt(320 / 360))


def test_heads_that_do_not_fit_the_size_say_so():
    with pytest.raises(IncompatibleError, match="8 tokens never double to 24 pixels; take the INR head"):
        vitgan.generator_spec({**SMALL, "size": 24})
    with pytest.raises(IncompatibleError, match="30 pixels do not divide into 8 patches"):
        vitgan.generator_spec({**SMALL, "size": 30, "use_nerf_proj": True})
    args = {"image_size": 16, "patch_size": 4, "out_patch_size": 9, "combine_patch_embeddings": True}
    args |= {"hidden_size": 8, "latent_dim": 4, "depth": 1, "style_mlp_layers": 1}
    with pytest.raises(IncompatibleError, match="an image of 9 pixels does not divide into 4 patches a side"):
        vitgan_reimplementation.generator_spec(args)


@pytest.mark.parametrize("inr", [False, True])
@pytest.mark.parametrize("qkv_bias", [False, True])
def test_every_tensor_of_a_generator_has_its_move(inr, qkv_bias):
    args = {**SMALL, "use_nerf_proj": inr, "cips_channels": [6, 5, 4], "qkv_bias": qkv_bias}
    generator = vitgan.generator_spec(args).build()
    rules = vitgan.generator_rules(args)
    assert sorted(ours for ours, _, _ in rules) == sorted(generator.state_dict())


def test_stale_copies_of_weights_and_filters_are_left_aside_and_strangers_are_not():
    args = {"size": 8, "channels": {4: 6, 8: 5}, "projections": False}
    network = vitgan.discriminator_spec(args).build(resolution=8)
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    rules = vitgan.discriminator_rules(args)
    tensors = {theirs[0]: torch.zeros(shapes[ours]) for ours, theirs, _ in rules}
    beside = {"layers.1.conv2.0.kernel": torch.zeros(4, 4), "projection.0.weight": torch.zeros(1)}
    found = translate(rules, tensors | beside, network, ignored=vitgan.discriminator_ignored)
    assert found.keys() == shapes.keys()
    with pytest.raises(IncompatibleError, match=r"stranger\.weight +is not expected"):
        translate(rules, tensors | {"stranger.weight": torch.zeros(1)}, network, ignored=vitgan.discriminator_ignored)
    for name in (
        "layers.0.attn.to_qkv.module.weight",
        "layers.0.attn.to_qkv.module.weight_v",
        "convs.0.conv.blur.kernel",
    ):
        assert vitgan.generator_ignored(name)
    assert not vitgan.generator_ignored("layers.0.attn.to_qkv.module.weight_bar")
