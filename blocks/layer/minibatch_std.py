"""Minibatch standard deviation: features that measure the variation within a group of images.

Progressive growing, Karras et al. 2018, https://arxiv.org/abs/1710.10196, section 3; groups and channels as in
StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor
from torch.nn import functional as F

from blocks.common.autocast import at_least_float32
from blocks.common.divisors import nearest_divisors
from blocks.common.shapes import check_nchw
from blocks.families import Layer, channels_last
from registry import incompatible


class MinibatchStd(Layer, kind="minibatch-std"):
    """Appends constant channels: the standard deviation over a group of images, averaged over pixels and channels.

    Image i of a batch of B = n G belongs to group i mod n. G is the largest divisor of B up to `group_size`, so that
    batches of any size work. A prime batch larger than `group_size` has groups of one image, with deviation 0. After
    torch.export, batches that split into groups in another way than the traced one raise.

    Args:
        dim: Channels C of the input; the output has C + F.
        group_size: Maximum number G of images in a group; null for the whole batch.
        num_channels: Channels F to append, each an average over C / F consecutive channels.

    Raises:
        IncompatibleError: C does not divide by F.
    """

    examples: ClassVar[tuple[Any, ...]] = ({"spec": {}}, {"spec": {"group_size": None, "num_channels": 2}})

    def __init__(self, dim: int, *, group_size: PositiveInt | None = 4, num_channels: PositiveInt = 1) -> None:
        super().__init__()
        if dim % num_channels:
            fact = f"{dim} channels do not split evenly into {num_channels} parts"
            raise incompatible("num_channels", f"{fact}; take {nearest_divisors(dim, num_channels)}")
        self.dim, self.group_size, self.num_channels = dim, group_size, num_channels

    def forward(
        self, x: Float[Tensor, "b c h w"], ws: Float[Tensor, "b n s"] | None = None
    ) -> Float[Tensor, "b d h w"]:
        check_nchw(self, x, self.dim)
        batch, channels, height, width = x.shape
        if batch == 0:
            return F.pad(x, (0, 0, 0, 0, 0, self.num_channels))
        size = min(self.group_size or batch, batch)
        while batch % size:
            size -= 1
        num_groups = batch // size
        groups = at_least_float32(x).reshape(size, num_groups, channels, height, width)
        variance = (groups - groups.mean(dim=0)).square().mean(dim=0)  # on a CPU five times faster than var
        deviation = (variance + 1e-8).sqrt()  # n c h w
        values = deviation.reshape(num_groups, self.num_channels, channels * height * width // self.num_channels)
        means = values.mean(dim=2).to(x.dtype)  # n F
        appended = means.repeat(size, 1)[:, :, None, None].expand(-1, -1, height, width)
        return torch.cat([x, channels_last(appended)], dim=1)
