"""Memory layouts of feature maps and weights, and style vectors by number."""

from __future__ import annotations

from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def to_nhwc(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w c"]:
    """View of a feature map for attention and norms; contiguous if `x` is in channels-last memory."""
    return x.permute(0, 2, 3, 1)


def to_nchw(x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b c h w"]:
    """Inverse view of `to_nhwc`."""
    return x.permute(0, 3, 1, 2)


def channels_last(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """The map in channels-last memory, copied if it is not; `contiguous(memory_format=...)` has no rule for vmap."""
    return to_nchw(to_nhwc(x).contiguous())


def rows(num: int, ws: Float[Tensor, "b n s"] | None) -> tuple[Tensor | None, ...]:
    """The first `num` vectors of `ws` [B,n,S], or `num` times None."""
    return (None,) * num if ws is None else torch.unbind(ws[:, :num], dim=1)


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
