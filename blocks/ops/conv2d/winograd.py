"""3x3 convolution with 16 multiplications per 2x2 output pixels instead of 36.

Lavin & Gray 2015, https://arxiv.org/abs/1509.09308, section 4.1, F(2x2, 3x3); its rounding error is that of a plain
convolution.

4x4 windows of the map, weights and 2x2 output tiles each have a transform that turns the convolution of a tile into an
entrywise product. Over all tiles and channels each of the 16 entries is a matrix product. `winograd.cpp` has the
transforms of maps; those of weights are matrix products too.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.common.weight_cache import WeightCache, budget, weights_are_frozen
from blocks.ops import native
from registry import Kernel

SOURCE = Path(__file__).with_suffix(".cpp")
VECTOR_BYTES = 64
FEWEST_TILES = 128  # with fewer, the weight's transform costs more than it saves; half of that if it is cached
FEWEST_CHANNELS = 48  # mean of input and output; with fewer, the transforms of the maps cost too much
CHUNK = 2**17  # tiles times channels per step: about as many transforms as the CPU cache holds
G = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))


class Call(ctypes.Structure):
    """Arguments of the compiled functions; the same struct as in `winograd.cpp`."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("height", "width", "channels", "tile_rows", "tile_columns", "padding")),
        *((name, ctypes.c_int64) for name in ("first", "count", "image", "row", "column", "plane", "threads")),
        *((name, ctypes.c_void_p) for name in ("map", "planes", "bias")),
    ]


