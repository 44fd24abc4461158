"""A blur that fades: at first the discriminator sees coarse shapes only, real and generated alike.

StyleGAN-XL, Sauer et al. 2022, https://arxiv.org/abs/2202.00273, appendix; as StyleGAN-T's published code has it, with
sigma falling linearly.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat
from torch import Tensor

from blocks.families import Augment
from blocks.ops.upfirdn2d import upfirdn2d
from registry import Slot


class FadingBlur(Augment, kind="fading-blur"):
    """Taps 2^-(k/sigma)^2 up to 3 sigma; sigma falls to 0 over the first images of a training.

    Args:
        init_sigma: Sigma at the first image, in pixels.
        fade_kimg: Thousands of real images shown over which it falls; up to 1 for no blur at all.
        then: What comes after the blur.
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
        self.sigma = faded(init_sigma, fade_kimg, 0)

    def at(self, images: int) -> None:
        self.sigma = faded(self.init_sigma, self.fade_kimg, images)
        if self.then is not None:
            self.then.at(images)

    def observe(self, sign: Float[Tensor, ""], num_images: int) -> None:
        if self.then is not None:
            self.then.observe(sign, num_images)

    def strength(self) -> dict[str, Tensor]:
        return {} if self.then is None else self.then.strength()

    def forward(self, image: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        image = blur(image, self.sigma)
        return image if self.then is None else self.then(image)


def faded(init_sigma: float, fade_kimg: float, images: int) -> float:
    """Sigma after so many real images."""
    return max(1 - images / (fade_kimg * 1000), 0) * init_sigma if fade_kimg > 1 else 0.0


def blur(image: Float[Tensor, "b k h w"], sigma: float) -> Float[Tensor, "b k h w"]:
    """Convolve with 2^-(k/sigma)^2, |k| <= 3 sigma, zeros outside; the deviation of that is 0.85 sigma."""
    reach = math.floor(3 * sigma)
    if not reach:
        return image
    place = torch.arange(-reach, reach + 1, device=image.device, dtype=torch.float64)
    taps = torch.exp2(-(place / sigma).square())
    taps = (taps / taps.sum()).to(image.dtype)
    image = upfirdn2d(image, taps[None], padding=(reach, reach, 0, 0))
    blurred: Tensor = upfirdn2d(image, taps[:, None], padding=(0, 0, reach, reach))
    return blurred
