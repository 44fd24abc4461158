"""DiffAugment: the discriminator sees real and generated images augmented alike, by functions with gradients.

Zhao et al. 2020, https://arxiv.org/abs/2006.10738. The defaults are StyleGAN-T's. ViTGAN's authors take probabilities
0.8 for colour and translation, 0.45 for a flip after it and 0.3 for a box of half the side (the paper also zooms);
StyleNAT's consistency term flips first, colours after the translation and cuts a box of half the side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from blocks.families import Augment, Probability
from registry import incompatible

Function = Literal["color", "translation", "flip", "resize", "cutout"]
Ratio = Annotated[float, Field(ge=0, lt=1)]
Draws = Mapping[str, Tensor]
COLORS = ("brightness", "saturation", "contrast")


class DiffAugment(Augment, kind="diffaugment"):
    """Random colour, translation, flip, zoom and cutout of each image by itself; outside the image is mid-grey.

    A sample that a function passes over gets that function's neutral value, so all of it is arithmetic on whole
    batches.

    Args:
        policy: The functions, in the order they are applied.
        color_probability: How often brightness (x + b, b in [-0.5,0.5)), saturation (s in [0,2) around each pixel's
            mean over channels) and contrast (c in [0.5,1.5) around the image's mean) change, each by its own chance.
        translation_probability: How often an image is shifted by whole pixels.
        translation_ratio: Largest shift, as a part of height and of width.
        flip_probability: How often an image is mirrored.
        resize_probability: How often an image is zoomed about its centre.
        resize_ratio: The zoom r: factors are in [1 - r, 1 + r).
        cutout_probability: How often a grey box is put on an image, its centre anywhere in it.
        cutout_ratio: Sides of the box, as parts of height and width.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {}},
        {"spec": {"policy": ["flip", "translation", "resize", "color", "cutout"], "color_probability": 0.8}},
    )

    def __init__(
        self,
        *,
        policy: tuple[Function, ...] = ("color", "translation", "cutout"),
        color_probability: Probability = 1.0,
        translation_probability: Probability = 1.0,
        translation_ratio: Ratio = 0.125,
        flip_probability: Probability = 0.5,
        resize_probability: Probability = 1.0,
        resize_ratio: Ratio = 0.2,
        cutout_probability: Probability = 1.0,
        cutout_ratio: Ratio = 0.2,
    ) -> None:
        super().__init__()
        for index, function in enumerate(policy):
            if function in policy[:index]:
                raise incompatible(("policy", index), f"{function} is there twice; each function is applied once")
        self.policy = policy
        self.probability = dict.fromkeys(COLORS, color_probability) | {
            "translation": translation_probability,
            "flip": flip_probability,
            "resize": resize_probability,
            "cutout": cutout_probability,
        }
        self.translation_ratio, self.resize_ratio, self.cutout_ratio = translation_ratio, resize_ratio, cutout_ratio

    def draw(self, image: Float[Tensor, "b k h w"]) -> dict[str, Tensor]:
        """All random numbers that a batch needs, [B] each, by name.

        `NAME.value` and `NAME.gate` are uniform in [0,1), the function being applied where gate < probability;
        `translation.dy` and `.dx` are shifts, `cutout.cy` and `.cx` centres, in pixels.
        """
        batch, device, axes = image.shape[:1], image.device, tuple(zip("yx", image.shape[2:], strict=True))
        draws = {}
        for function in self.policy:
            for name in COLORS if function == "color" else (function,):
                if function in ("color", "resize"):
                    draws[f"{name}.value"] = torch.rand(batch, device=device)
                if function == "translation":
                    for axis, size in axes:
                        reach = whole(size * self.translation_ratio)
                        draws[f"translation.d{axis}"] = torch.randint(-reach, reach + 1, batch, device=device)
                if function == "cutout":
                    for axis, size in axes:  # a box of even side has its centre between pixels
                        stop = size + 1 - whole(size * self.cutout_ratio) % 2
                        draws[f"cutout.c{axis}"] = torch.randint(0, stop, batch, device=device)
                if self.probability[name] < 1:
                    draws[f"{name}.gate"] = torch.rand(batch, device=device)
        return draws

    def forward(self, image: Float[Tensor, "b k h w"], draws: Draws | None = None) -> Float[Tensor, "b k h w"]:
        """The augmented images, by these draws or by new ones."""
        draws = self.draw(image) if draws is None else draws
        for function in self.policy:
            image = getattr(self, function)(image, draws)
        return image

    def color(self, image: Float[Tensor, "b k h w"], draws: Draws) -> Float[Tensor, "b k h w"]:
        def value(name: str, scale: float, low: float, neutral: float) -> Tensor:
            chosen = self.gated(name, draws, draws[f"{name}.value"].flatten() * scale + low, neutral)
            return chosen.to(image.dtype).view(-1, 1, 1, 1)

        brightness = value("brightness", 1.0, -0.5, 0.0)
        saturation = value("saturation", 2.0, 0.0, 1.0)
        contrast = value("contrast", 1.0, 0.5, 1.0)
        pixel = image.mean(dim=1, keepdim=True)
        mean = pixel.mean(dim=(2, 3), keepdim=True)
        # the three commute; multiplied out, only one multiplication and one addition touch every value
        rest = contrast * (1 - saturation) * pixel + ((1 - contrast) * mean + brightness)
        return image * (contrast * saturation) + rest

    def translation(self, image: Float[Tensor, "b k h w"], draws: Draws) -> Float[Tensor, "b k h w"]:
        dy, dx = (self.gated("translation", draws, draws[f"translation.{name}"].flatten(), 0) for name in ("dy", "dx"))
        channels, height, width = image.shape[1:]
        rows = torch.arange(height, device=image.device) + dy[:, None]
        columns = torch.arange(width, device=image.device) + dx[:, None]
        seen = within(rows, 0, height)[:, :, None] & within(columns, 0, width)[:, None, :]
        source = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]  # b h w
        source = source.flatten(1)[:, None].expand(-1, channels, -1)
        return image.flatten(2).gather(2, source).view_as(image) * seen[:, None]

    def flip(self, image: Float[Tensor, "b k h w"], draws: Draws) -> Float[Tensor, "b k h w"]:
        mirrored = self.gated("flip", draws, torch.ones(1, dtype=torch.bool, device=image.device), False)
        return torch.where(mirrored.view(-1, 1, 1, 1), image.flip(3), image)

    def resize(self, image: Float[Tensor, "b k h w"], draws: Draws) -> Float[Tensor, "b k h w"]:
        value = draws["resize.value"].flatten() * (2 * self.resize_ratio) + (1 - self.resize_ratio)
        factor = self.gated("resize", draws, value, 1.0)
        vertical, horizontal = (zoom(size, factor).to(image.dtype)[:, None] for size in image.shape[2:])
        return vertical @ image @ horizontal.mT

    def cutout(self, image: Float[Tensor, "b k h w"], draws: Draws) -> Float[Tensor, "b k h w"]:
        def covered(centre: Tensor, size: int) -> Tensor:
            side = whole(size * self.cutout_ratio)
            start = centre.flatten()[:, None] - side // 2
            return within(torch.arange(size, device=image.device), start, start + side)  # b size

        rows, columns = covered(draws["cutout.cy"], image.shape[2]), covered(draws["cutout.cx"], image.shape[3])
        box = self.gated("cutout", draws, rows[:, :, None] & columns[:, None, :], False)
        return image * ~box[:, None]

    def gated(self, name: str, draws: Draws, value: Tensor, neutral: float) -> Tensor:
        """`value` [B,...] for the samples that the function is applied to, `neutral` for the others."""
        if self.probability[name] == 1:
            return value
        applied = draws[f"{name}.gate"].flatten() < self.probability[name]
        return torch.where(applied.view(-1, *[1] * (value.ndim - 1)), value, neutral)


def whole(size: float) -> int:
    """A length in whole pixels, halves rounded up."""
    return int(size + 0.5)


def within(position: Tensor, start: Tensor | int, stop: Tensor | int) -> Tensor:
    return (position >= start) & (position < stop)


def zoom(size: int, factor: Float[Tensor, " b"]) -> Float[Tensor, "b o i"]:
    """For each factor the matrix that resizes an axis to int(factor size) and pads or crops it about its centre."""
    pixels = torch.arange(size, device=factor.device)
    length = (factor * size).floor().clamp(min=1)[:, None]
    place = pixels - torch.div(size - length, 2, rounding_mode="trunc")  # in the resized axis
    source = ((place + 0.5) * (size / length) - 0.5).clamp(0, size - 1)
    weight = (1 - (source[:, :, None] - pixels).abs()).clamp(min=0)
    return weight * within(place, 0, length)[:, :, None]
