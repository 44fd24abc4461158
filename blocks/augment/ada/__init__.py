"""Adaptive discriminator augmentation (ADA): random transforms with a probability that depends on overfitting.

StyleGAN2-ADA, Karras et al. 2020, https://arxiv.org/abs/2006.06676, section 3 and appendix B.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from blocks.augment.ada.bands import amplify_bands
from blocks.augment.ada.draws import Draws, at_quantile, draw, gated_values
from blocks.augment.ada.symlets import filter_bank
from blocks.augment.ada.transforms import GROUPS, MAGNITUDE, Group, Transform, cutout, inverse_matrix, recolor
from blocks.augment.ada.warp import Warp
from blocks.augment.adaptive_probability import AdaptiveProbability
from blocks.common.autocast import at_least_float32, no_autocast
from blocks.common.computed_buffer import computed_buffer
from blocks.common.shapes import check_nchw
from blocks.families import Scheduled, ScheduledIn
from registry import incompatible


class ADA(AdaptiveProbability, kind="ada"):
    """Random flips, shifts, affine maps, colours, filters, noise and cutout, each applied with probability p per image.

    Every `interval` steps p increases if the mean sign of the discriminator's logits of real images is above `target`,
    and decreases if it is below. Geometric transforms pad images by reflection.

    Args:
        policy: Groups of transforms, always applied in this order. blit: xflip, rotate90, xint (shift by whole pixels);
            geometry: scale, rotate, aniso (stretch), xfrac (shift); color: brightness, contrast, lumaflip, hue,
            saturation; filter, noise and cutout are one transform each. The default is the paper's bgc.
        p: Initial probability of each transform; constant if there is no target. A schedule needs `target` null.
        target: Mean sign of the discriminator's logits of real images, in (-1,1), that p is adjusted for; null for a
            constant p.
        kimg: Thousands of images in which p changes by 1.
        interval: Steps between two adjustments of p.
        limit: Maximum of p; null for none. The reference has none, so that its p can exceed 1, except with Linformer
            generators, where it is 0.7.
        probability: Factors of p for single transforms; 0 disables one.
        magnitude: Strength of single transforms. xint and xfrac: maximum and standard deviation of the shift, as a
            fraction of the image's size; rotate and hue: maximum angle, as a fraction of half a turn; scale, aniso,
            contrast, saturation and filter: standard deviation of the factor's binary logarithm; brightness and noise:
            standard deviation; cutout: sides of the box, as a fraction of the image's.
        bands: Factors of the probability of `filter` for each of its four frequency bands, lowest first.

    Raises:
        IncompatibleError: A group is repeated, an option names a transform outside the policy, or p exceeds its limit.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"p": 1.0, "target": None}},
        {"spec": {"p": 1.0, "policy": list(GROUPS), "probability": {"rotate": 0.5}, "magnitude": {"xfrac": 0.4}}},
        {"spec": {"p": 0.5, "policy": ["color", "filter"], "bands": [1, 0, 1, 0]}, "context": {"image_channels": 1}},
    )
    bank: Tensor

    def __init__(
        self,
        *,
        policy: tuple[Group, ...] = ("blit", "geometry", "color"),
        p: Annotated[Scheduled, ScheduledIn(ge=0)] = 0.0,
        target: Annotated[float, Field(gt=-1, lt=1)] | None = 0.6,
        kimg: PositiveFloat = 500.0,
        interval: PositiveInt = 4,
        limit: PositiveFloat | None = 1.0,
        probability: dict[Transform, NonNegativeFloat] = {},  # noqa: B006 (pydantic copies it)
        magnitude: dict[Transform, NonNegativeFloat] = {},  # noqa: B006
        bands: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat, NonNegativeFloat] = (1.0, 1.0, 1.0, 1.0),
    ) -> None:
        super().__init__(p, target, kimg, interval, limit)
        _check_options(policy, {"probability": probability, "magnitude": magnitude})
        self.bands = bands
        factors = {name: float(probability.get(name, 1.0)) for group in policy for name in GROUPS[group]}
        self.factors: dict[str, float] = {str(name): factor for name, factor in factors.items() if factor}
        self.magnitude: dict[str, float] = {str(name): value for name, value in (MAGNITUDE | magnitude).items()}
        self.warp = Warp() if self.has("blit") or self.has("geometry") else None
        if self.has("filter"):
            computed_buffer(self, "bank", filter_bank)

    def has(self, group: Group) -> bool:
        return any(transform in self.factors for transform in GROUPS[group])

    def draw(self, image: Float[Tensor, "b k h w"]) -> dict[str, Tensor]:
        """All random numbers that a batch needs, [B] or [B,n] each, by name.

        `NAME.value` is uniform in [0,1) or N(0,1). A transform is applied where `NAME.gate`, uniform in [0,1), is below
        its probability.
        """
        return draw(image, self.factors)

    def quantile(self, image: Float[Tensor, "b k h w"], q: float) -> dict[str, Tensor]:
        """Draws in which all values but the pixels of noise are their q-quantile and every transform is applied.

        As in the reference, the quantile of N(0,1) is erfinv(2q - 1), without the factor sqrt(2), that of |N(0,1)| is
        erfinv(q), and the second rotation is not applied.
        """
        return at_quantile(self.draw(image), q, self.factors, self.bands)

    def forward(self, image: Float[Tensor, "b k h w"], draws: Draws | None = None) -> Float[Tensor, "b k h w"]:
        """The augmented images, with `draws` or with new random numbers; without draws, eval mode changes nothing."""
        check_nchw(self, image, name="image")
        if draws is None and not self.training:
            return image
        draws = self.draw(image) if draws is None else draws
        values = gated_values(draws, self.p, self.factors, self.bands)
        y = at_least_float32(image)
        with no_autocast(image):
            if self.warp is not None:
                y = self.warp(y, inverse_matrix(y, values, self.magnitude))
            if self.has("color"):
                y = recolor(y, values, self.magnitude)
            if self.has("filter"):
                y = amplify_bands(y, self.magnitude["filter"] * values["filter"], self.bank)
            if self.has("noise"):
                deviation = values["noise"].abs() * self.magnitude["noise"]
                y = y + values["noise.pixels"] * deviation[:, None, None, None]
            if self.has("cutout"):
                y = cutout(y, values, self.magnitude)
        return y.to(image.dtype)


def _check_options(policy: tuple[Group, ...], options: dict[str, dict[Transform, float]]) -> None:
    for index, group in enumerate(policy):
        if group in policy[:index]:
            raise incompatible(("policy", index), f"{group} is listed twice; each group is applied once")
    transforms = [transform for group in policy for transform in GROUPS[group]]
    for option, values in options.items():
        for name in values:
            if name not in transforms:
                needed = next(group for group, members in GROUPS.items() if name in members)
                fact = f"the policy ({', '.join(policy) or 'empty'}) has no {name}"
                raise incompatible((option, name), f"{fact}; add {needed} to it")
