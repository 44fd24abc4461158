"""3x3 convolution in 16 products for 4 pixels instead of 36.

Lavin & Gray 2015, https://arxiv.org/abs/1509.09308, section 4.1, F(2x2, 3x3); it rounds as a plain convolution does.

Windows of 4x4 pixels, weights and results each have a transform in which the convolution of a tile is a product entry
by entry. Over all tiles and channels an entry is a matrix product, and there are sixteen. The transforms of maps are in
`winograd.cpp`; those of weights are matrix products too.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.common.weight_cache import WeightCache, weights_are_frozen
from blocks.ops import native
from registry import Kernel

SOURCE = Path(__file__).with_suffix(".cpp")
VECTOR = 64  # bytes
FEWEST_TILES = 128  # below, the weight's transform costs more than it saves; half of that where it is there already
FEWEST_CHANNELS = 48  # on average: below, the transforms of the maps do
LARGEST_KEPT = 2**26  # bytes of a weight's transform that are kept for the next call, of weights that last
CHUNK = 2**17  # pairs of a tile and a channel at a time, about what a cache holds of planes
G = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))


class Call(ctypes.Structure):
    """What the compiled functions are told, as in `winograd.cpp`."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("height", "width", "channels", "rows", "columns", "padding")),
        *((name, ctypes.c_int64) for name in ("first", "count", "image", "row", "column", "plane", "threads")),
        *((name, ctypes.c_void_p) for name in ("map", "planes", "bias")),
    ]


