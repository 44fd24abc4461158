"""StyleGAN-T's networks as specs, and the names of their tensors.

StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515. Options are called here as the reference's constructors
call them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from assemblies.conversion.weight_map import WeightRule, rule
from assemblies.generator import LayeredGenerator
from assemblies.models.stylegan2.architecture import flat, pair, understood
from assemblies.models.stylegan_t import presets as stylegan_t
from assemblies.projected import ProjectedDiscriminator
from registry import Spec, incompatible

Options = Mapping[str, Any]
# the precision they were computed in; and the clamp, which is read apart
IDLE = ("num_fp16_res", "conv_clamp", "verbose")
HOOKS = (2, 5, 8, 11)  # blocks of the vision transformer that the heads read, counted from 0


def generator_spec(args: Options) -> Spec:
    """The generator of these options: z_dim, c_dim, img_resolution, img_channels and so on.

    Raises:
        IncompatibleError: Options that nothing here corresponds to.
    """
    return LayeredGenerator.Spec(
        z_dim=args["z_dim"],
        w_dim=args["z_dim"] + args.get("c_dim", 0),
        cond_dim=args.get("c_dim", 0),
        mapping=mapping_options(args),
        synthesis=list(synthesis_steps(args).values()),
        image_channels=args.get("img_channels", 3),
    )


def generator_rules(args: Options) -> list[WeightRule]:
    """Where the generator's tensors come from."""
    rules = list(mapping_rules("mapping.", "mapping.", args))
    for index, name in enumerate(synthesis_steps(args)):
        rules += step_rules(f"synthesis.{index}.", f"synthesis.{name}.", name)
    return rules


def generator_ignored(name: str) -> bool:
    """Whether a tensor of the reference's generator holds nothing that was learnt, or belongs to CLIP's text tower."""
    return name.rpartition(".")[2] == "resample_filter" or name.startswith("mapping.clip.")


def discriminator_spec(args: Options) -> Spec:
    """The discriminator of these options: c_dim, cmap_dim, virtual_bs and vit, the vision transformer's sizes.

    Raises:
        IncompatibleError: Options that nothing here corresponds to.
    """
    return ProjectedDiscriminator.Spec(networks=[network_options(args.get("vit", {}))], head=head_options(args))


def discriminator_context(args: Options) -> dict[str, int]:
    """What the discriminator of these options is built with beside its spec."""
    channels = args.get("img_channels", 3)
    return {"resolution": args["img_resolution"], "image_channels": channels, "cond_dim": args.get("c_dim", 0)}


def discriminator_rules(args: Options, names: Mapping[str, Any]) -> list[WeightRule]:
    """Where the discriminator's tensors come from.

    Args:
        args: Options.
        names: The reference's tensors, of which those of the vision transformer keep their names.
    """
    rules = list(network_rules("networks.0.", "dino.model.model.", names))
    for index in range(len(HOOKS) + 1):
        rules += head_rules(f"heads.0.{index}.", f"heads.{index}.", args)
    return rules


def synthesis_steps(args: Options) -> dict[str, Any]:
    """The generator's steps by their names there."""
    options = {name: value for name, value in args.get("synthesis_kwargs", {}).items() if name not in IDLE}
    clamp = args.get("synthesis_kwargs", {}).get("conv_clamp", stylegan_t.CLAMP)
    names = {"num_res_blocks": "num_pairs", "gn_groups": "num_groups", "architecture": "architecture"}
    names |= {"channel_base": "channel_base", "channel_max": "channel_max"}
    understood(
        "synthesis_kwargs",
        {name: value for name, value in options.items() if name not in names},
        kernel_size=3,
        activation="lrelu",
        resample_filter=[1, 3, 3, 1],
        use_noise=True,
    )
    told = {ours: options[theirs] for theirs, ours in names.items() if theirs in options}
    told.setdefault("architecture", "orig")  # the class's own default; its command line says skip
    if told["architecture"] not in ("skip", "orig"):
        raise incompatible(("synthesis_kwargs", "architecture"), f"is skip or orig, not {told['architecture']!r}")
    size = args["img_resolution"]
    if size < 8 or size & (size - 1):
        raise incompatible("img_resolution", f"the reference has powers of two from 8 on, not {size}")
    return stylegan_t.synthesis_steps(size, clamp=clamp, **told)


