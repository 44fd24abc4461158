"""ViTGAN's whole generators with the weight rules of the importers: the authors' and the re-implementation's."""

from __future__ import annotations

from torch.func import functional_call

from assemblies.models.vitgan.official import architecture as official
from assemblies.models.vitgan.official import checkpoint as official_checkpoint
from assemblies.models.vitgan.reimplementation import architecture as reimplementation
from assemblies.models.vitgan.reimplementation import checkpoint as reimplementation_checkpoint
from blocks.families import to_nhwc
from tests.golden.adapters.networks import build, outputs_of, weights_of
from tests.golden.adapters.vitgan.layers import set_noises
from tests.golden.fixtures import Fixture, Outputs, adapter


@adapter("vitgan", "off_generator")
def official_generator(fixture: Fixture) -> Outputs:
    args = fixture.config["arch"]
    network = build(official.generator_spec(args), fixture)
    depth = args["num_layers"]
    paths = {"w": "mapping", "pos_tokens": "synthesis.0", "block0": "synthesis.1", "tokens": f"synthesis.{1 + depth}"}
    rules = official_checkpoint.generator_rules(args)
    tensors = fixture.tensors | fixture.attributes
    weights = weights_of(network, rules, tensors, official_checkpoint.generator_ignored)
    weights = {name: value.to(fixture.dtype) for name, value in weights.items()}
    set_noises(fixture, network, rules)
    with outputs_of(network, paths) as recorded:
        image = functional_call(network, weights, fixture.inputs["z"], strict=True)
    if args["use_nerf_proj"] and not fixture.config.get("train_mode", False):
        image = image.clamp(0, 1)  # the authors' code clamps in eval mode only
    tokens = {name: to_nhwc(recorded[name]).flatten(1, 2) for name in ("pos_tokens", "block0", "tokens")}
    return {"w": recorded["w"][:, 0], "image": image, **tokens, "pos_tokens": tokens["pos_tokens"][:1]}


@adapter("vitgan", "re_generator")
def reimplemented_generator(fixture: Fixture) -> Outputs:
    args = fixture.config["arch"]
    network = build(reimplementation.generator_spec(args), fixture)
    rules = reimplementation_checkpoint.generator_rules(args)
    weights = weights_of(network, rules, fixture.tensors, reimplementation_checkpoint.generator_ignored)
    with outputs_of(network, {"w": "mapping", "encoder_out": f"synthesis.{args['depth']}"}) as recorded:
        image = functional_call(network, weights, fixture.inputs["z"], strict=True)
    tokens = to_nhwc(recorded["encoder_out"]).flatten(1, 2)
    return {"w": recorded["w"][:, 0], "encoder_out": tokens, "image": image}
