"""ViTGAN's importers: initial singular values, options that do not fit, tensors without a counterpart."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from assemblies.conversion.read import import_network
from assemblies.conversion.weight_map import translate
from assemblies.models.vitgan.official import architecture as official
from assemblies.models.vitgan.official import checkpoint as official_checkpoint
from assemblies.models.vitgan.reimplementation import architecture as reimplementation
from assemblies.models.vitgan.reimplementation import checkpoint as reimplementation_checkpoint
from assemblies.models.vitgan.weight_rules import spectral_norm_rules
from blocks.weight_norm.improved_spectral import ImprovedSpectralNorm
from registry import IncompatibleError
from tests.assemblies.checkpoint_files import fixture, state_of
from tests.golden.fixtures import relative_error

SMALL = {"size": 16, "dim": 12, "heads": 3, "num_layers": 1, "n_mlp": 1, "cnn_channels": {16: 6}}


def sigma_init(weight: Tensor, option: str, **more: Tensor) -> float:
    tensors = {"map.module.weight_bar": weight, "map.module.weight_u": torch.zeros(len(weight)), **more}
    args, expected = {"sigma_init": option}, official_checkpoint.expected_sigma
    rules = spectral_norm_rules("layer", "map", "map.multiplier", args, expected)
    state = {target: convert(*(tensors[name] for name in sources)) for target, sources, convert in rules}
    return state["layer.parametrizations.weight.0.sigma_init"].item()


def test_the_user_chooses_the_initial_singular_value():
    weight = torch.randn(300, 200, generator=torch.Generator().manual_seed(0))
    exact = torch.linalg.svdvals(weight)[0].item()
    assert sigma_init(weight, "expected") == pytest.approx(exact, rel=0.02)
    assert sigma_init(3 * weight, "expected") == pytest.approx(exact, rel=0.02)
    assert sigma_init(3 * weight, "current") == pytest.approx(3 * exact, rel=1e-5)
    assert sigma_init(weight, "recorded", **{"map.multiplier": torch.tensor(7.0)}) == 7.0
    with pytest.raises(IncompatibleError, match=r"unknown value 'expect'; did you mean 'expected'"):
        sigma_init(weight, "expect")


def test_the_expected_value_is_the_mean_of_the_reimplementations_first_estimate():
    torch.manual_seed(0)
    estimates = []
    for _ in range(8):
        linear = torch.nn.Linear(120, 200)
        norm = ImprovedSpectralNorm(linear.weight.detach(), sigma="power-iteration")
        estimates.append((norm.sigma_init * linear.weight / norm(linear.weight)).flatten()[0].item())
    expected = reimplementation_checkpoint.expected_sigma(linear.weight).item()
    assert sum(estimates) / len(estimates) == pytest.approx(expected, rel=0.05)
    assert expected == pytest.approx(math.sqrt(320 / 360))


def test_image_heads_that_do_not_fit_the_image_size_are_refused():
    with pytest.raises(IncompatibleError, match="doubling 8 tokens never gives 24 pixels; use the INR head"):
        official.generator_spec({**SMALL, "size": 24})
    with pytest.raises(IncompatibleError, match="30 pixels do not divide into 8 patches"):
        official.generator_spec({**SMALL, "size": 30, "use_nerf_proj": True})
    args = {"image_size": 16, "patch_size": 4, "out_patch_size": 9, "combine_patch_embeddings": True}
    args |= {"hidden_size": 8, "latent_dim": 4, "depth": 1, "style_mlp_layers": 1}
    with pytest.raises(IncompatibleError, match="an image of 9 pixels does not divide into 4 patches per side"):
        reimplementation.generator_spec(args)


@pytest.mark.parametrize("inr", [False, True])
@pytest.mark.parametrize("options", [{"qkv_bias": True}, {"qkv_bias": False}, {"heads": 1}], ids=str)
def test_every_tensor_of_a_generator_has_a_rule(inr, options):
    args = {**SMALL, "use_nerf_proj": inr, "cips_channels": [6, 5, 4], **options}
    generator = official.generator_spec(args).build()
    rules = official_checkpoint.generator_rules(args)
    assert sorted(rule.target for rule in rules) == sorted(generator.state_dict())


def test_stale_copies_and_filters_are_ignored_and_other_tensors_are_not():
    args = {"size": 8, "channels": {4: 6, 8: 5}, "projections": False}
    network = official.discriminator_spec(args).build(resolution=8)
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    rules = official_checkpoint.discriminator_rules(args)
    ignored = official_checkpoint.discriminator_ignored
    tensors = {rule.sources[0]: torch.zeros(shapes[rule.target]) for rule in rules}
    beside = {"layers.1.conv2.0.kernel": torch.zeros(4, 4), "projection.0.weight": torch.zeros(1)}
    assert translate(rules, tensors | beside, network, ignored=ignored).keys() == shapes.keys()
    with pytest.raises(IncompatibleError, match=r"stranger\.weight +is not expected"):
        translate(rules, tensors | {"stranger.weight": torch.zeros(1)}, network, ignored=ignored)
    for name in (
        "layers.0.attn.to_qkv.module.weight",
        "layers.0.attn.to_qkv.module.weight_v",
        "convs.0.conv.blur.kernel",
    ):
        assert official_checkpoint.generator_ignored(name)
    assert not official_checkpoint.generator_ignored("layers.0.attn.to_qkv.module.weight_bar")


def test_one_network_of_sines_for_the_whole_image_is_converted(tmp_path):
    recorded = fixture("vitgan/re-generator-16-combined")
    torch.save(state_of(recorded), tmp_path / "Generator.pth")
    network = import_network(tmp_path / "Generator.pth", options={"demodulation": True}).build()
    with torch.no_grad():
        image = network(recorded.inputs["z"])
    assert relative_error(image, recorded.expected["image"]) <= 5e-4  # as the reference's own float32
