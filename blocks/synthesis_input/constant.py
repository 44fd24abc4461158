"""A learned constant as the input of the synthesis network.

StyleGAN, Karras et al. 2019, https://arxiv.org/abs/1812.04948, section 2.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from blocks.families import Resolution, SynthesisInput, channels_last


class Constant(SynthesisInput, kind="constant"):
    """A learned map [C,H,W], the same for every image; N(0,1) at init.

    Args:
        dim: Channels C of the map.
        resolution: Height and width of the map.
    """

    examples: ClassVar = ({"spec": {"dim": 16, "resolution": [3, 5]}},)

    def __init__(self, *, dim: PositiveInt = 512, resolution: Resolution = (4, 4)) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.randn(dim, *resolution))

    def forward(self, ws: Float[Tensor, "b n s"]) -> Float[Tensor, "b c h w"]:
        return channels_last(self.value.expand(ws.shape[0], -1, -1, -1))
