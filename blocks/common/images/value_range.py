"""Value ranges of images, and the conversions between them.

"symmetric" is [-1,1], "unit" is [0,1], and "imagenet" is [0,1] normalised by the mean and standard deviation of
ImageNet (Deng et al. 2009, https://doi.org/10.1109/CVPR.2009.5206848) as torchvision has them. A block that expects a
range documents it; its caller converts the images with these functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.common.computed_buffer import filled

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def from_symmetric(images: Float[Tensor, "b c h w"], value_range: str) -> Float[Tensor, "b c h w"]:
    """Images in [-1,1] as images of `value_range`.

    Raises:
        ValueError: There is no such range.
    """
    if value_range == "symmetric":
        return images
    scale, shift = _affine(value_range, images)
    return images * scale + shift


def to_symmetric(images: Float[Tensor, "b c h w"], value_range: str) -> Float[Tensor, "b c h w"]:
    """Images of `value_range` as images in [-1,1].

    Raises:
        ValueError: There is no such range.
    """
    if value_range == "symmetric":
        return images
    scale, shift = _affine(value_range, images)
    return (images - shift) / scale


def in_symmetric(
    function: Callable[[Tensor], Tensor], images: Float[Tensor, "b c h w"], value_range: str
) -> Float[Tensor, "b c h w"]:
    """`function`, which takes and returns images in [-1,1], applied to images of `value_range`."""
    return from_symmetric(function(to_symmetric(images, value_range)), value_range)


def normalization_scale(mean: Sequence[float], std: Sequence[float]) -> Float[Tensor, "c 1 1"]:
    """Factor per channel that takes images from [-1,1] to a network's input, (x - mean) / std for x in [0,1]."""
    return 0.5 / torch.tensor(std)[:, None, None]


def normalization_shift(mean: Sequence[float], std: Sequence[float]) -> Float[Tensor, "c 1 1"]:
    """What is added per channel after `normalization_scale`."""
    return (0.5 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def _affine(value_range: str, like: Tensor) -> tuple[Tensor | float, Tensor | float]:
    """Scale and shift, per channel, from [-1,1] to a range."""
    if value_range == "unit":
        return 0.5, 0.5
    if value_range != "imagenet":
        raise ValueError(f"unknown value range {value_range!r}; valid: symmetric, unit, imagenet")
    mean, std = filled(IMAGENET_MEAN, like), filled(IMAGENET_STD, like)
    if like.shape[1] != len(mean):  # images that are not RGB are normalised as grey ones
        mean, std = mean.mean(0, keepdim=True), std.mean(0, keepdim=True)
    return (0.5 / std)[:, None, None], ((0.5 - mean) / std)[:, None, None]
