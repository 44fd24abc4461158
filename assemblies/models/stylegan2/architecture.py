"""StyleGAN2-ADA's networks as specs, and the names of their tensors.

StyleGAN2-ADA, Karras et al. 2020, https://arxiv.org/abs/2006.06676. Options are called here as the reference's
constructors call them, which is how its files store them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from assemblies.conversion.weight_map import WeightRule, rule
from assemblies.discriminator import LayeredDiscriminator
from assemblies.generator import LayeredGenerator
from assemblies.models.stylegan2 import presets as stylegan2
from registry import IncompatibleError, Problem, Spec, incompatible

Options = Mapping[str, Any]
# how numbers were computed, not which: precision, memory layout, what was frozen while training
IDLE = ("num_fp16_res", "fp16_channels_last", "force_fp32", "fused_modconv_default", "freeze_layers", "use_fp16")
BINOMIAL = [1, 3, 3, 1]


def generator_spec(args: Options) -> Spec:
    """The generator of these options: z_dim, c_dim, w_dim, img_resolution, img_channels and so on.

    Raises:
        IncompatibleError: Options that nothing here corresponds to.
    """
    steps = synthesis_steps(args)
    return LayeredGenerator.Spec(**outline(args), synthesis=list(steps.values()))


def generator_rules(args: Options) -> list[WeightRule]:
    """Where the generator's tensors come from."""
    rules = list(mapping_rules("mapping", "mapping", args.get("mapping_kwargs", {}), args))
    for index, name in enumerate(synthesis_steps(args)):
        ours, theirs = f"synthesis.{index}", f"synthesis.{name}"
        if name.endswith("const"):
            rules.append(rule(f"{ours}.value", theirs))
        elif name.endswith("torgb"):
            rules += to_rgb_rules(ours, theirs)
        else:
            parts = {"affine.weight": "", "affine.bias": "", "weight": "", "bias": "", "noise.const": "noise_const"}
            parts |= {"noise.strength": "noise_strength"}
            rules += [rule(f"{ours}.{mine}", f"{theirs}.{name or mine}") for mine, name in parts.items()]
    return rules


def generator_ignored(name: str) -> bool:
    """Whether a tensor of the reference's generator holds nothing that was learnt."""
    return name.rpartition(".")[2] == "resample_filter"


def discriminator_spec(args: Options) -> Spec:
    """The discriminator of these options: c_dim, img_resolution, img_channels, architecture and so on.

    Raises:
        IncompatibleError: Options that nothing here corresponds to.
    """
    return LayeredDiscriminator.Spec(steps=list(discriminator_steps(args).values()))


def discriminator_context(args: Options) -> dict[str, int]:
    """What the discriminator of these options is built with beside its spec."""
    return {
        "resolution": args["img_resolution"],
        "image_channels": args["img_channels"],
        "cond_dim": args.get("c_dim", 0),
    }


def discriminator_rules(args: Options) -> list[WeightRule]:
    """Where the discriminator's tensors come from."""
    rules: list[WeightRule] = []
    resnet = args.get("architecture", "resnet") == "resnet"
    for index, name in enumerate(discriminator_steps(args)):
        ours = f"steps.{index}"
        if name == "b4.head":
            rules += [*pair(f"{ours}.hidden", "b4.fc"), *pair(f"{ours}.out", "b4.out")]
            if args.get("c_dim", 0):
                about = args.get("mapping_kwargs", {})
                rules += mapping_rules(f"{ours}.projection.mapping", "mapping", about, args, tracked=False)
        elif name.endswith(("fromrgb", "b4.conv")):
            rules += pair(f"{ours}.conv", name)
        elif name != "b4.mbstd":
            rules += [*pair(f"{ours}.conv1", f"{name}.conv0"), *pair(f"{ours}.conv2", f"{name}.conv1")]
            rules += [rule(f"{ours}.skip.weight", f"{name}.skip.weight")] if resnet else []
    return rules


discriminator_ignored = generator_ignored


def synthesis_steps(args: Options) -> dict[str, stylegan2.Step]:
    """The generator's steps by their names there."""
    options = dict(args.get("synthesis_kwargs", {}))
    known = {name: options.pop(name) for name in ("channel_base", "channel_max") if name in options}
    clamp, use_noise = options.pop("conv_clamp", None), options.pop("use_noise", True)
    understood("synthesis_kwargs", options, architecture="skip", resample_filter=BINOMIAL, activation="lrelu")
    steps = stylegan2.synthesis_steps(args["img_resolution"], clamp=clamp, **known)
    if not use_noise:
        raise incompatible(("synthesis_kwargs", "use_noise"), "a generator without noise has other tensors")
    return steps


