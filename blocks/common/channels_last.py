"""Weights of convolutions in channels-last memory, as the maps that they are applied to."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


@torch.no_grad()
def to_channels_last(network: Network) -> Network:
    """Store each parameter and buffer of four axes in channels-last order, in the memory that it has.

    `network.to(memory_format=torch.channels_last)` allocates each of them anew. The heap keeps holes of the size of the
    weights then, which larger maps do not fit into: 100 MB and more in the peak memory of StyleGAN-T's generator.

    Returns:
        The network itself.
    """
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.ndim == 4 and not tensor.is_contiguous(memory_format=torch.channels_last):
            tensor.data = _reordered(tensor.data)
    return network


def _reordered(tensor: Tensor) -> Tensor:
    if not tensor.is_contiguous() or tensor.untyped_storage().nbytes() != tensor.nbytes:  # others share its memory
        return tensor.contiguous(memory_format=torch.channels_last)
    _, channels, height, width = tensor.shape
    strides = (channels * height * width, 1, width * channels, channels)
    return tensor.as_strided(tensor.shape, strides).copy_(tensor.clone())
