"""The transforms of StyleGAN2-ADA's augmentation: what their random numbers mean.

Karras et al. 2020, https://arxiv.org/abs/2006.06676, appendix B.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.augment.ada.recolor import Recoloring
from blocks.augment.ada.warp import quarter_turns, rotation, scaling, translation

Group: TypeAlias = Literal["blit", "geometry", "color", "filter", "noise", "cutout"]
# fmt: off
Transform: TypeAlias = Literal[
    "xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac",
    "brightness", "contrast", "lumaflip", "hue", "saturation", "filter", "noise", "cutout",
]
# fmt: on
Values = Mapping[str, Tensor]

GROUPS: dict[str, tuple[Transform, ...]] = {
    "blit": ("xflip", "rotate90", "xint"),
    "geometry": ("scale", "rotate", "aniso", "xfrac"),
    "color": ("brightness", "contrast", "lumaflip", "hue", "saturation"),
    "filter": ("filter",),
    "noise": ("noise",),
    "cutout": ("cutout",),
}
NEUTRAL = {"xint": 0.5, "rotate": 0.5, "hue": 0.5, "cutout": -2.0}  # draws that change nothing; 0 for the others
UNIFORM = ("xflip", "rotate90", "xint", "rotate", "lumaflip", "hue", "cutout")  # the others are drawn from N(0,1)
SEVERAL = {"xint": 2, "xfrac": 2, "cutout": 2, "filter": 4}  # numbers an image, where it is not one
MAGNITUDE: dict[Transform, float] = {
    **{"xint": 0.125, "scale": 0.2, "rotate": 1.0, "aniso": 0.2, "xfrac": 0.125, "brightness": 0.2, "contrast": 0.5},
    **{"hue": 1.0, "saturation": 1.0, "filter": 1.0, "noise": 0.1, "cutout": 0.5},
}


def motion(image: Float[Tensor, "b k h w"], values: Values, far: Mapping[str, float]) -> Float[Tensor, "b 3 3"]:
    """From each pixel of the result to where it comes from, in pixels from the centre; the first move stands first."""
    size = torch.tensor([image.shape[3], image.shape[2]], device=image.device, dtype=image.dtype)
    inverse = torch.eye(3, device=image.device, dtype=image.dtype).expand(len(image), -1, -1)
    if "xflip" in values:
        mirrored = 1 - 2 * (2 * values["xflip"]).floor()
        inverse = inverse @ scaling(mirrored, torch.ones_like(mirrored))
    if "rotate90" in values:
        inverse = inverse @ quarter_turns((4 * values["rotate90"]).floor())
    if "xint" in values:
        shift = ((2 * values["xint"] - 1) * far["xint"] * size).round()
        inverse = inverse @ translation(*(-shift).unbind(1))
    if "scale" in values:
        factor = torch.exp2(-far["scale"] * values["scale"])
        inverse = inverse @ scaling(factor, factor)
    if "rotate" in values:
        inverse = inverse @ rotation((2 * values["rotate"] - 1) * (math.pi * far["rotate"]))
    if "aniso" in values:
        factor = torch.exp2(far["aniso"] * values["aniso"])
        inverse = inverse @ scaling(1 / factor, factor)
    if "rotate" in values:
        inverse = inverse @ rotation((2 * values["rotate.second"] - 1) * (math.pi * far["rotate"]))
    if "xfrac" in values:
        inverse = inverse @ translation(*(-far["xfrac"] * values["xfrac"] * size).unbind(1))
    return inverse


def color(image: Float[Tensor, "b k h w"], values: Values, far: Mapping[str, float]) -> Float[Tensor, "b k h w"]:
    """All changes of colour, as one map."""
    colors = Recoloring(image)
    if "brightness" in values:
        colors.add(far["brightness"] * values["brightness"])
    if "contrast" in values:
        colors.scale(torch.exp2(far["contrast"] * values["contrast"]))
    if "lumaflip" in values:
        colors.invert_luma((2 * values["lumaflip"]).floor())
    if "hue" in values and image.shape[1] == 3:
        colors.turn_hue((2 * values["hue"] - 1) * (math.pi * far["hue"]))
    if "saturation" in values:
        colors.saturate(torch.exp2(far["saturation"] * values["saturation"]))
    return colors.apply(image)


def cutout(image: Float[Tensor, "b k h w"], values: Values, far: Mapping[str, float]) -> Float[Tensor, "b k h w"]:
    """A grey box whose centre may lie anywhere in the image."""
    columns, rows = (
        ((torch.arange(size, device=image.device) + 0.5) / size - centre[:, None]).abs() < far["cutout"] / 2
        for size, centre in zip((image.shape[3], image.shape[2]), values["cutout"].unbind(1), strict=True)
    )
    return image * ~(rows[:, :, None] & columns[:, None, :])[:, None]
