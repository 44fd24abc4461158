"""Conversions between images in bytes and the value ranges of generators."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from blocks.common.images.value_range import from_symmetric, to_symmetric

__all__ = ["from_bytes", "from_symmetric", "to_bytes", "to_symmetric"]


def from_bytes(images: UInt8[Tensor, "b c h w"], value_range: str) -> Float[Tensor, "b c h w"]:
    """Bytes 0 to 255 as floating-point numbers of a value range, in channels-last memory.

    Raises:
        ValueError: There is no such range.
    """
    values = images.to(torch.float32, memory_format=torch.channels_last)
    return from_symmetric(values.mul_(2 / 255).sub_(1), value_range)


def to_bytes(images: Float[Tensor, "b c h w"], value_range: str) -> UInt8[Tensor, "b c h w"]:
    """Images of a value range as bytes, rounded and clamped to 0 to 255.

    Raises:
        ValueError: There is no such range.
    """
    values = to_symmetric(images.detach().float(), value_range)
    return values.add(1).mul_(255 / 2).round_().clamp_(0, 255).to(torch.uint8)
