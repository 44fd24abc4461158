"""Styleformer's generator through the importer, and its parts: a layer, a block of one resolution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from assemblies.conversion.weight_map import WeightRule, rule, translate
from assemblies.generator import Synthesis
from assemblies.models.styleformer import architecture as styleformer
from assemblies.models.styleformer.presets import RANK, num_heads
from blocks.common.noise import noise_mode
from blocks.common.resample import Upsample2d
from blocks.image_head.to_rgb import ToRGB
from blocks.layer.pos_embed import PosEmbed
from blocks.layer.styled_attention import StyledAttention
from blocks.synthesis_input.constant import Constant
from tests.golden.recipe import Fixture, adapter


@adapter("styleformer", "Generator")
def generator(fixture: Fixture) -> dict[str, Tensor]:
    args, run = fixture.config["kwargs"], fixture.config.get("run", {})
    network = styleformer.generator_spec(args).build().to(fixture.dtype).eval()
    rules = styleformer.generator_rules(args)
    found = translate(rules, fixture.tensors, network, ignored=styleformer.generator_ignored)
    weights = dict(network.named_buffers()) | found
    of_mapping = {name.removeprefix("mapping."): each for name, each in weights.items() if name.startswith("mapping")}
    of_synthesis = {
        name.removeprefix("synthesis."): each for name, each in weights.items() if name.startswith("synthesis")
    }
    c = fixture.inputs.get("c")
    if c is not None and not c.is_floating_point():
        c = F.one_hot(c, args["c_dim"]).to(fixture.dtype)

    def image(ws: Tensor) -> Tensor:
        made: Tensor = functional_call(network.synthesis, of_synthesis, ws, strict=True)
        return made

    def mapped(z: str, **how: Any) -> Tensor:
        ws: Tensor = functional_call(network.mapping, of_mapping, (fixture.inputs[z], c), how, strict=True)
        return ws

    resolutions = len(args["synthesis_kwargs"]["num_layers"])
    with noise_mode(run.get("noise_mode", "const")):
        ws = mapped("z")
        seen = blocks_of(args, network.synthesis)
        outputs = {"img": image(ws)} | {f"block:{name}": value for name, value in seen.items()}
        # the reference's last style vectors, all but one for each resolution, are used by nothing
        outputs["ws"] = torch.cat([ws, ws[:, -1:].expand(-1, resolutions - 1, -1)], dim=1)
        for number, how in enumerate(run.get("truncation", [])):
            given = {"truncation_psi": how.get("psi", 1), "truncation_cutoff": how.get("cutoff")}
            outputs[f"img_trunc{number}"] = functional_call(
                network, weights, (fixture.inputs["z"], c), given, strict=True
            )
        for cutoff in run.get("mix_cutoffs", []):
            mixed = torch.cat([ws[:, :cutoff], mapped("z2")[:, cutoff:]], dim=1)
            outputs[f"img_mix{cutoff}"] = image(mixed)
    return outputs


def blocks_of(args: dict[str, Any], synthesis: Synthesis) -> dict[str, Tensor]:
    """What each block gives, filled in while the synthesis runs: its tokens, upsampled after the last of a resolution,
    and the image so far.
    """
    seen: dict[str, Tensor] = {}
    so_far: list[Tensor] = []

    def heed(name: str) -> Any:
        block, _, part = name.rpartition(".")

        def hook(_: nn.Module, given: Any, output: Tensor) -> None:
            if part == "torgb":
                so_far.append(output)
            else:
                seen[f"{block}:x"] = output.flatten(2).mT
            if so_far:
                seen[f"{block}:img"] = so_far[-1]

        return hook

    for name, step in zip(styleformer.synthesis_steps(args), synthesis, strict=True):
        if name.rpartition(".")[2] in ("enc", "torgb", "upsample"):
            step.register_forward_hook(heed(name))
    return seen


def layer_of(options: dict[str, Any], resolution: tuple[int, int]) -> StyledAttention:
    """The reference's layer of these constructor arguments."""
    return StyledAttention(
        options["h_dim"],
        resolution,
        options["w_dim"],
        dim=options["out_dim"],
        num_heads=num_heads(options["h_dim"], options["depth"], options["minimum_head"]),
        rank=RANK if options.get("linformer") else None,
        clamp=options.get("conv_clamp"),
    )


@adapter("styleformer", "Encoderlayer")
def layer(fixture: Fixture) -> dict[str, Tensor]:
    options, inputs = fixture.config["kwargs"], fixture.inputs
    resolution = (1, options["seq_length"])
    block = layer_of(options, resolution).to(fixture.dtype)
    rules = styleformer.attention_rules("", "", linformer=bool(options.get("linformer")), resolution=resolution)
    weights = translate([_without_dot(each) for each in rules], fixture.tensors, block)
    with noise_mode(fixture.config.get("run", {}).get("noise_mode", "const")):
        y = functional_call(block, weights, (inputs["x"].mT[:, :, None], inputs["w"][:, None]), strict=True)
    return {"y": y[:, :, 0].mT}


@adapter("styleformer", "EncoderBlock")
def block_of_resolution(fixture: Fixture) -> dict[str, Tensor]:
    options, inputs, size = fixture.config["kwargs"], fixture.inputs, fixture.config["kwargs"]["resolution"]
    dim, out_dim, w_dim = options["h_dim"], options["out_dim"], options["w_dim"]
    first, last = options.get("is_first", False), options.get("is_last", False)
    linformer = bool(options.get("linformer")) and size >= 32
    parts = nn.ModuleDict({"enc": layer_of(options | {"linformer": linformer}, (size, size))})
    rules = list(styleformer.attention_rules("enc", "enc", linformer=linformer))
    if "x" not in inputs:
        parts["const"] = Constant(dim=dim, resolution=size)
        rules.append(rule("const.value", "const", make=styleformer.constant))
    if first:
        parts["pos"] = PosEmbed(dim, size)
        rules.append(rule("pos.value", "pos_embedding", make=lambda value: styleformer.square(value[0])))
    if last:
        parts["torgb"] = ToRGB(out_dim, w_dim, options["img_channels"], modulation="demodulate")
        rules += styleformer.to_rgb_rules("torgb", "torgb")
    parts = parts.to(fixture.dtype)
    ignored = ("const",) if "x" in inputs else ()
    weights = translate(
        rules,
        fixture.tensors,
        parts,
        ignored=lambda name: styleformer.generator_ignored(name) or name in ignored,
    )

    def run(name: str, *given: Tensor | None) -> Tensor:
        inside = {key.removeprefix(f"{name}."): each for key, each in weights.items() if key.startswith(f"{name}.")}
        made: Tensor = functional_call(parts[name], inside, given)
        return made

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


def _without_dot(given: WeightRule) -> WeightRule:
    return given._replace(ours=given.ours.lstrip("."), theirs=tuple(name.lstrip(".") for name in given.theirs))
