"""Implicit neural representation: each token modulates a network from pixel coordinates to the colours of its patch.

ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589, section 3.3; modulated as in CIPS, Anokhin et al. 2020,
https://arxiv.org/abs/2011.13775.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.equalized import EqualLinear
from blocks.common.images.patches import image_to_patches, patches_to_image
from blocks.common.images.value_range import from_symmetric
from blocks.common.modulation import demodulation_factors, modulated_linear
from blocks.common.noise import Noise
from blocks.common.position import LearnedFourier
from blocks.common.resample import SkipSum
from blocks.common.shapes import check_nchw, check_resolution
from blocks.families import Count, ImageHead, Resolution, to_nchw, to_nhwc
from blocks.image_head.to_rgb import ToRGB
from blocks.ops.bias_act import GAINS, SLOPE
from registry import incompatible


class INRPatches(ImageHead, kind="inr-patches"):
    """A network from Fourier features of a pixel's coordinates to its colour, modulated by each token.

    The result is added to the image so far. Modulation is computed without the modulated weights.

    Args:
        dim: Features of a token.
        image_channels: Channels of the image.
        resolution: Rows and columns of tokens; needed only with `noise`.
        patch_size: Side of a patch, in pixels: the factor between the map of tokens and the image.
        hidden_dims: Features of the network's hidden layers, each modulated and demodulated; one in the paper, three in
            the authors' code.
        fourier_dim: Fourier features of a pixel; None for as many as a token has.
        mapping_layers: Linear layers with leaky ReLU that are applied to the normalised token first; 4 in the authors'
            code.
        mapping_lr_multiplier: Factor of the learning rate of these layers.
        noise: Whether noise times a learned strength, 0 at init, is added to each pixel before the activation of a
            hidden layer, as in the authors' code.
        rgb_every: Adds a colour output after every so many hidden layers beyond the first, as in CIPS; 2 in the
            authors' code. None: one output after the last layer.
        weight_init: Standard deviation of the weights of the colour outputs at init.
        value_range: Range of the image; "unit" returns 0.5 x + 0.5 of each colour x, as in the authors' code.
        kernel: Kernel of the filter that resamples the image so far: "auto" chooses by priority for each call, "tune"
            by measured speed.

    Raises:
        IncompatibleError: `noise` needs the resolution, and there is none.
    """

    examples: ClassVar = (
        {"spec": {"patch_size": 3, "hidden_dims": [12]}},
        {"spec": {"patch_size": 2, "hidden_dims": [12, 8, 8], "fourier_dim": 10, "mapping_layers": 2}},
        {"spec": {"patch_size": 1, "hidden_dims": [12]}, "context": {"image_channels": 1}},
        {
            "spec": {
                "patch_size": 2,
                "hidden_dims": [10, 8, 8, 6, 6],
                "noise": True,
                "rgb_every": 2,
                "value_range": "unit",
            }
        },
    )

    def __init__(
        self,
        dim: int,
        image_channels: int = 3,
        resolution: Resolution | None = None,
        *,
        patch_size: PositiveInt = 4,
        hidden_dims: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (512,),
        fourier_dim: PositiveInt | None = None,
        mapping_layers: Count | Literal[0] = 0,
        mapping_lr_multiplier: PositiveFloat = 0.01,
        noise: bool = False,
        rgb_every: PositiveInt | None = None,
        weight_init: PositiveFloat = 1.0,
        value_range: Literal["symmetric", "unit"] = "symmetric",
        kernel: str = "auto",
    ) -> None:
        super().__init__()
        self.dim, self.patch_size, self.resolution = dim, patch_size, resolution
        self.mapping = nn.Sequential()
        for _ in range(mapping_layers):
            self.mapping.append(EqualLinear(dim, dim, lr_multiplier=mapping_lr_multiplier, activation="lrelu"))
        fourier_dim = dim if fourier_dim is None else fourier_dim
        self.fourier = LearnedFourier(fourier_dim, (patch_size, patch_size))
        self.layers = nn.ModuleList(TokenLinear(i, o, dim) for i, o in pairwise((fourier_dim, *hidden_dims)))
        self.noise: nn.ModuleList | None = None
        if noise:
            if resolution is None:
                raise incompatible("noise", "noise needs the resolution of the map of tokens, and there is none here")
            size = resolution[0] * patch_size, resolution[1] * patch_size
            self.noise = nn.ModuleList(Noise(size) for _ in hidden_dims)
        last = len(hidden_dims) - 1
        early = range(rgb_every, last, rgb_every) if rgb_every else ()
        colours: dict[str, Any] = {"modulation": "modulate", "weight_init": weight_init}
        self.early_rgb = nn.ModuleDict({str(i): ToRGB(hidden_dims[i], dim, image_channels, **colours) for i in early})
        self.to_rgb = ToRGB(hidden_dims[last], dim, image_channels, **colours)
        self.value_range: str = value_range
        self.skip = SkipSum(kernel=kernel)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        ws: Float[Tensor, "b n s"],
        image: Float[Tensor, "b k i j"] | None = None,
    ) -> Float[Tensor, "b k u v"]:
        check_nchw(self, x, self.dim)
        batch, _, height, width = x.shape
        tokens = to_nhwc(x).flatten(0, 2)
        if len(self.mapping):
            tokens = self.mapping(F.rms_norm(tokens, tokens.shape[1:], eps=1e-8))
        pixels = self.fourier().flatten(0, 1)  # the same for all tokens, before the first layer
        colours: Tensor | None = None
        for index, layer in enumerate(self.layers):
            pixels = layer(pixels, tokens, None if self.noise is None else self.patch_noise(index, x))
            if str(index) in self.early_rgb:
                colours = self.early_rgb[str(index)](self.maps(pixels), tokens[:, None], colours)
        colours = self.to_rgb(self.maps(pixels), tokens[:, None], colours)
        features = colours.shape[1] * self.patch_size**2
        patches = from_symmetric(colours, self.value_range).reshape(batch, height, width, features)
        summed: Tensor = self.skip(patches_to_image(patches, self.patch_size), image)
        return summed

    def maps(self, pixels: Float[Tensor, "t p o"]) -> Float[Tensor, "t o i j"]:
        return pixels.mT.reshape(*pixels.mT.shape[:2], self.patch_size, self.patch_size)

    def patch_noise(self, index: int, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "t p 1"]:
        """A layer's noise times its strength, cut from the whole image into patches."""
        assert self.noise is not None
        assert self.resolution is not None
        batch, _, height, width = x.shape
        check_resolution(self, height, width, self.resolution)
        size = self.patch_size
        noise = to_nchw(self.noise[index](x.new_zeros(batch, height * size, width * size, 1)))
        return image_to_patches(noise, size).flatten(0, 2)[..., None]


