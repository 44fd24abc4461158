"""Adaptive discriminator augmentation: as much of it as keeps the discriminator from knowing the real images by heart.

StyleGAN2-ADA, Karras et al. 2020, https://arxiv.org/abs/2006.06676, section 3 and appendix B.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from blocks.augment.ada.bands import amplify_bands
from blocks.augment.ada.symlets import filter_bank
from blocks.augment.ada.transforms import (
    GROUPS,
    MAGNITUDE,
    NEUTRAL,
    SEVERAL,
    UNIFORM,
    Group,
    Transform,
    color,
    cutout,
    motion,
)
from blocks.augment.ada.warp import Warp
from blocks.common.autocast import at_least_float32
from blocks.families import Augment
from registry import incompatible

Draws = Mapping[str, Tensor]
ALWAYS = -1.0  # the gate of a transform that is certain to be applied


class ADA(Augment, kind="ada"):
    """Random flips, shifts, affine maps, colours, filters, noise and cutout, each with probability p for each image.

    Every `interval` steps p moves towards more augmentation if the discriminator calls more than `target` of the real
    images real (the mean sign of its logits), and towards less if not. Outside the image its reflection goes on.

    Args:
        policy: The groups of transforms, always applied in this order: blit:: xflip, rotate90, xint (shift by whole
            pixels); geometry: scale, rotate, aniso (stretch), xfrac (shift); color: brightness, contrast, lumaflip,
            hue, saturation; filter, noise and cutout by themselves. The default is the paper's bgc.
        p: Probability of each transform at the start, and for good if there is no target.
        target: Mean sign of the discriminator's logits of real images, in (-1,1), that p is steered to; null for a p
            that stays.
        kimg: Thousands of images in which p moves by 1.
        interval: Steps between two moves of p.
        limit: The largest p. The reference has none, so that its p may wind up beyond 1; where its generator is a
            Linformer it is 0.7.
        probability: Factors of p for single transforms; 0 leaves one out.
        magnitude: How far transforms go. xint, xfrac: shift, as part of the image's size (largest, deviation); rotate,
            hue: largest angle, as part of half a turn; scale, aniso, contrast, saturation, filter: deviation of the
            factor's binary logarithm; brightness, noise: deviation; cutout: sides of the box, as part of the image's.
        bands: Factors of the probability of `filter` for each of its four bands, from the lowest frequencies.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"p": 1.0, "target": None}},
        {"spec": {"p": 1.0, "policy": list(GROUPS), "probability": {"rotate": 0.5}, "magnitude": {"xfrac": 0.4}}},
        {"spec": {"p": 0.5, "policy": ["color", "filter"], "bands": [1, 0, 1, 0]}, "context": {"image_channels": 1}},
    )
    p: Tensor
    signs: Tensor
    shown: Tensor
    steps: Tensor
    bank: Tensor

    def __init__(
        self,
        *,
        policy: tuple[Group, ...] = ("blit", "geometry", "color"),
        p: NonNegativeFloat = 0.0,
        target: Annotated[float, Field(gt=-1, lt=1)] | None = 0.6,
        kimg: PositiveFloat = 500.0,
        interval: PositiveInt = 4,
        limit: PositiveFloat | None = 1.0,
        probability: dict[Transform, NonNegativeFloat] = {},  # noqa: B006 (pydantic copies it)
        magnitude: dict[Transform, NonNegativeFloat] = {},  # noqa: B006
        bands: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat, NonNegativeFloat] = (1.0, 1.0, 1.0, 1.0),
    ) -> None:
        super().__init__()
        transforms = [transform for group in policy for transform in GROUPS[group]]
        for index, group in enumerate(policy):
            if group in policy[:index]:
                raise incompatible(("policy", index), f"{group} is there twice; each group is applied once")
        for option, given in (("probability", probability), ("magnitude", magnitude)):
            for name in given:
                if name not in transforms:
                    fact = f"the policy ({', '.join(policy) or 'nothing'}) has no {name}"
                    raise incompatible((option, name), f"{fact}; add {_group(name)} to it")
        if limit is not None and p > limit:
            raise incompatible("p", f"starts at {p:g}, above its limit {limit:g}")
        self.target, self.kimg, self.interval, self.limit, self.bands = target, kimg, interval, limit, bands
        factors = {name: float(probability.get(name, 1.0)) for name in transforms}
        self.factors = {name: factor for name, factor in factors.items() if factor}
        self.magnitude: dict[str, float] = {str(name): far for name, far in (MAGNITUDE | magnitude).items()}
        self.warp = Warp() if self.has("blit") or self.has("geometry") else None
        if self.has("filter"):
            self.register_buffer("bank", filter_bank(), persistent=False)
        self.register_buffer("p", torch.tensor(float(p)))
        for counter in ("signs", "shown", "steps"):  # since p was last moved
            self.register_buffer(counter, torch.zeros(()))

    def has(self, group: Group) -> bool:
        return any(transform in self.factors for transform in GROUPS[group])

    @torch.no_grad()
    def observe(self, sign: Float[Tensor, ""], num_images: int) -> None:
        if self.target is None:
            return
        self.signs += sign.nan_to_num() * num_images
        self.shown += num_images
        self.steps += 1
        due = self.steps >= self.interval
        move = (self.signs / self.shown - self.target).sign() * self.shown / (self.kimg * 1000)
        self.p.copy_(torch.where(due, (self.p + move).clamp(0, self.limit), self.p))
        for value in (self.signs, self.shown, self.steps):
            value.mul_(~due)

    def strength(self) -> dict[str, Tensor]:
        return {"p": self.p}

    def draw(self, image: Float[Tensor, "b k h w"]) -> dict[str, Tensor]:
        """All random numbers that a batch needs, [B] or [B,n] each, by name.

        `NAME.value` is uniform in [0,1) or N(0,1); the transform is applied where `NAME.gate`, uniform in [0,1), is
        less than its probability.
        """
        like: dict[str, Any] = {"device": image.device, "dtype": torch.promote_types(image.dtype, torch.float32)}
        draws = {}
        for name in self.factors:
            several = (SEVERAL[name],) if name in SEVERAL else ()
            shape, how = (len(image), *several), torch.rand if name in UNIFORM else torch.randn
            draws[f"{name}.value"] = how(shape, **like)
            draws[f"{name}.gate"] = torch.rand(shape if name == "filter" else shape[:1], **like)
            if name == "rotate":
                draws["rotate.second"], draws["rotate.second_gate"] = torch.rand(2, len(image), **like)
            if name == "noise":
                draws["noise.pixels"] = torch.randn(image.shape, **like)
        return draws

    def quantile(self, image: Float[Tensor, "b k h w"], q: float) -> dict[str, Tensor]:
        """Draws with all chance but the pixels of noise replaced by its q-quantile: every transform is applied.

        As in the reference, N(0,1) has the quantile erfinv(2q - 1), without a factor sqrt(2), |N(0,1)| has erfinv(q),
        and the second rotation is none.
        """
        draws = self.draw(image)
        normal = torch.erfinv(torch.tensor(2 * q - 1, dtype=torch.float64)).item()
        for name in self.factors:
            draws[f"{name}.value"].fill_(q if name in UNIFORM else normal)
            draws[f"{name}.gate"].fill_(ALWAYS)
        if "rotate" in self.factors:
            draws["rotate.second"].fill_(NEUTRAL["rotate"])
        if "filter" in self.factors:  # bands without a probability stay as they are
            draws["filter.gate"][:, [not factor for factor in self.bands]] = 1.0
        if "noise" in self.factors:
            draws["noise.value"].fill_(torch.erfinv(torch.tensor(q, dtype=torch.float64)).item())
        return draws

    def forward(self, image: Float[Tensor, "b k h w"], draws: Draws | None = None) -> Float[Tensor, "b k h w"]:
        """The augmented images, by these draws or by new ones."""
        values = self.chosen(self.draw(image) if draws is None else draws)
        changed = at_least_float32(image)
        with torch.autocast("cpu" if image.is_meta else image.device.type, enabled=False):
            if self.warp is not None:
                changed = self.warp(changed, motion(changed, values, self.magnitude))
            if self.has("color"):
                changed = color(changed, values, self.magnitude)
            if self.has("filter"):
                changed = amplify_bands(changed, self.magnitude["filter"] * values["filter"], self.bank)
            if self.has("noise"):
                deviation = values["noise"].abs() * self.magnitude["noise"]
                changed = changed + values["noise.pixels"] * deviation[:, None, None, None]
            if self.has("cutout"):
                changed = cutout(changed, values, self.magnitude)
        return changed.to(image.dtype)

    def chosen(self, draws: Draws) -> dict[str, Tensor]:
        """The draws of the transforms that are applied to an image, neutral values for those that are not."""
        values = {name: draws[name] for name in ("noise.pixels",) if name in draws}
        for name, factor in self.factors.items():
            bound: Tensor = factor * self.p
            if name == "rotate":  # two of them, each by a chance that makes one of both as likely as any transform
                bound = 1 - (1 - bound).clamp(min=0).sqrt()
                second = draws["rotate.second_gate"] < bound
                values["rotate.second"] = torch.where(second, draws["rotate.second"], NEUTRAL["rotate"])
            if name == "filter":
                bound = bound * torch.tensor(self.bands, device=bound.device)
            applied, value = draws[f"{name}.gate"] < bound, draws[f"{name}.value"]
            applied = applied[:, None] if value.ndim > applied.ndim else applied
            values[name] = torch.where(applied, value, NEUTRAL.get(name, 0.0))
        return values


def _group(transform: str) -> str:
    return next(group for group, transforms in GROUPS.items() if transform in transforms)