def mapping_options(args: Options) -> dict[str, Any]:
    """The mapping of these options: num_layers, lr_multiplier and x_avg_beta."""
    names = {"num_layers": "num_layers", "lr_multiplier": "lr_multiplier", "x_avg_beta": "w_avg_beta"}
    return {"kind": "bypass-mapping"} | {ours: args[theirs] for theirs, ours in names.items() if theirs in args}


def mapping_rules(ours: str, theirs: str, args: Options) -> Iterator[WeightRule]:
    """Where a mapping's tensors come from."""
    yield rule(f"{ours}w_avg", f"{theirs}x_avg")
    for layer in range(args.get("num_layers", 2)):
        yield from pair(f"{ours}layers.{layer}", f"{theirs}mlp.fc{layer}")


def step_rules(ours: str, theirs: str, name: str) -> list[WeightRule]:
    """Where the tensors of a step come from; its name there says what it is."""
    if name.endswith("input"):
        return [
            *pair(f"{ours}affine", f"{theirs}affine"),
            *(rule(ours + part, theirs + part) for part in ("weight", "freqs", "phases", "transform")),
        ]
    if name.endswith("torgb"):
        return [
            *pair(f"{ours}affine.proj", f"{theirs}affine.proj"),
            rule(f"{ours}weight", f"{theirs}weight", make=flat),
            rule(f"{ours}bias", f"{theirs}bias"),
        ]
    if re.search(r"convs1\.\d*[13579]$", name):  # the second of each pair
        return [
            *pair(f"{ours}norm", f"{theirs}norm"),
            rule(f"{ours}scale.gamma", f"{theirs}gamma", make=Tensor.flatten),
            *conv_rules(f"{ours}layer.", theirs),
        ]
    return conv_rules(ours, theirs)


def conv_rules(ours: str, theirs: str) -> list[WeightRule]:
    """Where a modulated convolution's tensors come from."""
    return [
        *pair(f"{ours}affine.proj", f"{theirs}affine.proj"),
        *(rule(ours + part, theirs + part) for part in ("weight", "bias")),
        rule(f"{ours}noise.strength", f"{theirs}noise_strength"),
        rule(f"{ours}noise.const", f"{theirs}noise_const"),
    ]


def network_options(vit: Options, hooks: tuple[int, ...] = HOOKS) -> dict[str, Any]:
    """The frozen network: DINO's small vision transformer, or one of other sizes."""
    sizes = {name: vit[name] for name in ("embed_dim", "depth", "num_heads", "mlp_ratio") if name in vit}
    sizes |= {"patch_size": vit["patch"]} if "patch" in vit else {}
    return {
        "kind": "timm",
        "network": "vit_small_patch16_224.dino",
        "weights": None,  # they come with the discriminator's
        "depths": [*(hook + 1 for hook in hooks), 0],
        "image_size": vit.get("img_size"),
        "arguments": sizes,
    }


def network_rules(ours: str, theirs: str, names: Mapping[str, Any]) -> Iterator[WeightRule]:
    """Where the frozen network's tensors come from: they keep timm's names."""
    for name in names:
        if name.startswith(theirs):
            yield rule(f"{ours}network.network.{name.removeprefix(theirs)}", name)


def head_options(args: Options) -> dict[str, Any]:
    """A head of these options: cmap_dim and virtual_bs."""
    return {
        "kind": "token-conv",
        "embed_dim": args.get("cmap_dim", 64),
        "norm": {"kind": "batch-norm-local", "group_size": args.get("virtual_bs", 8)},
    }


def head_rules(ours: str, theirs: str, args: Options) -> list[WeightRule]:
    """Where a head's tensors come from."""
    rules = [*pair(f"{ours}norm1", f"{theirs}main.0.1"), *pair(f"{ours}norm2", f"{theirs}main.1.fn.1")]
    for mine, name in (("conv1", "main.0.0"), ("conv2", "main.1.fn.0"), ("out", "cls")):
        weight = f"{ours}{mine}.parametrizations.weight"
        rules.append(rule(f"{ours}{mine}.bias", f"{theirs}{name}.bias"))
        rules.append(rule(f"{weight}.original", f"{theirs}{name}.weight_orig"))
        rules += [rule(f"{weight}.0.{each}", f"{theirs}{name}.weight_{each}") for each in "uv"]
    if args.get("c_dim", 0):
        rules += pair(f"{ours}projection.embed", f"{theirs}cmapper")
    return rules
