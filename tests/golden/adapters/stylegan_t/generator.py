"""StyleGAN-T's generator, from its styles to the whole; whole networks go through the checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from assemblies.conversion.weight_map import WeightRule, translate
from assemblies.generator import LayeredGenerator
from assemblies.models.stylegan_t import architecture, checkpoint
from assemblies.synthesis import GeneratorState
from assemblies.training_options import PHASES, Trainable
from blocks import BypassMapping, ToRGB, noise_mode
from blocks.common.resample import Upsample2d
from blocks.common.style import StylePolynomial
from blocks.families import ImageHead, Layer, SynthesisInput
from registry import build_at
from registry.slots import SlotOf
from tests.golden.adapters.networks import with_prefix
from tests.golden.fixtures import Fixture, Outputs, adapter


@adapter("stylegan_t", "style_split")
def style_split(fixture: Fixture) -> Outputs:
    config = fixture.config
    block = StylePolynomial(config["in_channels"], config["out_channels"])
    return {"s": functional_call(block, fixture.tensors, fixture.inputs["w"], strict=True)}


@adapter("stylegan_t", "mapping")
def mapping(fixture: Fixture) -> Outputs:
    config = fixture.config
    z_dim, c_dim = config["z_dim"], config.get("c_dim", 0)
    spec = BypassMapping.Spec.model_validate(architecture.mapping_options(config))
    block = spec.build(z_dim=z_dim, style_dim=z_dim + c_dim, num_styles=config["num_ws"], cond_dim=c_dim)
    block.train(config.get("mode") == "train")
    state = weights_of(checkpoint.mapping_rules("", "", config), fixture.tensors, block)
    call = {"truncation_psi": config.get("truncation_psi", 1.0)}
    ws = functional_call(block, state, (fixture.inputs["z"], fixture.inputs.get("c")), call)
    return {"ws": ws, "x_avg_after": state["w_avg"]}


@adapter("stylegan_t", "synthesis_layer")
def synthesis_layer(fixture: Fixture) -> Outputs:
    args, call = fixture.config["args"], fixture.config["call_args"]
    spec: dict[str, Any] = {
        "kind": "modulated-conv",
        "dim": args["out_channels"],
        "kernel_size": args["kernel_size"],
        "up": args.get("up", 1),
        "style_order": 2,
        "gain": call.get("gain", 1),
        "clamp": args.get("conv_clamp"),
        "activation": args.get("activation", "lrelu"),
        "noise": args.get("use_noise", True),
    }
    if args.get("residual"):
        spec = {"kind": "residual", "layer": spec, "norm": norm(args)}
    low = args["resolution"] // args.get("up", 1)
    block = step(spec, args["in_channels"], (low, low), args["w_dim"])
    name = "convs1.1" if args.get("residual") else "conv0"
    state = weights_of(checkpoint.step_rules("", "", name), fixture.tensors, block)
    with noise_mode(call.get("noise_mode")):
        return {"y": functional_call(block, state, (fixture.inputs["x"], fixture.inputs["w"][:, None]))}


def norm(args: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "group-norm", "num_groups": args.get("gn_groups", 32)}


def step(spec: dict[str, Any], dim: int, resolution: tuple[int, int], style_dim: int, channels: int = 3) -> Any:
    """One step of a synthesis with this context."""
    context = {"dim": dim, "in_dim": dim, "resolution": resolution, "style_dim": style_dim, "image_channels": channels}
    return build_at((), SlotOf(SynthesisInput, Layer, ImageHead).validate(spec), **context)


@adapter("stylegan_t", "torgb")
def to_rgb(fixture: Fixture) -> Outputs:
    args, inputs = fixture.config["args"], fixture.inputs
    block = ToRGB(
        args["in_channels"],
        args["w_dim"],
        args["out_channels"],
        modulation="modulate",
        style_order=2,
        clamp=args.get("conv_clamp"),
    )
    state = weights_of(checkpoint.step_rules("", "", "torgb"), fixture.tensors, block)
    return {"y": functional_call(block, state, (inputs["x"], inputs["w"][:, None]))}


@adapter("stylegan_t", "synthesis_block")
def synthesis_block(fixture: Fixture) -> Outputs:
    args, inputs = fixture.config["args"], fixture.inputs
    size, dim, first_block = args["resolution"], args["out_channels"], not args["in_channels"]
    skip = args.get("architecture", "orig") == "skip"
    whole = architecture.synthesis_steps(
        8 if first_block else max(size, 16),
        channel_base=dim * max(size, 16),
        channel_max=dim,
        num_pairs=args["num_res_blocks"],
        num_groups=args.get("gn_groups", 32),
        clamp=args.get("conv_clamp", architecture.CLAMP),
    )
    last = list(whole)[-1].partition(".")[0]
    specs = {name.removeprefix(f"{last}."): spec for name, spec in whole.items() if name.startswith(last)}
    if first_block:
        specs["input"] = specs["input"] | {"resolution": size, "sampling_rate": size}
    if not (skip or args.get("is_last")):
        del specs["torgb"]
    resolution = (size, size)
    blocks = nn.ModuleList()
    for name, spec in specs.items():
        upsamples = name == "conv0"
        low = (size // 2, size // 2) if upsamples else resolution
        width = args["in_channels"] if upsamples else dim
        blocks.append(step(spec, width, low, args["w_dim"], args["img_channels"]))
    rules = [each for i, name in enumerate(specs) for each in checkpoint.step_rules(f"{i}.", f"{name}.", name)]
    state = {f"blocks.{name}": value for name, value in weights_of(rules, fixture.tensors, blocks).items()}
    with noise_mode(fixture.config["call_args"].get("noise_mode")):
        x, image = functional_call(
            Sequence(blocks), state, (inputs.get("x"), inputs.get("img"), inputs["ws"]), strict=False
        )
    return {"x_out": x} if image is None else {"x_out": x, "img_out": image}


class Sequence(nn.Module):
    """Steps in sequence, each with the next style vector."""

    def __init__(self, blocks: nn.ModuleList) -> None:
        super().__init__()
        self.blocks = blocks
        self.upsample = Upsample2d()

    def forward(self, x: Tensor | None, image: Tensor | None, ws: Tensor) -> tuple[Tensor | None, Tensor | None]:
        state = GeneratorState()
        state.features, state.image = x, image
        for index, block in enumerate(self.blocks):
            state.ws = ws[:, index : index + 1]
            state.advance(block)
        if image is not None and not isinstance(self.blocks[-1], ImageHead):
            state.image = self.upsample(image)
        return state.features, state.image


@adapter("stylegan_t", "synthesis")
def synthesis(fixture: Fixture) -> Outputs:
    args = dict(fixture.config["args"])
    w_dim, size, channels = args.pop("w_dim"), args.pop("img_resolution"), args.pop("img_channels", 3)
    options = {"z_dim": w_dim, "img_resolution": size, "img_channels": channels, "synthesis_kwargs": args}
    inside = {f"synthesis.{name}": value for name, value in fixture.tensors.items()}
    return run(fixture, options, inside, ws=fixture.inputs["ws"])


@adapter("stylegan_t", "generator")
def generator(fixture: Fixture) -> Outputs:
    return run(fixture, fixture.config, fixture.tensors, z=fixture.inputs["z"], c=fixture.inputs.get("c"))


def run(fixture: Fixture, options: dict[str, Any], tensors: dict[str, Tensor], **inputs: Tensor | None) -> Any:
    """A whole generator, or its synthesis alone; with the outputs of the blocks that the fixture records."""
    config = fixture.config
    network = architecture.generator_spec(options).build().to(fixture.dtype).eval()
    rules = checkpoint.generator_rules(options)
    if "ws" in inputs:
        rules = [each for each in rules if each.target.startswith("synthesis.")]
        network.mapping = nn.Identity()
    state = with_prefix(weights_of(rules, tensors, network), "network.")
    names = list(architecture.reference_synthesis(options))
    with noise_mode(config.get("call_args", {}).get("noise_mode")):
        recorded: Outputs = functional_call(
            Recorder(network, names), state, (config.get("truncation_psi", 1.0),), inputs
        )
    wanted = {f"b{size}.{what}" for size in config.get("record_blocks", []) for what in ("x", "img")} | {"img"}
    return {name: value for name, value in recorded.items() if name in wanted}


class Recorder(nn.Module):
    """A generator that also returns the features and the image after each resolution."""

    def __init__(self, network: LayeredGenerator, names: list[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(
        self, truncation_psi: float, *, z: Tensor | None = None, c: Tensor | None = None, ws: Tensor | None = None
    ) -> Outputs:
        if ws is None:
            ws = self.network.mapping(z, c, truncation_psi=truncation_psi)
        state, outputs = GeneratorState(), {}
        steps: Any = self.network.synthesis
        for block, styles, name in zip(steps, steps.schedule, self.names, strict=True):
            state.ws = ws[:, styles]
            state.advance(block)
            size = name.partition(".")[0]
            outputs[f"{size}.x"] = state.features
            if state.image is not None:
                outputs[f"{size}.img"] = state.image
        assert state.image is not None
        with torch.no_grad():
            image = steps(ws)
            rounding = 0.0 if image.device.type == "cpu" else 1e-5  # cuDNN's choices and sums vary from call to call
            same = torch.allclose(image, state.image, rtol=0, atol=rounding * image.abs().max().item())
            assert same, "the recorder must run the steps as the generator does"
        return outputs | {"img": state.image}


def weights_of(rules: Iterable[WeightRule], tensors: Outputs, network: nn.Module) -> Outputs:
    """Our weights. The reference computes the transform, an identity; the mean style may be changed in place."""
    rules = list(rules)
    dtype = next(iter(tensors.values())).dtype
    computed = {name: torch.eye(3, dtype=dtype) for each in rules for name in each.sources if "transform" in name}
    weights = translate(rules, computed | tensors, network, ignored=checkpoint.generator_ignored)
    return {name: value.clone() if name.endswith("w_avg") else value for name, value in weights.items()}


@adapter("stylegan_t", "train_modes")
def train_modes(fixture: Fixture) -> Outputs:
    config = fixture.config
    targets = {each.sources[0]: each.target for each in checkpoint.generator_rules(config)}
    flags = {}
    for mode in config["modes"]:
        with torch.device("meta"):
            network = architecture.generator_spec(config).build()
        trainable = Trainable(**PHASES[mode.replace("_", "-")])
        trainable.apply(network)
        trains = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
        of_mode = [
            trainable.condition if checkpoint.generator_ignored(name) else trains[targets[name]]
            for name in config["parameter_names"]
        ]
        flags[mode] = torch.tensor(of_mode, dtype=fixture.dtype)
    return flags