class Tiles:
    """The 2x2 tiles of an output map, and the transforms between maps and planes.

    Planes [16,N,C] hold entry 4 i + j of the 4x4 transforms of N tiles in plane 4 i + j.
    """

    def __init__(self, batch: int, height: int, width: int) -> None:
        self.rows, self.columns = -(-height // 2), -(-width // 2)
        self.total = batch * self.rows * self.columns

    def chunks(self, like: Tensor, *channels: int) -> Iterator[tuple[int, list[Float[Tensor, "16 n c"]]]]:
        """Pairs of a first tile and buffers for the planes of the tiles from there on; the memory is reused."""
        size = max(1, min(max(256, CHUNK // sum(channels)), self.total))
        buffers = [like.new_empty(16, size, each) for each in channels]
        for first in range(0, self.total, size):
            yield first, [buffer[:, : self.total - first] for buffer in buffers]

    def transform_windows(self, x: Tensor, padding: int, planes: Float[Tensor, "16 n c"], first: int) -> None:
        """Transform the 4x4 input windows of some tiles."""
        self._call("windows", x, planes, first, padding=padding)

    def transform_tiles(self, x: Tensor, planes: Float[Tensor, "16 n c"], first: int) -> None:
        """Transform 2x2 tiles of an output map, for the weight's gradient."""
        self._call("tiles", x, planes, first)

    def write_pixels(self, y: Tensor, bias: Tensor | None, planes: Float[Tensor, "16 n c"], first: int) -> None:
        """Transform the planes of some tiles back and write the pixels into an output map."""
        self._call("pixels", y, planes, first, bias=None if bias is None else bias.data_ptr())

    def _call(self, function: str, map: Tensor, planes: Tensor, first: int, **options: Any) -> None:
        channels, height, width = map.shape[1:]
        image, _, row, column = map.stride()
        call = Call(height=height, width=width, channels=channels, **options)
        call.tile_rows, call.tile_columns = self.rows, self.columns
        call.first, call.count, call.threads = first, planes.shape[1], torch.get_num_threads()
        call.image, call.row, call.column, call.plane = image, row, column, planes.stride(0)
        call.map, call.planes = map.data_ptr(), planes.data_ptr()
        getattr(native.library(SOURCE), f"{function}_{_name(map.dtype)}")(ctypes.byref(call))


def transform_weight(weight: Float[Tensor, "o i 3 3"], adjoint: bool) -> Float[Tensor, "16 i o"]:
    """The planes of a weight; with `adjoint` those of the adjoint convolution: flipped, o and i exchanged."""
    g = weight.new_tensor(G)
    g = g.flip(1) if adjoint else g
    by_pixel = _channels_last(weight).permute(0, 2, 3, 1).flatten(1, 2)  # o 9 i
    planes = (torch.kron(g, g) @ by_pixel).transpose(0, 1)  # 16 o i
    return planes if adjoint else planes.transpose(1, 2)


cached_transform_weight = WeightCache(transform_weight)


def can_cache(weight: Tensor) -> bool:
    """Whether a weight's transform is small enough to be cached."""
    return weight.numel() // 9 * 16 * weight.element_size() <= budget()


def convolve(
    x: Float[Tensor, "b i h w"], weight: Tensor, bias: Tensor | None, padding: int, adjoint: bool
) -> Float[Tensor, "b o u v"]:
    """The convolution; with `adjoint` by the weight flipped by 180 degrees, from its o channels to its i."""
    transform = cached_transform_weight if can_cache(weight) else transform_weight
    x, planes = _channels_last(x), transform(weight, adjoint)
    height, width, channels = x.shape[2] + 2 * padding - 2, x.shape[3] + 2 * padding - 2, planes.shape[2]
    y = x.new_empty(x.shape[0], height, width, channels).permute(0, 3, 1, 2)
    tiles = Tiles(x.shape[0], height, width)
    bias = None if bias is None else bias.contiguous()
    for first, (windows, products) in tiles.chunks(x, x.shape[1], channels):
        tiles.transform_windows(x, padding, windows, first)
        tiles.write_pixels(y, bias, torch.bmm(windows, planes, out=products), first)
    return y


def weight_gradient(
    x: Float[Tensor, "b i h w"], gradient: Float[Tensor, "b o u v"], padding: int
) -> Float[Tensor, "o i 3 3"]:
    """The gradient of a convolution's weight from its input and the gradient of its output."""
    x, gradient = _channels_last(x), _channels_last(gradient)
    tiles = Tiles(x.shape[0], *gradient.shape[2:])
    planes = x.new_zeros(16, gradient.shape[1], x.shape[1])
    for first, (gradients, windows) in tiles.chunks(x, gradient.shape[1], x.shape[1]):
        tiles.transform_tiles(gradient, gradients, first)
        tiles.transform_windows(x, padding, windows, first)
        planes.baddbmm_(gradients.mT, windows)
    g = x.new_tensor(G)
    return (torch.kron(g, g).T @ planes.flatten(1)).view(3, 3, *planes.shape[1:]).permute(2, 3, 0, 1)


class Convolution(torch.autograd.Function):
    """`convolve`; its derivatives are convolutions again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, adjoint: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding, ctx.adjoint = padding, adjoint
        return convolve(x, weight, bias, padding, adjoint)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        dx = dweight = dbias = None
        if ctx.needs_input_grad[0]:
            dx = convolution(gradient, weight, None, 2 - ctx.padding, not ctx.adjoint)
        if ctx.needs_input_grad[1]:
            maps = (gradient, x, 2 - ctx.padding) if ctx.adjoint else (x, gradient, ctx.padding)
            dweight = correlation(*maps)
        if ctx.needs_input_grad[2]:
            dbias = gradient.sum((0, 2, 3))
        return dx, dweight, dbias, None, None


class Correlation(torch.autograd.Function):
    """`weight_gradient`, which is linear in both maps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gradient: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(x, gradient)
        ctx.padding = padding
        return weight_gradient(x, gradient, padding)

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> Any:
        x, gradient = ctx.saved_tensors
        dx = dgradient = None
        if ctx.needs_input_grad[0]:
            dx = convolution(gradient, weight, None, 2 - ctx.padding, True)
        if ctx.needs_input_grad[1]:
            dgradient = convolution(x, weight, None, ctx.padding, False)
        return dx, dgradient, None


convolution: Callable[..., Tensor] = Convolution.apply
correlation: Callable[..., Tensor] = Correlation.apply


class Winograd(Kernel):
    """3x3 kernels on CPUs with 2.25 times fewer multiplications; differentiable any number of times."""

    op, name, priority, second_order, compiles = "conv2d", "winograd", 10, True, True
    enable = native.ENABLE

    def unavailable(self) -> str | None:
        return native.unavailable(SOURCE)

    def unsupported(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
    ) -> list[str]:
        if torch.compiler.is_compiling():  # first: comparing sizes would fix a dynamic batch
            return ["torch.compile cannot trace a derivative that calls itself"]
        reasons = []
        if x.device.type != "cpu":
            reasons.append(f"runs on CPUs only, not on {x.device.type}")
        dtypes = {each.dtype for each in (x, weight, bias) if each is not None}
        if len(dtypes) > 1 or not dtypes <= {torch.float32, torch.float64} or torch.is_autocast_enabled("cpu"):
            reasons.append("computes in float32 or float64 only")
        if tuple(weight.shape[2:]) != (3, 3) or stride != 1 or padding > 2 or groups != 1:
            reasons.append("needs a 3x3 kernel with stride 1, one group and a padding of 2 at most")
        out_channels, in_channels = weight.shape[:2]
        lanes = VECTOR_BYTES // x.element_size()
        if in_channels % lanes or out_channels % lanes:
            reasons.append(f"needs multiples of {lanes} channels, not {in_channels} and {out_channels}")
        if in_channels + out_channels < 2 * FEWEST_CHANNELS:
            reasons.append(f"only pays off from {FEWEST_CHANNELS} channels on")
        height, width = x.shape[2] + 2 * padding - 2, x.shape[3] + 2 * padding - 2
        fewest = FEWEST_TILES // 2 if weights_are_frozen() and can_cache(weight) else FEWEST_TILES
        if min(height, width) < 1 or x.shape[0] * -(-height // 2) * -(-width // 2) < fewest:
            reasons.append(f"only pays off from {4 * fewest} pixels on")
        return reasons

    def run(
        self,
        x: Float[Tensor, "b i h w"],
        weight: Float[Tensor, "o i 3 3"],
        bias: Float[Tensor, " o"] | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
    ) -> Float[Tensor, "b o u v"]:
        return convolution(x, weight, bias, padding, False)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