class Tiles:
    """The tiles of 2x2 pixels that a result consists of, and the way between maps and planes of their transforms."""

    def __init__(self, batch: int, height: int, width: int) -> None:
        self.rows, self.columns = -(-height // 2), -(-width // 2)
        self.total = batch * self.rows * self.columns

    def chunks(self, like: Tensor, *channels: int) -> Iterator[tuple[int, list[Float[Tensor, "16 n c"]]]]:
        """A first tile and room for the planes of it and the next ones, again and again in the same memory."""
        most = min(max(256, CHUNK // sum(channels)), self.total)
        rooms = [like.new_empty(16, most, each) for each in channels]
        for first in range(0, self.total, most):
            yield first, [room[:, : self.total - first] for room in rooms]

    def windows(self, x: Tensor, padding: int, planes: Float[Tensor, "16 n c"], first: int) -> None:
        """The transforms of what some tiles see of a map."""
        self._call("windows", x, planes, first, padding=padding)

    def tiles(self, x: Tensor, planes: Float[Tensor, "16 n c"], first: int) -> None:
        """The transforms of some tiles of a map, for the weight's gradient."""
        self._call("tiles", x, planes, first)

    def write(self, y: Tensor, bias: Tensor | None, planes: Float[Tensor, "16 n c"], first: int) -> None:
        """The pixels of some tiles, from their transforms to their places in a map."""
        self._call("pixels", y, planes, first, bias=None if bias is None else bias.data_ptr())

    def _call(self, function: str, map: Tensor, planes: Tensor, first: int, **more: Any) -> None:
        channels, height, width = map.shape[1:]
        image, _, row, column = map.stride()
        call = Call(height=height, width=width, channels=channels, rows=self.rows, columns=self.columns, **more)
        call.first, call.count, call.threads = first, planes.shape[1], torch.get_num_threads()
        call.image, call.row, call.column, call.plane = image, row, column, planes.stride(0)
        call.map, call.planes = map.data_ptr(), planes.data_ptr()
        getattr(native.library(SOURCE), f"{function}_{_name(map.dtype)}")(ctypes.byref(call))


def _planes_of_weight(weight: Float[Tensor, "o i 3 3"], turned: bool) -> Float[Tensor, "16 i o"]:
    """The transform of a weight; `turned`: of the one that the convolution's adjoint has, o and i changing places."""
    once = weight.new_tensor(G)
    once = once.flip(1) if turned else once
    by_pixel = _channels_last(weight).permute(0, 2, 3, 1).flatten(1, 2)  # o 9 i
    planes = (torch.kron(once, once) @ by_pixel).transpose(0, 1)  # 16 o i
    return planes if turned else planes.transpose(1, 2)


kept_planes_of_weight = WeightCache(_planes_of_weight)


def keeps(weight: Tensor) -> bool:
    """Whether a weight's transform is small enough to be kept beside it."""
    return weight.numel() // 9 * 16 * weight.element_size() <= LARGEST_KEPT


def convolved(
    x: Float[Tensor, "b i h w"], weight: Tensor, bias: Tensor | None, padding: int, turned: bool
) -> Float[Tensor, "b o u v"]:
    """The convolution; `turned`: by the weight with its kernels turned by 180 degrees, from its o channels to its i."""
    x, planes = _channels_last(x), (kept_planes_of_weight if keeps(weight) else _planes_of_weight)(weight, turned)
    height, width, channels = x.shape[2] + 2 * padding - 2, x.shape[3] + 2 * padding - 2, planes.shape[2]
    y = x.new_empty(len(x), height, width, channels).permute(0, 3, 1, 2)
    tiles = Tiles(len(x), height, width)
    bias = None if bias is None else bias.contiguous()
    for first, (seen, made) in tiles.chunks(x, x.shape[1], channels):
        tiles.windows(x, padding, seen, first)
        tiles.write(y, bias, torch.bmm(seen, planes, out=made), first)
    return y


def correlated(
    x: Float[Tensor, "b i h w"], gradient: Float[Tensor, "b o u v"], padding: int
) -> Float[Tensor, "o i 3 3"]:
    """The gradient of a convolution's weight, by the map and the gradient of what came of it."""
    x, gradient = _channels_last(x), _channels_last(gradient)
    tiles = Tiles(len(x), *gradient.shape[2:])
    planes = x.new_zeros(16, gradient.shape[1], x.shape[1])
    for first, (wanted, seen) in tiles.chunks(x, gradient.shape[1], x.shape[1]):
        tiles.tiles(gradient, wanted, first)
        tiles.windows(x, padding, seen, first)
        planes.baddbmm_(wanted.mT, seen)
    once = x.new_tensor(G)
    return (torch.kron(once, once).T @ planes.flatten(1)).view(3, 3, *planes.shape[1:]).permute(2, 3, 0, 1)


class Convolution(torch.autograd.Function):
    """`convolved`; its derivatives are convolutions again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, turned: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding, ctx.turned = padding, turned
        return convolved(x, weight, bias, padding, turned)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = convolution(gradient, weight, None, 2 - ctx.padding, not ctx.turned)
        if ctx.needs_input_grad[1]:
            maps = (gradient, x, 2 - ctx.padding) if ctx.turned else (x, gradient, ctx.padding)
            of_weight = correlation(*maps)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum((0, 2, 3))
        return of_x, of_weight, of_bias, None, None


class Correlation(torch.autograd.Function):
    """`correlated`; it is linear in both maps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gradient: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(x, gradient)
        ctx.padding = padding
        return correlated(x, gradient, padding)

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> Any:
        x, gradient = ctx.saved_tensors
        of_x = of_gradient = None
        if ctx.needs_input_grad[0]:
            of_x = convolution(gradient, weight, None, 2 - ctx.padding, True)
        if ctx.needs_input_grad[1]:
            of_gradient = convolution(x, weight, None, ctx.padding, False)
        return of_x, of_gradient, None


convolution: Callable[..., Tensor] = Convolution.apply
correlation: Callable[..., Tensor] = Correlation.apply


class Winograd(Kernel):
    """3x3 kernels on processors with 2.25 times fewer products, twice differentiable; compiled when first wanted."""

    op, name, priority, second_order = "conv2d", "winograd", 10, True
    enable = native.ENABLE

    def unavailable(self) -> str | None:
        return native.why_not(SOURCE)

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
        reasons = []
        if x.device.type != "cpu":
            reasons.append(f"it runs on the processor, not on {x.device.type}")
        dtypes = {each.dtype for each in (x, weight, bias) if each is not None}
        if len(dtypes) > 1 or not dtypes <= {torch.float32, torch.float64} or torch.is_autocast_enabled("cpu"):
            reasons.append("it computes in float32 and float64 only")
        if tuple(weight.shape[2:]) != (3, 3) or stride != 1 or padding > 2 or groups != 1:
            reasons.append("its kernels are 3x3, step by one pixel and see all channels, with 2 zeros around at most")
        out_channels, in_channels = weight.shape[:2]
        lanes = VECTOR // x.element_size()
        if in_channels % lanes or out_channels % lanes:
            reasons.append(f"it takes channels by {lanes}, not {in_channels} and {out_channels}")
        if in_channels + out_channels < 2 * FEWEST_CHANNELS:
            reasons.append(f"pays from {FEWEST_CHANNELS} channels on")
        height, width = x.shape[2] + 2 * padding - 2, x.shape[3] + 2 * padding - 2
        few = FEWEST_TILES // 2 if weights_are_frozen() and keeps(weight) else FEWEST_TILES
        if min(height, width) < 1 or len(x) * -(-height // 2) * -(-width // 2) < few:
            reasons.append(f"pays from {4 * few} pixels on")
        if torch.compiler.is_compiling():
            reasons.append("a derivative that contains itself cannot be traced")
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
