"""Noise beside the styles, for what differs between pictures without meaning: where each hair lies.

StyleGAN, Karras et al. 2019, https://arxiv.org/abs/1812.04948, section 3.2; one learned strength per layer: StyleGAN2,
https://arxiv.org/abs/1912.04958, section 2.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

NoiseMode = Literal["random", "const", "none"]

# A plain list, since torch.compile guards on its length; context variables it cannot trace.
_chosen: list[NoiseMode] = []


@contextmanager
def noise_mode(mode: NoiseMode | None) -> Iterator[None]:
    """Where all noise below comes from while this is open: no block in between has to pass it on.

    Args:
        mode: "random" draws it anew for each image, "const" takes each layer's own fixed picture, "none" leaves it
            out; None changes nothing.
    """
    if mode is None:
        yield
        return
    if mode not in get_args(NoiseMode):
        raise ValueError(f"noise_mode is one of {', '.join(get_args(NoiseMode))}, not {mode!r}")
    _chosen.append(mode)
    try:
        yield
    finally:
        _chosen.pop()


class Noise(nn.Module):
    """Adds to all channels of a pixel the same noise, times a learned strength that starts at 0.

    Unless `noise_mode` says otherwise it is random while training, and constant in eval mode, so that images are
    functions of their latents.

    Args:
        resolution: Height and width of the map, in pixels.
    """

    const: Tensor

    def __init__(self, resolution: tuple[int, int]) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("const", torch.randn(*resolution))

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        mode = _chosen[-1] if _chosen else "random" if self.training else "const"
        if mode == "none":
            return x
        noise = torch.randn(x.shape[:3], dtype=x.dtype, device=x.device) if mode == "random" else self.const
        return x + (noise * self.strength).to(x.dtype)[..., None]
