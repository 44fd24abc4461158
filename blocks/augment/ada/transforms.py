"""The transforms of StyleGAN2-ADA's augmentation as functions of their random numbers.

Karras et al. 2020, https://arxiv.org/abs/2006.06676, appendix B.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.augment.ada.recolor import ColorTransform
from blocks.augment.ada.warp import quarter_turns, rotation, scaling, translation
from blocks.common.computed_buffer import filled

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
NEUTRAL = {"xint": 0.5, "rotate": 0.5, "hue": 0.5, "cutout": -2.0}  # values that change nothing; 0 for the others
UNIFORM = ("xflip", "rotate90", "xint", "rotate", "lumaflip", "hue", "cutout")  # the others are N(0,1)
NUM_VALUES = {"xint": 2, "xfrac": 2, "cutout": 2, "filter": 4}  # random numbers per image; 1 for the others
MAGNITUDE: dict[Transform, float] = {
    **{"xint": 0.125, "scale": 0.2, "rotate": 1.0, "aniso": 0.2, "xfrac": 0.125, "brightness": 0.2, "contrast": 0.5},
    **{"hue": 1.0, "saturation": 1.0, "filter": 1.0, "noise": 0.1, "cutout": 0.5},
}


def inverse_matrix(
    image: Float[Tensor, "b k h w"], values: Values, magnitude: Mapping[str, float]
) -> Float[Tensor, "b 3 3"]:
    """All geometric transforms as one matrix from output to input positions, in pixels from the image's centre."""
    size = filled((image.shape[3], image.shape[2]), image)
    inverse = torch.eye(3, device=image.device, dtype=image.dtype).expand(image.shape[0], -1, -1)
    if "xflip" in values:
        mirrored = 1 - 2 * (2 * values["xflip"]).floor()
        inverse = inverse @ scaling(mirrored, torch.ones_like(mirrored))
    if "rotate90" in values:
        inverse = inverse @ quarter_turns((4 * values["rotate90"]).floor())
    if "xint" in values:
        shift = ((2 * values["xint"] - 1) * magnitude["xint"] * size).round()
        inverse = inverse @ translation(*(-shift).unbind(1))
    if "scale" in values:
        factor = torch.exp2(-magnitude["scale"] * values["scale"])
        inverse = inverse @ scaling(factor, factor)
    if "rotate" in values:
        inverse = inverse @ rotation((2 * values["rotate"] - 1) * (math.pi * magnitude["rotate"]))
    if "aniso" in values:
        factor = torch.exp2(magnitude["aniso"] * values["aniso"])
        inverse = inverse @ scaling(1 / factor, factor)
    if "rotate" in values:
        inverse = inverse @ rotation((2 * values["rotate.second"] - 1) * (math.pi * magnitude["rotate"]))
    if "xfrac" in values:
        inverse = inverse @ translation(*(-magnitude["xfrac"] * values["xfrac"] * size).unbind(1))
    return inverse


def recolor(
    image: Float[Tensor, "b k h w"], values: Values, magnitude: Mapping[str, float]
) -> Float[Tensor, "b k h w"]:
    """All colour transforms, applied as one affine map."""
    colors = ColorTransform(image)
    if "brightness" in values:
        colors.add(magnitude["brightness"] * values["brightness"])
    if "contrast" in values:
        colors.scale(torch.exp2(magnitude["contrast"] * values["contrast"]))
    if "lumaflip" in values:
        colors.invert_luma((2 * values["lumaflip"]).floor())
    if "hue" in values and image.shape[1] == 3:
        colors.rotate_hue((2 * values["hue"] - 1) * (math.pi * magnitude["hue"]))
    if "saturation" in values:
        colors.saturate(torch.exp2(magnitude["saturation"] * values["saturation"]))
    return colors.apply(image)


def cutout(image: Float[Tensor, "b k h w"], values: Values, magnitude: Mapping[str, float]) -> Float[Tensor, "b k h w"]:
    """Sets a box to grey (0); its centre is uniform over the image."""
    columns, rows = (
        ((torch.arange(size, device=image.device) + 0.5) / size - centre[:, None]).abs() < magnitude["cutout"] / 2
        for size, centre in zip((image.shape[3], image.shape[2]), values["cutout"].unbind(1), strict=True)
    )
    return image * ~(rows[:, :, None] & columns[:, None, :])[:, None]
