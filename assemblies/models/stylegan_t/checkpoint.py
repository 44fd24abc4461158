"""StyleGAN-T's pickles, which dill wrote: whole networks by reference to their classes, without their arguments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isqrt
from typing import Any

from torch import Tensor

from assemblies.conversion.importer import Conversion, Importer, Names, count, require
from assemblies.conversion.weight_map import rule
from assemblies.models.stylegan_t import architecture as stylegan_t

OPTIONS = {
    "gn_groups": "Groups of the group norms; 32 by default.",
    "clip": "open_clip's name or configuration of the text tower that came along; null leaves the tower out.",
}
CLIP, TOWER = "ViT-L-14-quickgelu", "mapping.clip.model."  # OpenAI's, as the reference takes it
DISCRIMINATOR_OPTIONS = {
    "img_resolution": "Side of the images, in pixels.",
    "num_heads": "Heads of the vision transformer; as many as are 64 wide by default.",
    "virtual_bs": "Samples whose statistics are taken together; 8 by default.",
}
VIT = "dino.model.model."
IDLE = ("logit_scale", "attn_mask")


def is_generator(names: Names) -> bool:
    return {"mapping.x_avg", "synthesis.b8.input.freqs", "synthesis.b8.convs1.0.affine.proj.weight"} <= names


def generator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
    options = told_by_tensors(tensors)
    options["synthesis_kwargs"]["gn_groups"] = int(args.get("gn_groups", 32))
    spec, rules, notes = stylegan_t.generator_spec(options), stylegan_t.generator_rules(options), []
    tower = [name.removeprefix(TOWER) for name in tensors if name.startswith(TOWER) and not name.endswith(IDLE)]
    if tower and (clip := args.get("clip", CLIP)):
        condition = {"kind": "open-clip-text", "model": clip, "embed_weights": True}
        spec = type(spec)(**spec.to_dict() | {"condition": condition})
        rules += [rule(f"condition.tower.{name}", TOWER + name) for name in tower]
        notes.append("CLIP's text tower came along and is a part of the model (--set clip=null leaves it out)")
    elif options["c_dim"]:
        notes.append(f"its condition is a text's embedding of {options['c_dim']} features, made by CLIP's text tower")
    return Conversion(spec, rules, tensors, stylegan_t.generator_ignored, tuple(notes))


def told_by_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The constructor's arguments, which all but one follow from the tensors' names and shapes."""
    sides = sorted({int(found[1]) for found in (re.match(r"synthesis\.b(\d+)\.", name) for name in tensors) if found})
    channels = {side: len(tensors[f"synthesis.b{side}.convs1.0.weight"]) for side in sides}
    z_dim, w_dim = len(tensors["mapping.x_avg"]), tensors["synthesis.b8.input.affine.weight"].shape[1]
    most = max(channels.values())
    narrow = [side for side in sides if channels[side] < most]
    pairs = count(tensors, "synthesis.b8.convs1.{}.weight") // 2
    return {
        "z_dim": z_dim,
        "c_dim": w_dim - z_dim,
        "w_dim": w_dim,
        "num_ws": len(sides) * (1 + 2 * pairs) + 1,
        "img_resolution": sides[-1],
        "img_channels": len(tensors[f"synthesis.b{sides[-1]}.torgb.weight"]),
        "synthesis_kwargs": {
            "architecture": "skip" if "synthesis.b8.torgb.weight" in tensors else "orig",
            "num_res_blocks": pairs,
            "channel_base": channels[narrow[0]] * narrow[0] if narrow else most * sides[-1],
            "channel_max": most,
        },
    }


def is_discriminator(names: Names) -> bool:
    return {f"{VIT}pos_embed", "heads.0.main.0.0.weight_orig", "heads.0.cls.weight_orig"} <= names


def discriminator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
    dim, channels, patch, _ = tensors[f"{VIT}patch_embed.proj.weight"].shape
    if dim % 64:
        require(args, "num_heads", f"{dim} channels do not split into heads of 64")
    cmapper = tensors.get("heads.0.cmapper.weight")
    vit = {
        "img_size": isqrt(tensors[f"{VIT}pos_embed"].shape[1] - 1) * patch,
        "patch": patch,
        "embed_dim": dim,
        "depth": count(tensors, VIT + "blocks.{}.norm1.weight"),
        "num_heads": int(args.get("num_heads", dim // 64)),
        "mlp_ratio": len(tensors[f"{VIT}blocks.0.mlp.fc1.weight"]) / dim,
    }
    options = {
        "c_dim": 0 if cmapper is None else cmapper.shape[1],
        "cmap_dim": 64 if cmapper is None else len(cmapper),
        "virtual_bs": int(args.get("virtual_bs", 8)),
        "img_resolution": require(args, "img_resolution", "it judges images of any size"),
        "img_channels": channels,
        "vit": vit,
    }
    return Conversion(
        stylegan_t.discriminator_spec(options),
        stylegan_t.discriminator_rules(options, tensors),
        tensors,
        context=stylegan_t.discriminator_context(options),
    )


GENERATOR = Importer("stylegan-t generator", is_generator, generator, OPTIONS)
DISCRIMINATOR = Importer("stylegan-t discriminator", is_discriminator, discriminator, DISCRIMINATOR_OPTIONS, ("D",))
