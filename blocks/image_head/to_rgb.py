"""To RGB: the features of each resolution become an image, and the images are summed.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958, section 4.1; without styles in StyleSwin,
https://arxiv.org/abs/2112.10762, and StyleNAT, https://arxiv.org/abs/2211.05770; demodulated in Styleformer,
https://arxiv.org/abs/2106.07023; with styles of second order in StyleGAN-T, https://arxiv.org/abs/2301.09515.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.autocast import no_autocast
from blocks.common.modulation import modulated_weight
from blocks.common.resample import SkipSum
from blocks.common.shapes import check_nchw, check_styles
from blocks.common.style import StyleOrder, style_map
from blocks.families import ImageHead, to_nchw, to_nhwc
from registry import incompatible


class ToRGB(ImageHead, kind="to-rgb"):
    """A linear map from each pixel's features to its colour, added to the image so far.

    An image of lower resolution is upsampled with the filter [1,3,3,1], or bilinearly if the factor is not a power of
    two.

    Args:
        dim: Channels of the features.
        style_dim: Features S of the style; the block of the next step uses the same style vector.
        image_channels: Channels of the image.
        modulation: "none" uses no style, as in StyleNAT; "modulate" scales the features by it, as in StyleGAN2;
            "demodulate" also normalises the modulated weights, as in Styleformer.
        weight_init: Standard deviation of the weights at init, for "modulate"; StyleGAN-T uses 0.1, for a small first
            image.
        num_biases: Number of biases. StyleSwin and StyleNAT have 2, which is equivalent to one bias with twice the
            learning rate.
        style_order: Order of the map from w to the style: 1 is affine, 2 is StyleGAN-T's polynomial.
        clamp: Largest magnitude of the image that is added, for half precision; StyleGAN2-ADA uses 256.
        kernel: Kernel of the filter that resamples the image so far: "auto" chooses by priority for each call, "tune"
            by measured speed.

    Raises:
        IncompatibleError: `modulation` needs styles, and there are none.
    """

    examples: ClassVar = (
        {"spec": {"modulation": "none", "num_biases": 2}},
        {"spec": {"modulation": "modulate", "weight_init": 0.1, "style_order": 2, "clamp": 1.0}},
        {"spec": {"modulation": "demodulate"}, "context": {"image_channels": 1}},
    )

    def __init__(
        self,
        dim: int,
        style_dim: int | None = None,
        image_channels: int = 3,
        *,
        modulation: Literal["none", "modulate", "demodulate"] = "none",
        weight_init: PositiveFloat = 1.0,
        num_biases: Literal[1, 2] = 1,
        style_order: StyleOrder = 1,
        clamp: PositiveFloat | None = None,
        kernel: str = "auto",
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(image_channels, dim))
        self.bias = nn.Parameter(torch.zeros(image_channels))
        self.bias2 = nn.Parameter(torch.zeros(image_channels)) if num_biases == 2 else None
        self.skip = SkipSum(kernel=kernel)
        self.demodulate = modulation == "demodulate"
        self.scale = 1 / math.sqrt(dim) if modulation == "modulate" else 1.0
        self.clamp = clamp
        self.style_dim = style_dim or 0
        self.affine: nn.Module | None = None
        if modulation == "none":
            nn.init.xavier_normal_(self.weight, gain=0.02)
        else:
            if style_dim is None:
                raise incompatible(
                    "modulation", f"{modulation} needs style vectors, and there are none here; take modulation: none"
                )
            self.affine = style_map(style_dim, dim, style_order)
            self.num_styles, self.shares_next_style = 1, True
        if modulation == "modulate":
            nn.init.normal_(self.weight, std=weight_init)
        elif modulation == "demodulate":
            nn.init.uniform_(self.weight, -1 / math.sqrt(dim), 1 / math.sqrt(dim))

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        ws: Float[Tensor, "b n s"],
        image: Float[Tensor, "b k i j"] | None = None,
    ) -> Float[Tensor, "b k h w"]:
        check_nchw(self, x, self.weight.shape[1])
        with no_autocast(x):  # cheap, and rounding errors are visible in the image
            pixels = to_nhwc(x).to(self.weight.dtype)
            if self.affine is None:
                colours = F.linear(pixels, self.weight)
            else:
                ws = check_styles(self, ws, 1, self.style_dim, x)
                style = self.affine(ws[:, 0].to(self.weight.dtype))
                weight = modulated_weight(self.weight * self.scale, style, demodulate=self.demodulate)
                colours = (pixels.flatten(1, 2) @ weight.mT).reshape(*pixels.shape[:3], self.weight.shape[0])
        bias = self.bias if self.bias2 is None else self.bias + self.bias2
        colours = colours + bias
        if self.clamp is not None:
            colours = colours.clamp(-self.clamp, self.clamp)
        summed: Tensor = self.skip(to_nchw(colours), image)
        return summed
