"""DiffAugment: differentiable augmentation of real and generated images.

Zhao et al. 2020, https://arxiv.org/abs/2006.10738. The defaults are StyleGAN-T's. ViTGAN's authors use probability 0.8
for colour and translation, 0.45 for the flip that follows and 0.3 for a box of half the side (the paper also resizes);
StyleNAT's consistency term flips first, changes colours after the translation and uses a box of half the side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor

from blocks.common.shapes import check_nchw
from blocks.families import Augment, Scheduled, ScheduledIn, value_at
from registry import Spec, incompatible

Function = Literal["color", "translation", "flip", "resize", "cutout"]
Ratio = Annotated[float, Field(ge=0, lt=1)]
Draws = Mapping[str, Tensor]
CHANCE = ScheduledIn(ge=0, le=1)
COLORS = ("brightness", "saturation", "contrast")


class DiffAugment(Augment, kind="diffaugment"):
    """Random colour changes, translation, flip, resize and cutout of each image, with zero (grey) padding.

    An image to which a function does not apply gets the function's neutral value, so that every function works on the
    whole batch. Probabilities are numbers or schedules.

    Args:
        policy: The functions, in the order of application.
        color_probability: Probability of each colour change: brightness (x + b, b in [-0.5,0.5)), saturation (factor in
            [0,2) around each pixel's mean over channels) and contrast (factor in [0.5,1.5) around the image's mean).
        color_gate: Whether "each" colour change applies with that probability, or "all" of them or none.
        color_reference: Saturation and contrast use the means of the last so many channels of the unchanged image, as
            in GAT, whose images are several levels side by side; null: of all channels after the changes before.
        translation_probability: Probability of a shift by whole pixels.
        translation_ratio: Largest shift, as a fraction of height and width.
        flip_probability: Probability of a horizontal flip.
        resize_probability: Probability of a zoom about the centre.
        resize_ratio: The zoom factor is in [1 - r, 1 + r).
        cutout_probability: Probability of a grey box, with its centre uniform over the image.
        cutout_ratio: Sides of the box, as fractions of height and width.

    Raises:
        IncompatibleError: A function is in `policy` twice.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {}},
        {"spec": {"policy": ["color", "flip"], "color_gate": "all", "color_reference": 2, "color_probability": 0.5}},
        {"spec": {"policy": ["flip", "translation", "resize", "color", "cutout"], "color_probability": 0.8}},
    )

    def __init__(
        self,
        *,
        policy: tuple[Function, ...] = ("color", "translation", "cutout"),
        color_probability: Annotated[Scheduled, CHANCE] = 1.0,
        color_gate: Literal["each", "all"] = "each",
        color_reference: PositiveInt | None = None,
        translation_probability: Annotated[Scheduled, CHANCE] = 1.0,
        translation_ratio: Ratio = 0.125,
        flip_probability: Annotated[Scheduled, CHANCE] = 0.5,
        resize_probability: Annotated[Scheduled, CHANCE] = 1.0,
        resize_ratio: Ratio = 0.2,
        cutout_probability: Annotated[Scheduled, CHANCE] = 1.0,
        cutout_ratio: Ratio = 0.2,
    ) -> None:
        super().__init__()
        for index, function in enumerate(policy):
            if function in policy[:index]:
                raise incompatible(("policy", index), f"{function} is listed twice; each function is applied once")
        self.policy, self.color_reference = policy, color_reference
        self.joint_color = color_gate == "all"
        self.schedules: dict[str, Scheduled] = dict.fromkeys(COLORS, color_probability) | {
            "translation": translation_probability,
            "flip": flip_probability,
            "resize": resize_probability,
            "cutout": cutout_probability,
        }
        self.translation_ratio, self.resize_ratio, self.cutout_ratio = translation_ratio, resize_ratio, cutout_ratio
        self.probability = {name: value_at(option, 0) for name, option in self.schedules.items()}

    def at(self, images: int) -> None:
        changing = {name: option for name, option in self.schedules.items() if isinstance(option, Spec)}
        self.probability |= {name: value_at(option, images) for name, option in changing.items()}

    def draw(self, image: Float[Tensor, "b k h w"]) -> dict[str, Tensor]:
        """All random numbers that a batch needs, [B] each, by name.

        `NAME.value` and `NAME.gate` are uniform in [0,1); a function is applied where its gate is below its
        probability. `translation.dy` and `.dx` are shifts, `cutout.cy` and `.cx` centres, in pixels. With
        `color_reference` there are also the means of this image, over channels and over the image.
        """
        batch, device, axes = image.shape[:1], image.device, tuple(zip("yx", image.shape[2:], strict=True))
        draws = {}
        for function in self.policy:
            for name in COLORS if function == "color" else (function,):
                if function in ("color", "resize"):
                    draws[f"{name}.value"] = torch.rand(batch, device=device)
                if function == "translation":
                    for axis, size in axes:
                        limit = rounded(size * self.translation_ratio)
                        draws[f"translation.d{axis}"] = torch.randint(-limit, limit + 1, batch, device=device)
                if function == "cutout":
                    for axis, size in axes:  # the centre of a box of even side lies between pixels
                        stop = size + 1 - rounded(size * self.cutout_ratio) % 2
                        draws[f"cutout.c{axis}"] = torch.randint(0, stop, batch, device=device)
                if self.probability[name] < 1:
                    joint = self.joint_color and name in COLORS[1:]
                    draws[f"{name}.gate"] = draws["brightness.gate"] if joint else torch.rand(batch, device=device)
        if self.color_reference is not None and "color" in self.policy:
            pixel = image[:, -self.color_reference :].mean(dim=1, keepdim=True)
            draws |= {"color.pixel": pixel, "color.mean": pixel.mean(dim=(2, 3), keepdim=True)}
        return draws

    def forward(self, image: Float[Tensor, "b k h w"], draws: Draws | None = None) -> Float[Tensor, "b k h w"]:
        """The augmented images, with `draws` or with new random numbers; without draws, eval mode changes nothing."""
        check_nchw(self, image, name="image")
        if draws is None and not self.training:
            return image
        draws = self.draw(image) if draws is None else draws
        for function in self.policy:
            image = getattr(self, function)(image, draws)
        return image

    def color(self, image: Float[Tensor, "b k h w"], draws: Draws) -> Float[Tensor, "b k h w"]:
        def value(name: str, scale: float, low: float, neutral: float) -> Tensor:
            gated = self.gated(name, draws, draws[f"{name}.value"].flatten() * scale + low, neutral)
            return gated.to(image.dtype).view(-1, 1, 1, 1)

        brightness = value("brightness", 1.0, -0.5, 0.0)
        saturation = value("saturation", 2.0, 0.0, 1.0)
        contrast = value("contrast", 1.0, 0.5, 1.0)
        if "color.pixel" in draws:
            pixel, mean = draws["color.pixel"], draws["color.mean"]
            brightness = brightness * (contrast * saturation)  # the means do not have it
        else:
            pixel = image.mean(dim=1, keepdim=True)
            mean = pixel.mean(dim=(2, 3), keepdim=True)
        # multiplied out, so that each value takes only one multiplication and one addition
        offset = contrast * (1 - saturation) * pixel + ((1 - contrast) * mean + brightness)
        return image * (contrast * saturation) + offset

    def translation(self, image: Float[Tensor, "b k h w"], draws: Draws) -> Float[Tensor, "b k h w"]:
        dy, dx = (self.gated("translation", draws, draws[f"translation.{name}"].flatten(), 0) for name in ("dy", "dx"))
        channels, height, width = image.shape[1:]
        rows = torch.arange(height, device=image.device) + dy[:, None]
        columns = torch.arange(width, device=image.device) + dx[:, None]
        inside = within(rows, 0, height)[:, :, None] & within(columns, 0, width)[:, None, :]
        source = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]  # b h w
        source = source.flatten(1)[:, None].expand(-1, channels, -1)
        return image.flatten(2).gather(2, source).view_as(image) * inside[:, None]

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
            side = rounded(size * self.cutout_ratio)
            start = centre.flatten()[:, None] - side // 2
            return within(torch.arange(size, device=image.device), start, start + side)  # b size

        rows, columns = covered(draws["cutout.cy"], image.shape[2]), covered(draws["cutout.cx"], image.shape[3])
        box = self.gated("cutout", draws, rows[:, :, None] & columns[:, None, :], False)
        return image * ~box[:, None]

    def gated(self, name: str, draws: Draws, value: Tensor, neutral: float) -> Tensor:
        """`value` [B,...] for the images that the function applies to, `neutral` for the others."""
        if self.probability[name] == 1:
            return value
        applied = draws[f"{name}.gate"].flatten() < self.probability[name]
        return torch.where(applied.view(-1, *[1] * (value.ndim - 1)), value, neutral)


def rounded(size: float) -> int:
    """The nearest integer; halves are rounded up."""
    return int(size + 0.5)


def within(position: Tensor, start: Tensor | int, stop: Tensor | int) -> Tensor:
    return (position >= start) & (position < stop)


def zoom(size: int, factor: Float[Tensor, " b"]) -> Float[Tensor, "b o i"]:
    """For each factor, the matrix that resizes an axis to int(factor size) and pads or crops it about its centre."""
    pixels = torch.arange(size, device=factor.device)
    length = (factor * size).floor().clamp(min=1)[:, None]
    position = pixels - torch.div(size - length, 2, rounding_mode="trunc")  # in the resized axis
    source = ((position + 0.5) * (size / length) - 0.5).clamp(0, size - 1)
    weight = (1 - (source[:, :, None] - pixels).abs()).clamp(min=0)
    return weight * within(position, 0, length)[:, :, None]
