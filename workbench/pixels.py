"""What an image's numbers mean: bytes, and the ranges that generators work in."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def from_bytes(images: UInt8[Tensor, "b c h w"], value_range: str) -> Float[Tensor, "b c h w"]:
    """Bytes 0..255 as a generator's range, in channels-last memory."""
    values = images.to(torch.float32, memory_format=torch.channels_last)
    return from_symmetric(values.mul_(2 / 255).sub_(1), value_range)


def to_bytes(images: Float[Tensor, "b c h w"], value_range: str) -> UInt8[Tensor, "b c h w"]:
    """A generator's range as bytes, rounded and clamped."""
    values = to_symmetric(images.detach().float(), value_range)
    return values.add(1).mul_(255 / 2).round_().clamp_(0, 255).to(torch.uint8)


def from_symmetric(images: Float[Tensor, "b c h w"], value_range: str) -> Float[Tensor, "b c h w"]:
    """From [-1,1] to a generator's range."""
    if value_range == "symmetric":
        return images
    scale, shift = _affine(value_range, images)
    return images * scale + shift


def to_symmetric(images: Float[Tensor, "b c h w"], value_range: str) -> Float[Tensor, "b c h w"]:
    """From a generator's range to [-1,1]."""
    if value_range == "symmetric":
        return images
    scale, shift = _affine(value_range, images)
    return (images - shift) / scale


def _affine(value_range: str, like: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift, per channel, from [-1,1] to a range."""
    if value_range == "unit":
        return like.new_tensor(0.5), like.new_tensor(0.5)
    if value_range != "imagenet":
        raise ValueError(f"{value_range!r} is no value range; valid: symmetric, unit, imagenet")
    mean, std = like.new_tensor(IMAGENET_MEAN), like.new_tensor(IMAGENET_STD)
    if like.shape[1] != len(mean):  # images that are not RGB are normalised as grey ones
        mean, std = mean.mean(0, keepdim=True), std.mean(0, keepdim=True)
    return (0.5 / std)[:, None, None], ((0.5 - mean) / std)[:, None, None]
