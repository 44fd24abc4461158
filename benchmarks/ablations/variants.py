"""The studies: what is compared, as changes of a preset's document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, Literal

from assemblies import GAN, parse, read
from assemblies.models.r3gan.presets import networks as r3gan_networks
from assemblies.models.stylegan2 import architecture as stylegan2
from benchmarks.ablations.emoji_search import CANDIDATES
from plugins.emoji_presets import CLIP, MAPPING, emoji_stylegan_t_32
from registry import Spec

Part = dict[str, Any]
Changes = Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """Variants that are compared.

    Args:
        variants: Functions of kimg that make a document; the first variant is the reference.
        kimg: Default length of a run, in thousands of images.
        data: The data set, whose classifier gives the score.
        clip: Whether the documents take the weights of a small CLIP, which is trained first.
    """

    variants: Mapping[str, Callable[..., Spec]]
    kimg: float
    data: Literal["digits", "emoji"]
    clip: bool = False


def changed(part: Any, changes: Changes) -> Any:
    """A document with changes of all parts of a kind.

    Args:
        part: The document.
        changes: `kind.option` is a new value of an option, `kind` a new part, or a function of the part.
    """
    if isinstance(part, list):
        return [changed(each, changes) for each in part]
    if not isinstance(part, dict):
        return part
    part = {name: changed(value, changes) for name, value in part.items()}
    kind = part.get("kind")
    if kind in changes:
        return changes[kind](part) if callable(changes[kind]) else changes[kind]
    return part | {key.partition(".")[2]: value for key, value in changes.items() if key.startswith(f"{kind}.")}


def variant_of(preset: str, changes: Changes, *, kimg: float) -> Spec:
    return parse(changed(read(preset).to_dict() | {"kimg": kimg}, changes))


def variants_of(preset: str, variants: Mapping[str, Changes]) -> dict[str, Callable[..., Spec]]:
    return {name: partial(variant_of, preset, changes) for name, changes in variants.items()}


def partitions(dilations: list[int], part: Part) -> Part:
    """A hydra-na block with eight heads in partitions of these dilations, none larger than the preset's largest."""
    reach = max(part["dilations"])
    return part | {"num_heads": 8, "dilations": [min(each, reach) for each in dilations]}


LOCAL_GLOBAL_2: Part = {"hydra-na": partial(partitions, [1, 8])}
PROGRESSIVE_4: Part = {"hydra-na": partial(partitions, [1, 2, 4, 8])}
STYLENAT: dict[str, Changes] = {  # tables 3 and 4; all variants have eight heads at 8, 16 and 32 px
    "2 partitions, local and global": LOCAL_GLOBAL_2,
    "1 partition, local": {"hydra-na": partial(partitions, [1])},
    "4 partitions, local and global": {"hydra-na": partial(partitions, [1, 1, 8, 8])},
    "4 partitions, progressive": PROGRESSIVE_4,
    "8 partitions, progressive": {"hydra-na": partial(partitions, [*range(1, 9)])},
    "2 partitions, flips": LOCAL_GLOBAL_2 | {"gan.flip": True},
    "4 partitions, progressive, flips": PROGRESSIVE_4 | {"gan.flip": True},
}
STYLEFORMER: dict[str, Changes] = {
    "whole": {},
    "LayerNorm after attention": {"styled-attention.layer_norm": "post"},
    "no LayerNorm": {"styled-attention.layer_norm": None},
    "residual of the input": {"styled-attention.residual": "raw"},
    "no residual": {"styled-attention.residual": None},
    "feed-forward": {"styled-attention.feed_forward": "mlp"},
}
DOT_PRODUCT: Part = {"kind": "dense", "num_heads": 4, "qkv_bias": False, "equalized": True}
VITGAN: dict[str, Changes] = {
    "whole": {},
    "dot-product attention": {"l2": DOT_PRODUCT},
    "no spectral norm": {"improved-spectral-norm": None},
    "no overlap": {"overlapping-patches.overlap": 0},
    "no bCR": {"gan.regularizers": []},
    "w added to tokens": {"sln": {"kind": "layer-norm"}, "learned-tokens.latent": "add"},
    "linear patches": {"inr-patches": {"kind": "linear-patches", "patch_size": 4}},
}
GUIDANCE: Part = {"kind": "clip-guidance", "weight": 0.2, "model": CLIP}
STYLEGAN_T: dict[str, Changes] = {
    "whole, no guidance": {},
    "no residual convolutions": {"residual": itemgetter("layer")},
    "first-order styles": {"modulated-conv.style_order": 1, "to-rgb.style_order": 1},
    "text through the mapping": {"bypass-mapping": MAPPING},
    "CLIP guidance": {"gan.regularizers": [*emoji_stylegan_t_32().to_dict()["regularizers"], GUIDANCE]},
}
POSITIONS: dict[str, Changes] = {
    "bias": {},
    "rotary": {"hydra-na.relative_position_bias": False, "hydra-na.rotary": True},
    "bias and rotary": {"hydra-na.rotary": True},
    "no positions": {"hydra-na.relative_position_bias": False},
}

