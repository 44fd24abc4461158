"""A Gaussian-like blur of the discriminator's images that fades out at the beginning of training.

StyleGAN-XL, Sauer et al. 2022, https://arxiv.org/abs/2202.00273, appendix; this form, with sigma
decreasing linearly: StyleGAN-T's published code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat
from torch import Tensor

from blocks.common.shapes import check_nchw
from blocks.families import Augment
from blocks.ops.upfirdn2d import upfirdn2d
from registry import Slot


class FadingBlur(Augment, kind="fading-blur"):
    """A blur with taps 2^-(k/sigma)^2, |k| <= 3 sigma; sigma decreases to 0 over the first images of training.

    Args:
        init_sigma: Initial sigma, in pixels.
        fade_kimg: Thousands of real images over which sigma decreases; values up to 1 disable the blur.
        then: Augmentation applied after the blur; null for none.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"init_sigma": 1.0, "fade_kimg": 2.0}},
        {"spec": {"init_sigma": 0.5, "fade_kimg": 2.0, "then": "diffaugment"}},
    )

    def __init__(
        self,
        *,
        init_sigma: PositiveFloat = 2.0,
        fade_kimg: Annotated[float, Field(ge=0)] = 0.0,
        then: Slot[Augment] | None = None,
    ) -> None:
        super().__init__()
        self.init_sigma, self.fade_kimg = init_sigma, fade_kimg
        self.then: Augment | None = self.fill("then", then)
        self.sigma = sigma_at(init_sigma, fade_kimg, 0)
        self.resample = upfirdn2d.bind()

    def at(self, images: int) -> None:
        self.sigma = sigma_at(self.init_sigma, self.fade_kimg, images)
        if self.then is not None:
            self.then.at(images)

    def observe(self, sign: Float[Tensor, ""], num_images: int) -> None:
        if self.then is not None:
            self.then.observe(sign, num_images)

    def strength(self) -> dict[str, Tensor]:
        return {} if self.then is None else self.then.strength()

    def mix(self, real: Float[Tensor, "b k h w"], fake: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        return real if self.then is None else self.then.mix(real, fake)

    def forward(self, image: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        check_nchw(self, image, name="image")
        if self.training:
            image = blur(image, self.sigma, self.resample)
        return image if self.then is None else self.then(image)


def sigma_at(init_sigma: float, fade_kimg: float, images: int) -> float:
    """Sigma after a number of real images."""
    return max(1 - images / (fade_kimg * 1000), 0) * init_sigma if fade_kimg > 1 else 0.0


def blur(
    image: Float[Tensor, "b k h w"], sigma: float, resample: Callable[..., Tensor] = upfirdn2d
) -> Float[Tensor, "b k h w"]:
    """Convolves with 2^-(k/sigma)^2, |k| <= 3 sigma, with zero padding; its standard deviation is 0.85 sigma."""
    radius = math.floor(3 * sigma)
    if not radius:
        return image
    offset = torch.arange(-radius, radius + 1, device=image.device, dtype=torch.float64)
    taps = torch.exp2(-(offset / sigma).square())
    taps = (taps / taps.sum()).to(image.dtype)
    image = resample(image, taps[None], padding=(radius, radius, 0, 0))
    blurred: Tensor = resample(image, taps[:, None], padding=(0, 0, radius, radius))
    return blurred
