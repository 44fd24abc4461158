"""Fourier features as the input of the synthesis network, rotated and translated by the style.

StyleGAN3, Karras et al. 2021, https://arxiv.org/abs/2106.12423, section 3.2 and appendix F; StyleGAN-T, Sauer et al.
2023, https://arxiv.org/abs/2301.09515.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.autocast import no_autocast
from blocks.common.computed_buffer import computed_buffer
from blocks.common.equalized import EqualLinear
from blocks.common.shapes import check_styles
from blocks.families import Resolution, SynthesisInput, to_nchw
from registry import incompatible


class FourierFeatures(SynthesisInput, kind="fourier-features"):
    """Sines of random frequencies, rotated and translated by the style, then mixed by a learned linear map.

    Args:
        style_dim: Features S of the style.
        dim: Channels C of the map; also the number of waves.
        resolution: Height and width of the map.
        bandwidth: Highest frequency of the random waves, in waves per unit of length.
        sampling_rate: Pixels per unit of length. Amplitudes fall from 1 at the bandwidth to 0 at half of this rate.

    Raises:
        IncompatibleError: The bandwidth is not below half of the sampling rate.
    """

    examples: ClassVar = ({"spec": {"dim": 16, "resolution": [4, 6], "sampling_rate": 4, "bandwidth": 1}},)
    num_styles = 1
    rows: Tensor
    columns: Tensor
    freqs: Tensor
    phases: Tensor
    transform: Tensor

    def __init__(
        self,
        style_dim: int,
        *,
        dim: PositiveInt = 512,
        resolution: Resolution = (8, 8),
        bandwidth: PositiveFloat = 2.0,
        sampling_rate: PositiveFloat = 8.0,
    ) -> None:
        super().__init__()
        if 2 * bandwidth >= sampling_rate:
            fact = f"a bandwidth of {bandwidth:g} is not below half of the sampling rate {sampling_rate:g}"
            raise incompatible("bandwidth", f"{fact}; take less than {sampling_rate / 2:g}")
        self.bandwidth, self.sampling_rate = bandwidth, sampling_rate
        self.affine = EqualLinear(style_dim, 4)
        self.weight = nn.Parameter(torch.randn(dim, dim))
        self.scale = 1 / math.sqrt(dim)
        nn.init.zeros_(self.affine.weight)
        self.affine.bias = nn.Parameter(torch.tensor([1.0, 0.0, 0.0, 0.0]))  # the identity
        draws = torch.randn(dim, 2)
        radii = draws.norm(dim=1, keepdim=True)
        self.register_buffer("freqs", draws / radii * torch.exp(-radii.square() / 4) * bandwidth)  # uniform on a disc
        self.register_buffer("phases", torch.rand(dim) - 0.5)
        self.register_buffer("transform", torch.eye(3))
        for name, size in zip(("rows", "columns"), resolution, strict=True):
            computed_buffer(self, name, pixel_offsets, size)

    def forward(self, ws: Float[Tensor, "b n s"]) -> Float[Tensor, "b c h w"]:
        ws = check_styles(self, ws, 1, self.affine.in_dim, ws)
        with no_autocast(ws):  # phases are large, so rounding them moves the waves
            return self.waves(ws[:, 0].to(self.weight.dtype))

    def waves(self, w: Float[Tensor, "b s"]) -> Float[Tensor, "b c h w"]:
        """The map for a style."""
        transform = self.style_transform(w) @ self.transform
        phases = self.phases + transform[:, :2, 2] @ self.freqs.mT
        freqs = self.freqs @ transform[:, :2, :2]  # b c 2
        fading = (freqs.norm(dim=-1) - self.bandwidth) / (self.sampling_rate / 2 - self.bandwidth)
        horizontal, vertical = (each[:, None, None] for each in freqs.unbind(dim=-1))
        pixels = self.columns[:, None] * horizontal + self.rows[:, None, None] * vertical
        cycles = pixels / self.sampling_rate + phases[:, None, None]
        waves = torch.sin(2 * math.pi * cycles) * (1 - fading).clamp(0, 1)[:, None, None]
        return to_nchw(F.linear(waves, self.weight * self.scale))

    def style_transform(self, w: Float[Tensor, "b s"]) -> Float[Tensor, "b 3 3"]:
        """The style's rotation and translation as a matrix: first the rotation, then the translation."""
        t: Tensor = self.affine(w)
        cos, sin, dx, dy = (t / t[:, :2].norm(dim=1, keepdim=True)).unbind(dim=1)
        zero, one = torch.zeros_like(cos), torch.ones_like(cos)
        rotation = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], dim=1)
        translation = torch.stack([one, zero, -dx, zero, one, -dy, zero, zero, one], dim=1)
        return rotation.view(-1, 3, 3) @ translation.view(-1, 3, 3)


def pixel_offsets(size: int) -> Float[Tensor, " size"]:
    """Offsets of an axis' pixels from the middle of the map, in pixels; exact in every dtype."""
    return torch.arange(size) + (1 - size) / 2
