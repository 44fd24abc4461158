"""Patches drawn by implicit networks: functions from pixel coordinates to colours, one for each token.

ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589, section 3.3; weight modulation as in CIPS, Anokhin et al. 2020,
https://arxiv.org/abs/2011.13775.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.equalized import EqualLinear, leaky_relu
from blocks.families import Readout, channels_first, channels_last
from blocks.modulation import demodulation, modulated_weight
from blocks.position import LearnedFourier
from blocks.resample import SkipSum


class INRPatches(Readout, kind="inr-patches"):
    """A small network per token from the Fourier features of a pixel's place to its colour, added to the image so far.

    All tokens share the weights, and the token's features modulate them. No weight is made per token.

    Args:
        dim: Features of a token.
        image_channels: Channels of the image.
        patch_size: Side of a patch, in pixels; the image is this many times as large as the map of tokens.
        num_layers: Linear maps of the network, the last of which gives the colours.
        hidden_dim: Features between them.
        fourier_dim: Fourier features of a pixel; as many as the token has if None.
        mapping_layers: Linear maps with leaky ReLU that a token goes through, normalised, before it modulates.
        mapping_lr_multiplier: By how much slower than the rest these learn.
    """

    examples: ClassVar = (
        {"spec": {"patch_size": 3, "hidden_dim": 12}},
        {"spec": {"patch_size": 2, "hidden_dim": 12, "num_layers": 4, "fourier_dim": 10, "mapping_layers": 2}},
        {"spec": {"patch_size": 2, "num_layers": 1}, "wiring": {"image_channels": 1}},
    )

    def __init__(
        self,
        dim: int,
        image_channels: int = 3,
        *,
        patch_size: PositiveInt = 4,
        num_layers: PositiveInt = 2,
        hidden_dim: PositiveInt = 512,
        fourier_dim: PositiveInt | None = None,
        mapping_layers: NonNegativeInt = 0,
        mapping_lr_multiplier: PositiveFloat = 0.01,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.mapping = nn.Sequential(
            *(
                EqualLinear(dim, dim, lr_multiplier=mapping_lr_multiplier, activation="lrelu")
                for _ in range(mapping_layers)
            )
        )
        self.fourier = LearnedFourier(fourier_dim or dim, (patch_size, patch_size))
        widths = [fourier_dim or dim, *[hidden_dim] * (num_layers - 1)]
        self.layers = nn.ModuleList(ModulatedLinear(i, o, dim) for i, o in zip(widths, widths[1:]))
        self.to_rgb = ModulatedColours(widths[-1], image_channels, dim)
        self.skip = SkipSum()

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        ws: Float[Tensor, "b n s"],
        image: Float[Tensor, "b k i j"] | None = None,
    ) -> Float[Tensor, "b k u v"]:
        batch, _, height, width = x.shape
        tokens = channels_last(x).flatten(0, 2)
        if len(self.mapping):
            tokens = self.mapping(F.rms_norm(tokens, tokens.shape[1:], eps=1e-8))
        pixels = self.fourier().flatten(0, 1)  # the same for all tokens, until the first layer
        for layer in self.layers:
            pixels = layer(pixels, tokens)
        colours = self.to_rgb(pixels, tokens).mT.reshape(batch, height, width, -1)
        return self.skip(F.pixel_shuffle(channels_first(colours), self.patch_size), image)


class ModulatedLinear(nn.Module):
    """A modulated, demodulated linear map of each token's pixels, with leaky ReLU.

    Args:
        in_dim: Features of a pixel.
        out_dim: Features it gets.
        style_dim: Features of a token's style.
    """

    def __init__(self, in_dim: int, out_dim: int, style_dim: int) -> None:
        super().__init__()
        self.affine = EqualLinear(style_dim, in_dim, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_dim, in_dim))
        self.bias = nn.Parameter(torch.zeros(out_dim))

    def forward(
        self, pixels: Float[Tensor, "p i"] | Float[Tensor, "t p i"], tokens: Float[Tensor, "t s"]
    ) -> Float[Tensor, "t p o"]:
        weight, style = self.weight / math.sqrt(self.weight.shape[1]), self.affine(tokens)
        if pixels.ndim == 2:  # shared pixels: one product of the styles with all pairs of a pixel and a weight's row
            pairs = pixels[:, None] * weight  # p o i
            y = (style @ pairs.flatten(0, 1).mT).unflatten(1, pairs.shape[:2])
        else:
            y = (pixels * style[:, None]) @ weight.mT
        return leaky_relu(y * demodulation(weight, style)[:, None] + self.bias)


class ModulatedColours(nn.Module):
    """A modulated linear map of each token's pixels to their colours.

    Args:
        in_dim: Features of a pixel.
        image_channels: Channels of the image.
        style_dim: Features of a token's style.
    """

    def __init__(self, in_dim: int, image_channels: int, style_dim: int) -> None:
        super().__init__()
        self.affine = EqualLinear(style_dim, in_dim, bias_init=1)
        self.weight = nn.Parameter(torch.randn(image_channels, in_dim))
        self.bias = nn.Parameter(torch.zeros(image_channels))

    def forward(
        self, pixels: Float[Tensor, "p i"] | Float[Tensor, "t p i"], tokens: Float[Tensor, "t s"]
    ) -> Float[Tensor, "t p k"]:
        scale = 1 / math.sqrt(self.weight.shape[1])
        weight = modulated_weight(self.weight * scale, self.affine(tokens), demodulate=False)
        return pixels @ weight.mT + self.bias
