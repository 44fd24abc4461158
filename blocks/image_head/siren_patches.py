"""SIREN patches: each token modulates a network with sine activations from pixel coordinates to colours.

SIREN, Sitzmann et al. 2020, https://arxiv.org/abs/2006.09661, section 3; as the image head of ViTGAN (Lee et al.
2021, https://arxiv.org/abs/2107.04589) in its best-known re-implementation.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.equalized import EqualLinear
from blocks.common.images.patches import patches_to_image
from blocks.common.modulation import demodulation_factors, modulated_linear
from blocks.common.position import LearnedFourier
from blocks.common.resample import SkipSum
from blocks.common.shapes import check_nchw, check_resolution
from blocks.families import ImageHead, Resolution, to_nhwc
from registry import incompatible

Modulation = Literal["modulate", "demodulate", "add"]


class SirenPatches(ImageHead, kind="siren-patches"):
    """A network with sine activations from Fourier features of a pixel's coordinates to its colour, per token.

    The token modulates the network, and the result is added to the image so far. Modulation is computed without the
    modulated weights.

    Args:
        dim: Features of a token.
        image_channels: Channels of the image.
        resolution: Rows and columns of tokens; needed only with `whole`.
        patch_size: Side of a patch, in pixels: the factor between the map of tokens and the image.
        hidden_dims: Features of the network's hidden layers.
        fourier_dim: Fourier features of a pixel; None for as many as a token has.
        omega: Factor of the argument of each sine.
        modulation: How a token modulates a layer: "modulate" scales the layer's inputs; "demodulate" also normalises
            the weights; "add" adds a linear map of the token to the inputs.
        whole: Whether one network draws the whole image, modulated by a linear map of all tokens, instead of a network
            per patch.
        bias: Whether the linear map of all tokens has a bias.
        scrambled: Whether to reshape where a transpose is meant, as in the published code: it mixes pixels with their
            features before the network, and pixels with colours after it.
        kernel: Kernel of the filter that resamples the image so far: "auto" chooses by priority for each call, "tune"
            by measured speed.

    Raises:
        IncompatibleError: `whole` needs the resolution, and there is none.
    """

    examples: ClassVar = (
        {"spec": {"patch_size": 3, "hidden_dims": [12, 10], "omega": 3}},
        {"spec": {"patch_size": 2, "fourier_dim": 10, "hidden_dims": [12], "modulation": "demodulate", "omega": 3}},
        {
            "spec": {"patch_size": 2, "hidden_dims": [8], "modulation": "add", "omega": 3},
            "context": {"image_channels": 1},
        },
        {
            "spec": {"patch_size": 2, "hidden_dims": [12], "whole": True, "scrambled": True, "omega": 3},
            "context": {"resolution": (4, 5)},
        },
        {
            "spec": {"patch_size": 2, "hidden_dims": [12], "whole": True, "bias": False, "omega": 3},
            "context": {"resolution": (4, 5)},
        },
    )

    def __init__(
        self,
        dim: int,
        image_channels: int = 3,
        resolution: Resolution | None = None,
        *,
        patch_size: PositiveInt = 4,
        hidden_dims: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (384, 384),
        fourier_dim: PositiveInt | None = None,
        omega: PositiveFloat = 30.0,
        modulation: Modulation = "modulate",
        whole: bool = False,
        bias: bool = True,
        scrambled: bool = False,
        kernel: str = "auto",
    ) -> None:
        super().__init__()
        self.dim, self.resolution = dim, resolution
        self.patch_size, self.scrambled = patch_size, scrambled
        size = patch_size, patch_size
        self.join: EqualLinear | None = None
        if whole:
            if resolution is None:
                raise incompatible("whole", "whole needs the resolution of the map of tokens, and there is none here")
            size = patch_size * resolution[0], patch_size * resolution[1]
            self.join = EqualLinear(dim * resolution[0] * resolution[1], dim, bias_init=0.0 if bias else None)
        fourier_dim = dim if fourier_dim is None else fourier_dim
        self.fourier = LearnedFourier(fourier_dim, size)
        self.network = Siren((fourier_dim, *hidden_dims, image_channels), dim, omega=omega, modulation=modulation)
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
        if self.join is not None:
            assert self.resolution is not None
            check_resolution(self, height, width, self.resolution)
            tokens = F.gelu(self.join(to_nhwc(x).flatten(1)))
        pixels = self.fourier().flatten(0, 1)  # the same for all tokens
        if self.scrambled:
            pixels = pixels.reshape(pixels.mT.shape).mT
        colours = self.network(pixels, tokens)
        if self.scrambled:
            colours = colours.mT.reshape(colours.shape)
        summed: Tensor = self.skip(self.to_image(colours.mT, (batch, height, width)), image)
        return summed

    def to_image(self, colours: Float[Tensor, "t k p"], tokens: tuple[int, int, int]) -> Float[Tensor, "b k u v"]:
        """Colours of all pixels as an image."""
        if self.join is not None:
            return colours.reshape(*colours.shape[:2], *self.fourier.resolution)
        patches = colours.reshape(*tokens, colours.shape[1] * colours.shape[2])
        return patches_to_image(patches, self.patch_size)


class Siren(nn.Module):
    """Layers sin(omega W x), the last one without the sine; tokens modulate the weights W.

    Args:
        widths: Features of the input, of each hidden layer, and of the output.
        style_dim: Features of a token.
        omega: Factor of the argument of each sine.
        modulation: How a token modulates a layer; see `SirenPatches`.
    """

    def __init__(self, widths: tuple[int, ...], style_dim: int, *, omega: float, modulation: Modulation) -> None:
        super().__init__()
        self.omega = omega
        pairs = enumerate(pairwise(widths))
        self.layers = nn.ModuleList(
            StyledLinear(i, o, style_dim, modulation, spread=1 / i if first == 0 else math.sqrt(6 / i) / omega)
            for first, (i, o) in pairs
        )

    def forward(
        self, pixels: Float[Tensor, "p i"] | Float[Tensor, "t p i"], tokens: Float[Tensor, "t s"]
    ) -> Float[Tensor, "t p o"]:
        *hidden, last = self.layers
        for layer in hidden:
            pixels = torch.sin(self.omega * layer(pixels, tokens))
        y: Tensor = last(pixels, tokens)
        return y


class StyledLinear(nn.Module):
    """A linear layer without bias on each token's pixels, modulated by the token.

    Args:
        in_dim: Features of a pixel.
        out_dim: Features of a pixel after it.
        style_dim: Features of a token. If equal to `in_dim`, the token is the style; otherwise a linear map of it.
        modulation: How a token modulates the layer; see `SirenPatches`.
        spread: Effective weights are uniform between -spread and spread at init.
    """

    def __init__(self, in_dim: int, out_dim: int, style_dim: int, modulation: Modulation, *, spread: float) -> None:
        super().__init__()
        self.add, self.demodulate = modulation == "add", modulation == "demodulate"
        self.scale = 1 / math.sqrt(in_dim)
        self.affine = EqualLinear(style_dim, in_dim, bias_init=None) if self.add or style_dim != in_dim else None
        self.weight = nn.Parameter(torch.empty(out_dim, in_dim).uniform_(-spread, spread) / self.scale)

    def forward(
        self, pixels: Float[Tensor, "p i"] | Float[Tensor, "t p i"], tokens: Float[Tensor, "t s"]
    ) -> Float[Tensor, "t p o"]:
        weight, style = self.weight * self.scale, tokens if self.affine is None else self.affine(tokens)
        if self.add:  # by parts: the sum is smaller after the weight than before it
            return pixels @ weight.mT + (style @ weight.mT)[:, None]
        y = modulated_linear(pixels, weight, style)
        return y * demodulation_factors(weight, style)[:, None] if self.demodulate else y
