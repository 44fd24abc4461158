"""What an image's numbers mean: bytes, and the ranges that generators work in."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from blocks.common.value_range import from_symmetric, to_symmetric

__all__ = ["from_bytes", "from_symmetric", "to_bytes", "to_symmetric"]


def from_bytes(images: UInt8[Tensor, "b c h w"], value_range: str) -> Float[Tensor, "b c h w"]:
    """Bytes 0..255 as a generator's range, in channels-last memory."""
    values = images.to(torch.float32, memory_format=torch.channels_last)
    return from_symmetric(values.mul_(2 / 255).sub_(1), value_range)


def to_bytes(images: Float[Tensor, "b c h w"], value_range: str) -> UInt8[Tensor, "b c h w"]:
    """A generator's range as bytes, rounded and clamped."""
    values = to_symmetric(images.detach().float(), value_range)
    return values.add(1).mul_(255 / 2).round_().clamp_(0, 255).to(torch.uint8)
