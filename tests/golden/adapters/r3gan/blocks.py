"""R3GAN's layers and stages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from assemblies.models.r3gan import architecture, checkpoint
from blocks.common.plain_conv import BiasedLeakyReLU, PlainConv2d
from blocks.common.resample import Blur2d, Downsample2d, Resample2d, Upsample2d
from blocks.families import Head, Layer, SynthesisInput
from blocks.head.discriminative_basis import DiscriminativeBasis
from registry.spec_file import validate
from tests.golden.adapters.networks import apply_rules, with_prefix
from tests.golden.fixtures import Fixture, Outputs, adapter

Steps = Iterable[tuple[str, dict[str, Any]]]


@adapter("r3gan", "biased_activation")
def biased_activation(fixture: Fixture) -> Outputs:
    block, weights = BiasedLeakyReLU(fixture.config["InputUnits"]), {"bias": fixture.tensors["Bias"]}
    inputs = {"y4": fixture.inputs["x4"], "y2": fixture.inputs["x2"]} if "x4" in fixture.inputs else {}
    return {name: functional_call(block, weights, x) for name, x in inputs.items()}


@adapter("r3gan", "convolution")
def convolution(fixture: Fixture) -> Outputs:
    config = fixture.config
    block = PlainConv2d(
        config["InputChannels"], config["OutputChannels"], config["KernelSize"], groups=config.get("Groups", 1)
    )
    return {"y": functional_call(block, {"weight": fixture.tensors["Layer.weight"]}, fixture.inputs["x"])}


@adapter("r3gan", "resampler")
def resampler(fixture: Fixture) -> Outputs:
    x, taps, kind = fixture.inputs["x"], fixture.config["Filter"], fixture.config["class"]
    widened = architecture.low_pass(taps)
    resample: Resample2d = {
        "InterpolativeUpsampler": lambda: Upsample2d(taps=widened),
        "InterpolativeDownsampler": lambda: Downsample2d(taps=widened),
        "InplaceUpsampler": lambda: Blur2d(taps=taps),
        "InplaceDownsampler": lambda: Blur2d(taps=taps),
    }[kind]().to(fixture.dtype)
    y = resample(F.pixel_shuffle(x, 2) if kind == "InplaceUpsampler" else x)
    y = F.pixel_unshuffle(y, 2) if kind == "InplaceDownsampler" else y
    return {"y": y, "kernel": resample.filter}


@adapter("r3gan", "residual_block")
def residual_block(fixture: Fixture) -> Outputs:
    config = fixture.config
    step = {
        "kind": "resnext",
        "num_groups": config["Cardinality"],
        "expansion": config["ExpansionFactor"],
        "kernel_size": config["KernelSize"],
        "num_blocks": config["VarianceScalingParameter"],
    }
    return {"y": run([("block", step)], fixture.inputs["x"], with_prefix(fixture.tensors, "block."))}


@adapter("r3gan", "upsample_layer")
def upsample_layer(fixture: Fixture) -> Outputs:
    (_, stage) = architecture.generator_stages(two_stages(fixture.config))
    return {"y": run(stage, fixture.inputs["x"], with_prefix(fixture.tensors, "0."))}


@adapter("r3gan", "downsample_layer")
def downsample_layer(fixture: Fixture) -> Outputs:
    (stage, _) = architecture.discriminator_stages(two_stages(fixture.config))
    return {"y": run(stage, fixture.inputs["x"], with_prefix(fixture.tensors, "0."))}


@adapter("r3gan", "generative_basis")
def generative_basis(fixture: Fixture) -> Outputs:
    step = {"kind": "generative-basis", "dim": fixture.config["OutputChannels"], "resolution": 4}
    return {"y": run([("0", step)], fixture.inputs["x"], with_prefix(fixture.tensors, "0."))}


@adapter("r3gan", "discriminative_basis")
def discriminative_basis(fixture: Fixture) -> Outputs:
    step = {"kind": "discriminative-basis", "embed_dim": fixture.config["OutputDimension"]}
    return {"y": run([("0", step)], fixture.inputs["x"], with_prefix(fixture.tensors, "0."))}


@adapter("r3gan", "generator_stage")
def generator_stage(fixture: Fixture) -> Outputs:
    first = fixture.config["ResamplingFilter"] is None
    stages = list(architecture.generator_stages(two_stages(fixture.config, widths=1 if first else 2)))
    tensors = {name.removeprefix("Layers."): value for name, value in fixture.tensors.items()}
    return {"y": run(stages[-1], fixture.inputs["x"], tensors)}


@adapter("r3gan", "discriminator_stage")
def discriminator_stage(fixture: Fixture) -> Outputs:
    last = fixture.config["ResamplingFilter"] is None
    args = two_stages(fixture.config)
    if last:
        args |= {"WidthPerStage": [fixture.config["InputChannels"]], "ConditionDimension": 1}
    (stage, *_) = architecture.discriminator_stages(args)
    tensors = {name.removeprefix("Layers."): value for name, value in fixture.tensors.items()}
    return {"y": run(stage, fixture.inputs["x"], tensors)}


def two_stages(config: dict[str, Any], widths: int = 2) -> dict[str, Any]:
    """The arguments of a network of which the fixture's layer or stage is a part."""
    return {
        "WidthPerStage": [config["InputChannels"], config["OutputChannels"]][-widths:],
        "CardinalityPerStage": [config.get("Cardinality", 1)] * 2,
        "BlocksPerStage": [config.get("NumberOfBlocks", 0)] * 2,
        "ExpansionFactor": config.get("ExpansionFactor", 2),
        "KernelSize": config.get("KernelSize", 3),
        "ResamplingFilter": config["ResamplingFilter"],
        "ConditionDimension": None,
        "ConditionEmbeddingDimension": config["OutputChannels"],
    }


def run(steps: Steps, x: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    """The steps, one after the other, with the reference's tensors, which are named by the steps."""
    for name, step in steps:
        spec = validate(step, SynthesisInput, Layer, Head)
        context = {"dim": x.shape[1], "in_dim": x.shape[1], "style_dim": x.shape[1], "resolution": tuple(x.shape[2:])}
        if issubclass(spec.block, Head):
            block: nn.Module = BasisOutputs(x.shape[1], tuple(x.shape[2:]), step["embed_dim"])
            rules = checkpoint.block_rules("head", name, step["kind"])
        else:
            block = spec.build(**context)
            rules = checkpoint.block_rules("", name, step["kind"])
        weights = {target.removeprefix("."): value for target, value in apply_rules(rules, tensors).items()}
        block = block.to(x.dtype)
        x = functional_call(block, weights, x[:, None] if issubclass(spec.block, SynthesisInput) else x)
    return x


class BasisOutputs(nn.Module):
    """A discriminative basis whose outputs are not multiplied by a condition."""

    def __init__(self, dim: int, resolution: tuple[int, ...], out_dim: int) -> None:
        super().__init__()
        self.head = DiscriminativeBasis(dim, resolution, cond_dim=1, embed_dim=out_dim)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.head.outputs(x)
        return outputs
