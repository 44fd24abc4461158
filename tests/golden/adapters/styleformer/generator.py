"""Styleformer's generator with the weight rules of its importer, and its parts: a layer, a block of one resolution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from assemblies.conversion.weight_map import WeightRule, rule, translate
from assemblies.models.styleformer import architecture, checkpoint
from assemblies.models.stylegan2.checkpoint import to_rgb_rules
from assemblies.synthesis import Synthesis
from blocks.common.noise import noise_mode
from blocks.common.resample import Upsample2d
from blocks.image_head.to_rgb import ToRGB
from blocks.layer.pos_embed import PosEmbed
from blocks.layer.styled_attention import StyledAttention
from blocks.synthesis_input.constant import Constant
from tests.golden.adapters.networks import weights_of
from tests.golden.fixtures import Fixture, Outputs, adapter, without_prefix


@adapter("styleformer", "Generator")
def generator(fixture: Fixture) -> Outputs:
    args, run = fixture.config["kwargs"], fixture.config.get("run", {})
    network = architecture.generator_spec(args).build().to(fixture.dtype).eval()
    weights = weights_of(network, checkpoint.generator_rules(args), fixture.tensors, checkpoint.generator_ignored)
    mapping, synthesis = without_prefix(weights, "mapping."), without_prefix(weights, "synthesis.")
    c = fixture.condition(args["c_dim"], "c", "label") if args.get("c_dim", 0) else None

    def image_of(ws: Tensor) -> Tensor:
        image: Tensor = functional_call(network.synthesis, synthesis, ws, strict=True)
        return image

    def styles_of(z: str) -> Tensor:
        ws: Tensor = functional_call(network.mapping, mapping, (fixture.inputs[z], c), strict=True)
        return ws

    resolutions = len(args["synthesis_kwargs"]["num_layers"])
    with noise_mode(run.get("noise_mode", "const")):
        ws = styles_of("z")
        block_outputs = record_blocks(args, network.synthesis)
        outputs = {"img": image_of(ws)} | {f"block:{name}": value for name, value in block_outputs.items()}
        # the reference reserves a style vector for each resolution; it uses all but the last (#resolutions - 1)
        outputs["ws"] = torch.cat([ws, ws[:, -1:].expand(-1, resolutions - 1, -1)], dim=1)
        for number, truncation in enumerate(run.get("truncation", [])):
            options = {"truncation_psi": truncation.get("psi", 1), "truncation_cutoff": truncation.get("cutoff")}
            inputs = (fixture.inputs["z"], c)
            outputs[f"img_trunc{number}"] = functional_call(network, weights, inputs, options, strict=True)
        for cutoff in run.get("mix_cutoffs", []):
            mixed = torch.cat([ws[:, :cutoff], styles_of("z2")[:, cutoff:]], dim=1)
            outputs[f"img_mix{cutoff}"] = image_of(mixed)
    return outputs


def record_blocks(args: dict[str, Any], synthesis: Synthesis) -> Outputs:
    """A dictionary that the synthesis fills with each block's output while it runs.

    An output is the tokens, upsampled after the last block of a resolution, and the image so far.
    """
    outputs: Outputs = {}
    images: list[Tensor] = []

    def record(name: str) -> Any:
        block, _, part = name.rpartition(".")

        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if part == "torgb":
                images.append(output)
            else:
                outputs[f"{block}:x"] = output.flatten(2).mT
            if images:
                outputs[f"{block}:img"] = images[-1]

        return hook

    for name, step in zip(architecture.reference_synthesis(args), synthesis, strict=True):
        if name.rpartition(".")[2] in ("enc", "torgb", "upsample"):
            step.register_forward_hook(record(name))
    return outputs


def layer_of(options: dict[str, Any], resolution: tuple[int, int]) -> StyledAttention:
    """The reference's layer of these constructor arguments."""
    return StyledAttention(
        options["h_dim"],
        resolution,
        options["w_dim"],
        dim=options.get("out_dim"),
        num_heads=architecture.num_heads(options["h_dim"], options["depth"], options["minimum_head"]),
        rank=architecture.RANK if options.get("linformer") else None,
        clamp=options.get("conv_clamp"),
    )


@adapter("styleformer", "Encoderlayer")
def layer(fixture: Fixture) -> Outputs:
    options, inputs = fixture.config["kwargs"], fixture.inputs
    resolution = (1, options["seq_length"])
    block = layer_of(options, resolution).to(fixture.dtype)
    rules = checkpoint.attention_rules("", "", linformer=bool(options.get("linformer")), resolution=resolution)
    weights = translate([without_dots(each) for each in rules], fixture.tensors, block)
    with noise_mode(fixture.config.get("run", {}).get("noise_mode", "const")):
        y = functional_call(block, weights, (inputs["x"].mT[:, :, None], inputs["w"][:, None]), strict=True)
    return {"y": y[:, :, 0].mT}


@adapter("styleformer", "EncoderBlock")
def block_of_resolution(fixture: Fixture) -> Outputs:
    options, inputs, size = fixture.config["kwargs"], fixture.inputs, fixture.config["kwargs"]["resolution"]
    dim, w_dim = options["h_dim"], options["w_dim"]
    first, last = options.get("is_first", False), options.get("is_last", False)
    linformer = bool(options.get("linformer")) and size >= architecture.LINFORMER_FROM
    parts = nn.ModuleDict({"enc": layer_of(options | {"linformer": linformer}, (size, size))})
    rules = list(checkpoint.attention_rules("enc", "enc", linformer=linformer))
    if "x" not in inputs:
        parts["const"] = Constant(dim=dim, resolution=size)
        rules.append(rule("const.value", "const", convert=checkpoint.constant))
    if first:
        parts["pos"] = PosEmbed(dim, size)
        rules.append(rule("pos.value", "pos_embedding", convert=checkpoint.pos_embedding))
    if last:
        parts["torgb"] = ToRGB(options.get("out_dim") or dim, w_dim, options["img_channels"], modulation="demodulate")
        rules += to_rgb_rules("torgb", "torgb")
    parts = parts.to(fixture.dtype)
    unused = ("const", "proj_weight")  # the constant of another block, and the second name of enc.proj_weight
    weights = translate(
        rules,
        fixture.tensors,
        parts,
        ignored=lambda name: checkpoint.generator_ignored(name) or name in unused,
    )

    def run(name: str, *args: Tensor | None) -> Tensor:
        output: Tensor = functional_call(parts[name], without_prefix(weights, f"{name}."), args)
        return output

    ws = inputs["ws"]
    x = inputs["x"].mT.unflatten(2, (size, size)) if "x" in inputs else run("const", ws)
    x = run("pos", x, ws) if first else x
    with noise_mode(fixture.config.get("run", {}).get("noise_mode", "const")):
        x = run("enc", x, ws[:, :1])
    image = inputs.get("img")
    if last:
        image = run("torgb", x, ws[:, 1:2], image)
        if size < options["img_resolution"]:
            x = Upsample2d().to(fixture.dtype)(x)
    outputs = {"x": x.flatten(2).mT}
    return outputs if image is None else outputs | {"img": image}


def without_dots(each: WeightRule) -> WeightRule:
    return each._replace(target=each.target.lstrip("."), sources=tuple(name.lstrip(".") for name in each.sources))
