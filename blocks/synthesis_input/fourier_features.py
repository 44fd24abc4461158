"""A source of waves, which the style may turn and shift: an infinite map, sampled where the image is.

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
from blocks.common.equalized import EqualLinear
from blocks.families import Resolution, SynthesisInput, to_nchw
from registry import incompatible


class FourierFeatures(SynthesisInput, kind="fourier-features"):
    """Sines of random frequencies, rotated and moved as the style says, mixed by a learned linear map.

    Args:
        style_dim: Features S of the style.
        dim: Channels C of the map, and waves.
        resolution: Height and width of the map.
        bandwidth: Highest frequency, in waves per unit of length, at which waves are drawn.
        sampling_rate: Pixels per unit of length; waves fade out between the bandwidth and half of this rate.
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
            fact = f"waves of {bandwidth:g} per unit are not below half of {sampling_rate:g} pixels per unit"
            raise incompatible("bandwidth", f"{fact}; take less than {sampling_rate / 2:g}")
        self.bandwidth, self.sampling_rate = bandwidth, sampling_rate
        self.affine = EqualLinear(style_dim, 4)
        self.weight = nn.Parameter(torch.randn(dim, dim))
        self.scale = 1 / math.sqrt(dim)
        nn.init.zeros_(self.affine.weight)
        self.affine.bias = nn.Parameter(torch.tensor([1.0, 0.0, 0.0, 0.0]))  # neither turned nor moved
        draws = torch.randn(dim, 2)
        radii = draws.norm(dim=1, keepdim=True)
        self.register_buffer("freqs", draws / radii * torch.exp(-radii.square() / 4) * bandwidth)  # even over the disc
        self.register_buffer("phases", torch.rand(dim) - 0.5)
        self.register_buffer("transform", torch.eye(3))
        for name, size in zip(("rows", "columns"), resolution, strict=True):
            centres = torch.arange(size) + (1 - size) / 2  # in pixels, from the middle of the map
            self.register_buffer(name, centres / sampling_rate, persistent=False)

    def forward(self, ws: Float[Tensor, "b n s"]) -> Float[Tensor, "b c h w"]:
        with no_autocast(ws):  # phases count many turns
            return self.waves(ws[:, 0].to(self.weight.dtype))

    def waves(self, w: Float[Tensor, "b s"]) -> Float[Tensor, "b c h w"]:
        """The map of a style."""
        placed = self.placement(w) @ self.transform
        phases = self.phases + placed[:, :2, 2] @ self.freqs.mT
        freqs = self.freqs @ placed[:, :2, :2]  # b c 2
        fading = (freqs.norm(dim=-1) - self.bandwidth) / (self.sampling_rate / 2 - self.bandwidth)
        across, along = (each[:, None, None] for each in freqs.unbind(dim=-1))
        turns = self.columns[:, None] * across + self.rows[:, None, None] * along + phases[:, None, None]
        waves = torch.sin(2 * math.pi * turns) * (1 - fading).clamp(0, 1)[:, None, None]
        return to_nchw(F.linear(waves, self.weight * self.scale))

    def placement(self, w: Float[Tensor, "b s"]) -> Float[Tensor, "b 3 3"]:
        """The rotation and then the shift that the style asks for."""
        t: Tensor = self.affine(w)
        cos, sin, right, down = (t / t[:, :2].norm(dim=1, keepdim=True)).unbind(dim=1)
        zero, one = torch.zeros_like(cos), torch.ones_like(cos)
        turn = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], dim=1)
        shift = torch.stack([one, zero, -right, zero, one, -down, zero, zero, one], dim=1)
        return turn.view(-1, 3, 3) @ shift.view(-1, 3, 3)
