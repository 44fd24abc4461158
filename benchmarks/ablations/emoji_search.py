"""The candidates of the search for a GAN of emoji at 32 px; docs/emoji.md has results."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from assemblies import parse
from assemblies.models.r3gan.presets import networks as r3gan_networks
from assemblies.models.stylegan2.architecture import generator as stylegan2_generator
from plugins.emoji_presets import (
    MAPPING,
    emoji_hybrid_32,
    emoji_styleformer_32,
    emoji_stylenat_32,
    emoji_vitgan_32,
    gan_spec,
)
from registry import Spec

Step = dict[str, Any]


def relativistic(gamma: float) -> Step:
    """R3GAN's loss."""
    penalties = tuple({"kind": kind, "gamma": gamma, "every": 4} for kind in ("r1", "r2"))
    return {"loss": "relativistic", "regularizers": penalties}


RELATIVISTIC = relativistic(0.5)
R3GAN = r3gan_networks([96, 96, 64, 48], [12, 12, 8, 6], None, [1] * 4)
STYLEGAN2: Step = stylegan2_generator(32, channel_base=1024, channel_max=128) | {"z_dim": 64, "mapping": MAPPING}


CONV: Step = {"kind": "modulated-conv", "dim": 128}
TO_RGB: Step = {"kind": "to-rgb", "modulation": "modulate", "weight_init": 0.2}


def small_hybrid(low: list[Step], *, convolutions: bool, **training: Any) -> Spec:
    """A hybrid of other layers up to 8 px, and above of Hydra attention with ViTGAN's norm.

    Args:
        low: The steps up to 8 px.
        convolutions: Whether 32 px have StyleGAN2's convolutions, in place of attention.
        training: The training.
    """
    norm: Step = {"kind": "norm", "norm": {"kind": "sln", "gain_init": 1.0}}

    def attention(dim: int, dilations: list[int], repeat: int) -> list[Step]:
        hydra = {"kind": "hydra-na", "num_heads": 4, "kernel_sizes": [3], "dilations": dilations, "equalized": True}
        feed_forward = {"kind": "mlp", "mlp_ratio": 2, "equalized": True}
        block = norm | {"kind": "transformer", "attention": hydra, "feed_forward": feed_forward, "layer_scale": 0.3}
        return [{"kind": "upsample-linear", "dim": dim, "equalized": True}, block | {"repeat": repeat}, norm, TO_RGB]

    small = CONV | {"dim": 48}
    top = [small | {"up": 2}, small, TO_RGB] if convolutions else attention(48, [1, 4], 1)
    synthesis = [*low, *attention(96, [1, 2], 2), *top]
    return gan_spec({"kind": "layered", "z_dim": 64, "mapping": MAPPING, "synthesis": synthesis}, **training)


CONVOLUTIONS: list[Step] = [
    *({"kind": "constant", "resolution": 4, "dim": 128}, CONV, TO_RGB),
    *(CONV | {"up": 2}, CONV, TO_RGB),
]
STYLED_ATTENTION: list[Step] = [
    *({"kind": "constant", "resolution": 8, "dim": 128}, {"kind": "pos-embed"}),
    {"kind": "styled-attention", "dim": 128, "num_heads": 4, "repeat": 2},
    {"kind": "to-rgb", "modulation": "demodulate"},
]
STRONG_AUGMENT: Step = {
    **{"kind": "diffaugment", "policy": ["color", "translation", "cutout"], "color_probability": 0.5},
    **{"translation_probability": 0.9, "translation_ratio": 0.2, "cutout_probability": 0.5, "cutout_ratio": 0.4},
}


def from_preset(preset: Callable[[], Spec], *, lr_factor: float = 1.0, **changes: Any) -> Spec:
    """A preset with other learning rates and options."""
    document = preset().to_dict() | changes
    for network in ("generator", "discriminator"):
        document[f"{network}_optimizer"]["lr"] *= lr_factor
    return parse(document)


SLOW_HYBRID = partial(from_preset, emoji_hybrid_32, lr_factor=0.5, augment=STRONG_AUGMENT)
CANDIDATES: dict[str, Callable[..., Spec]] = {  # functions of kimg
    "stylegan2": partial(gan_spec, STYLEGAN2),
    "stylegan2-noaug": partial(gan_spec, STYLEGAN2, augment=None),
    "stylegan2-relativistic": partial(gan_spec, STYLEGAN2, **RELATIVISTIC),
    "r3gan": partial(gan_spec, **R3GAN, lr=0.001, **RELATIVISTIC),
    "stylenat": partial(from_preset, emoji_stylenat_32),
    "styleformer": partial(from_preset, emoji_styleformer_32),
    "vitgan": partial(from_preset, emoji_vitgan_32),
    "conv-hydra": partial(small_hybrid, CONVOLUTIONS, convolutions=False),
    "conv-hydra-conv": partial(small_hybrid, CONVOLUTIONS, convolutions=True, **RELATIVISTIC),
    "styleformer-hydra-conv": partial(small_hybrid, STYLED_ATTENTION, convolutions=True, **RELATIVISTIC),
    "hybrid": partial(from_preset, emoji_hybrid_32),
    "hybrid-slow": SLOW_HYBRID,
    "hybrid-slow-relativistic": partial(SLOW_HYBRID, **relativistic(0.1)),
}