R3GAN = r3gan_networks([96, 96, 48], [6, 6, 3], None)
NETWORKS: dict[str, Part] = {  # of 16 px, with similar numbers of weights
    "StyleGAN2": {
        "generator": stylegan2.generator(16, num_mapping_layers=2, channel_base=768, channel_max=96)
        | {"z_dim": 64, "image_channels": 1},
        "discriminator": stylegan2.discriminator(16, channel_base=768, channel_max=96),
    },
    "R3GAN": R3GAN | {"generator": R3GAN["generator"].to_dict() | {"image_channels": 1}},
}
TRAINING = {"StyleGAN2": (4e-3, 0.1), "R3GAN": (2e-3, 1.0)}  # learning rate and gamma
LOSSES = {  # loss and regularizers, by name
    "NS + R1": ("non-saturating", ["r1"]),
    "RP + R1 + R2": ("relativistic", ["r1", "r2"]),
    "RP + approximate R1 + R2": ("relativistic", ["approximate-r1", "approximate-r2"]),
}


def with_networks_and_loss(*, kimg: float, networks: str, loss: str) -> Spec:
    """StyleGAN2's or R3GAN's networks of 16 px with a loss. Learning rate and gamma depend on the networks alone.

    Args:
        kimg: Length, in thousands of images.
        networks: Key of `NETWORKS`.
        loss: Key of `LOSSES`.
    """
    kind, penalties = LOSSES[loss]
    rate, gamma = TRAINING[networks]
    optimizer = {"lr": {"kind": "cosine", "init": rate, "final": rate / 4, "kimg": kimg}, "betas": [0.0, 0.99]}
    return GAN.Spec(
        **NETWORKS[networks],
        loss=kind,
        regularizers=[{"kind": penalty, "gamma": gamma} for penalty in penalties],
        generator_optimizer=optimizer,
        discriminator_optimizer=optimizer,
        ema={"half_life_kimg": 1.0},
        batch_size=32,
        kimg=kimg,
    )


PAIRS = {
    f"{networks}, {loss}": partial(with_networks_and_loss, networks=networks, loss=loss)
    for networks in NETWORKS
    for loss in LOSSES
}
STUDIES = {
    "digits-vitgan": Study(variants_of("mini-vitgan", VITGAN), 24.0, "digits"),
    "digits-r3gan": Study(PAIRS, 12.0, "digits"),
    "digits-positions": Study(variants_of("mini-stylenat", POSITIONS), 12.0, "digits"),
    "stylenat": Study(variants_of("emoji-stylenat-32", STYLENAT), 40.0, "emoji"),
    "styleformer": Study(variants_of("emoji-styleformer-32", STYLEFORMER), 40.0, "emoji"),
    "vitgan": Study(variants_of("emoji-vitgan-32", VITGAN), 40.0, "emoji"),
    "stylegan-t": Study(variants_of("emoji-stylegan-t-32", STYLEGAN_T), 40.0, "emoji", clip=True),
    "search": Study(CANDIDATES, 60.0, "emoji"),
}
