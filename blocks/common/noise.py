"""Per-pixel noise that a generator adds to its features, for stochastic detail such as the position of hairs.

StyleGAN, Karras et al. 2019, https://arxiv.org/abs/1812.04948, section 3.2; one learned strength per layer: StyleGAN2,
https://arxiv.org/abs/1912.04958, section 2.2.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from blocks.common.shapes import check_resolution

NoiseMode = Literal["random", "const", "none"]


class _Modes(threading.local):
    """The modes of a thread. A list, since torch.compile guards on its length; it traces no context variables."""

    def __init__(self) -> None:
        self.stack: list[NoiseMode] = []


_modes = _Modes()


@contextmanager
def noise_mode(mode: NoiseMode | None) -> Iterator[None]:
    """Set the mode of every `Noise` layer that runs in this thread while this is open.

    Args:
        mode: "random" draws new noise for each image, "const" uses each layer's fixed noise, "none" adds no noise; None
            changes nothing.

    Raises:
        ValueError: There is no such mode.
    """
    if mode is None:
        yield
        return
    if mode not in get_args(NoiseMode):
        raise ValueError(f"unknown noise_mode {mode!r}; valid: {', '.join(get_args(NoiseMode))}")
    _modes.stack.append(mode)
    try:
        yield
    finally:
        _modes.stack.pop()


def current_noise_mode() -> NoiseMode | None:
    """The mode that `noise_mode` sets; None outside of it."""
    return _modes.stack[-1] if _modes.stack else None


class Noise(nn.Module):
    """Adds the same noise to all channels of a pixel, times a learned strength that is 0 at init.

    The noise is random in training and constant in eval mode, where an image is a function of its latent. `noise_mode`
    overrides this.

    Args:
        resolution: Height and width of the map, in pixels.
    """

    const: Tensor

    def __init__(self, resolution: tuple[int, int]) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("const", torch.randn(*resolution))

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        noise = self.sample(x)
        return x if noise is None else x + noise.to(x.dtype)[..., None]

    def sample(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w"] | Float[Tensor, "h w"] | None:
        """What is added to all channels of the map x, or to those of each image: noise times strength."""
        mode = current_noise_mode() or ("random" if self.training else "const")
        if mode == "none":
            return None
        if mode == "random":
            noise = torch.randn(x.shape[:3], dtype=x.dtype, device=x.device)
        else:
            height, width = self.const.shape[-2:]
            check_resolution(self, x.shape[1], x.shape[2], (height, width))
            noise = self.const
        return noise * self.strength
