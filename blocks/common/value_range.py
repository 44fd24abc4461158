"""What an image's numbers mean: [-1,1] ("symmetric"), [0,1] ("unit"), or normalised as ImageNet's are ("imagenet").

ImageNet, Deng et al. 2009, https://doi.org/10.1109/CVPR.2009.5206848; its mean and deviation as torchvision has them.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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