def discriminator_steps(args: Options) -> dict[str, stylegan2.Step]:
    """The discriminator's steps by their names there."""
    rest = dict(args)
    for name in ("c_dim", "img_resolution", "img_channels"):
        rest.pop(name, None)
    known = {name: rest.pop(name) for name in ("channel_base", "channel_max", "architecture") if name in rest}
    epilogue, clamp = dict(rest.pop("epilogue_kwargs", {})), rest.pop("conv_clamp", None)
    mapping, block = rest.pop("mapping_kwargs", {}), rest.pop("block_kwargs", {})
    group_size, appended = epilogue.pop("mbstd_group_size", 4), epilogue.pop("mbstd_num_channels", 1)
    head = {"embed_dim": rest.pop("cmap_dim", None), "mapping": mapping_options(mapping)}
    understood((), rest)
    understood("epilogue_kwargs", epilogue, activation="lrelu")
    understood("block_kwargs", block, activation="lrelu", resample_filter=BINOMIAL)
    return stylegan2.discriminator_steps(
        args["img_resolution"], group_size=group_size, num_std_channels=appended, clamp=clamp, head=head, **known
    )


def outline(args: Options) -> dict[str, Any]:
    """A generator's options but for its synthesis.

    Raises:
        IncompatibleError: Options that nothing here corresponds to.
    """
    named = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "mapping_kwargs", "synthesis_kwargs")
    understood((), {name: value for name, value in args.items() if name not in named})
    return {
        "z_dim": args["z_dim"],
        "w_dim": args["w_dim"],
        "cond_dim": args.get("c_dim", 0),
        "image_channels": args["img_channels"],
        "mapping": mapping_options(args.get("mapping_kwargs", {})),
    }


def mapping_options(about: Options) -> dict[str, Any]:
    """The mapping of these options: num_layers, layer_features and so on."""
    names = {"num_layers": "num_layers", "layer_features": "layer_dim", "embed_features": "embed_dim"}
    names |= {"lr_multiplier": "lr_multiplier", "w_avg_beta": "w_avg_beta"}
    understood(
        "mapping_kwargs", {name: value for name, value in about.items() if name not in names}, activation="lrelu"
    )
    told = {ours: about[theirs] for theirs, ours in names.items() if about.get(theirs) is not None}
    return {"kind": "mapping"} | told


def mapping_rules(
    ours: str, theirs: str, about: Options, args: Options, *, tracked: bool = True
) -> Iterator[WeightRule]:
    """Where a mapping's tensors come from; `tracked` says whether there is a mean of its styles."""
    num_layers = about.get("num_layers", 8)
    if tracked:
        yield rule(f"{ours}.w_avg", f"{theirs}.w_avg")
    else:
        yield WeightRule(f"{ours}.w_avg", (f"{theirs}.fc{num_layers - 1}.bias",), torch.zeros_like)
    if args.get("c_dim", 0):
        yield from pair(f"{ours}.embed", f"{theirs}.embed")
    for layer in range(num_layers):
        yield from pair(f"{ours}.layers.{layer}", f"{theirs}.fc{layer}")


def to_rgb_rules(ours: str, theirs: str) -> list[WeightRule]:
    """Where a readout's tensors come from."""
    return [
        *pair(f"{ours}.affine", f"{theirs}.affine"),
        rule(f"{ours}.weight", f"{theirs}.weight", make=flat),
        rule(f"{ours}.bias", f"{theirs}.bias"),
    ]


def pair(ours: str, theirs: str) -> list[WeightRule]:
    return [rule(f"{ours}.{part}", f"{theirs}.{part}") for part in ("weight", "bias")]


def flat(weight: Tensor) -> Tensor:
    """The weight of a 1x1 convolution as that of a linear map, which it may be already."""
    return weight.flatten(1)


def understood(where: str | tuple[()], options: Options, **only: Any) -> None:
    """Look through options that were left over.

    Args:
        where: What they are options of.
        options: By name.
        only: The values that options may have.

    Raises:
        IncompatibleError: One has another value, or nothing here corresponds to it.
    """
    path = () if where == () else (where,)
    problems = []
    for name, value in options.items():
        if name in only:
            same = list(value) == only[name] if isinstance(only[name], list) else value == only[name]
            if not same:
                problems.append(Problem((*path, name), f"is {value!r}; only {only[name]!r} has a counterpart here"))
        elif name not in IDLE:
            problems.append(Problem((*path, name), f"is {value!r}, and nothing here corresponds to it"))
    if problems:
        raise IncompatibleError(problems)