class TokenLinear(nn.Module):
    """A linear layer on each token's pixels, modulated by the token and demodulated, with leaky ReLU.

    Args:
        in_dim: Features of a pixel.
        out_dim: Features of a pixel after it.
        style_dim: Features of a token.
    """

    def __init__(self, in_dim: int, out_dim: int, style_dim: int) -> None:
        super().__init__()
        self.scale = 1 / math.sqrt(in_dim)
        self.affine = EqualLinear(style_dim, in_dim, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_dim, in_dim))
        self.bias = nn.Parameter(torch.zeros(out_dim))

    def forward(
        self,
        pixels: Float[Tensor, "p i"] | Float[Tensor, "t p i"],
        tokens: Float[Tensor, "t s"],
        noise: Float[Tensor, "t p 1"] | None = None,
    ) -> Float[Tensor, "t p o"]:
        weight, style = self.weight * self.scale, self.affine(tokens)
        y = modulated_linear(pixels, weight, style)
        # the gain sqrt(2) goes into the small tensors, and the activation works in place
        bias, factor = self.bias * GAINS["lrelu"], demodulation_factors(weight, style)[:, None] * GAINS["lrelu"]
        y = torch.addcmul(bias.to(y.dtype), y, factor.to(y.dtype))
        if noise is not None:
            y = y.add_(noise.to(y.dtype), alpha=GAINS["lrelu"])
        return F.leaky_relu(y, SLOPE, inplace=True)
