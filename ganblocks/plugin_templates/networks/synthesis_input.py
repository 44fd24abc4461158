"""Example synthesis input: a learned map whose channels are scaled by the style.

Name the paper here, with its address: `ganblocks blocks` shows it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from blocks.common.shapes import check_styles
from blocks.families import Resolution, SynthesisInput


class Example(SynthesisInput, kind="example"):
    """(1 + gain(w)) * value, with a learned value [C,H,W].

    Args:
        style_dim: Features S of a style.
        dim: Channels C of the map.
        resolution: Height and width of the map, in pixels.
    """

    num_styles = 1

    def __init__(self, style_dim: int, *, dim: PositiveInt = 64, resolution: Resolution = (4, 4)) -> None:
        super().__init__()
        self.style_dim = style_dim
        self.value = nn.Parameter(torch.randn(dim, *resolution))
        self.gain = nn.Linear(style_dim, dim)

    def forward(self, ws: Float[Tensor, "b n s"]) -> Float[Tensor, "b c h w"]:
        ws = check_styles(self, ws, 1, self.style_dim, ws)
        gain: Tensor = 1 + self.gain(ws[:, 0])
        return (gain[:, :, None, None] * self.value).contiguous(memory_format=torch.channels_last)
