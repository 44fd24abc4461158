"""Window attention in which some heads have shifted windows, so that information crosses window borders.

Swin, Liu et al. 2021, https://arxiv.org/abs/2103.14030, section 3.2; half of the heads shifted ("double attention"):
StyleSwin, Zhang et al. 2021, https://arxiv.org/abs/2112.10762, section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from blocks.attention.dense import table_indices
from blocks.attention.heads import attention_map, head_problems, relative_position_table, split_heads
from blocks.attention.query_key import query_key
from blocks.common.linear import linear
from blocks.common.shapes import check_nhwc, check_resolution
from blocks.families import Attention, Resolution
from blocks.ops.attention import attention, relative_bias
from registry import IncompatibleError, Problem

Run = tuple[int, int, int]  # start, number of windows, length of each


class ShiftedWindowAttention(Attention, kind="shifted-window"):
    """Multi-head attention in windows that do not overlap; each partition of the heads shifts them differently.

    Windows are cut off at the border, which equals Swin's cyclic shift with a mask, so that maps of any size work that
    are no smaller than a window. If the heads do not divide evenly, the last partitions have one more. Swin itself has
    one partition, with `shift_sizes` [0] and [4] in alternating blocks.

    Args:
        dim: Channels C of the map; heads share them evenly.
        resolution: Height and width of the map, in pixels.
        num_heads: Total number of heads.
        window_size: Side of a window, in pixels.
        shift_sizes: Shift of each partition's windows down and to the right, in pixels.
        qkv_bias: Whether queries, keys and values have a bias.
        relative_position_bias: Whether each head learns a bias per relative position (rows and columns apart).
        qk_norm: Whether queries and keys are normalised (RMSNorm over a head, with a learned scale).
        rotary: Whether queries and keys are rotated by row and column (2-D rotary position embedding).
        scale: Factor of the logits q.k; null for head_dim ** -0.5.
        equalized: Whether the linear layers use equalised learning rate, as in the ViTGAN authors' code.
        kernel: Kernel of the attention op; "auto" takes the best one that supports each call, "tune" the fastest,
            measured once per machine.

    Raises:
        IncompatibleError: `dim` does not divide by `num_heads`, there are fewer heads than partitions, or a window
            does not fit the map.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"num_heads": 4, "window_size": 4, "shift_sizes": [0, 2]}},
        {
            "spec": {"num_heads": 4, "window_size": 3, "shift_sizes": [1, 2, 0], "qkv_bias": False, "scale": 1},
            "context": {"resolution": (7, 11)},
        },
        {
            "spec": {"num_heads": 2, "window_size": 5, "shift_sizes": [0], "equalized": True},
            "context": {"resolution": (5, 5)},
        },
        {"spec": {"num_heads": 2, "window_size": 4, "shift_sizes": [2], "relative_position_bias": False}},
        {"spec": {"num_heads": 2, "window_size": 4, "shift_sizes": [0, 2], "qk_norm": True, "rotary": True}},
    )

    def __init__(
        self,
        dim: int,
        resolution: Resolution,
        *,
        num_heads: PositiveInt = 8,
        window_size: PositiveInt = 8,
        shift_sizes: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0, 4),
        qkv_bias: bool = True,
        relative_position_bias: bool = True,
        qk_norm: bool = False,
        rotary: bool = False,
        scale: PositiveFloat | None = None,
        equalized: bool = False,
        kernel: str = "auto",
    ) -> None:
        super().__init__()
        problems = head_problems(dim, num_heads, len(shift_sizes))
        problems += _window_problems(resolution, window_size, shift_sizes)
        if problems:
            raise IncompatibleError(problems)
        self.dim, self.resolution = dim, resolution
        self.window_size, self.shift_sizes = window_size, shift_sizes
        self.heads = split_heads(num_heads, len(shift_sizes))
        self.scale = scale
        self.attend = attention.bind(kernel)
        self.qkv = linear(dim, 3 * dim, bias=qkv_bias, equalized=equalized)
        self.query_key = query_key(dim // num_heads, qk_norm=qk_norm, rotary=rotary)
        self.rpb = None
        if relative_position_bias:
            self.rpb = nn.ParameterList(relative_position_table(n, window_size, window_size) for n in self.heads)
        self.proj = linear(dim, dim, equalized=equalized)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        check_nhwc(self, x, self.dim)
        if min(x.shape[1:3]) < self.window_size:
            check_resolution(self, x.shape[1], x.shape[2], self.resolution)
        qkv = self.projected(x)
        tables = (None,) * len(self.heads) if self.rpb is None else tuple(self.rpb)
        parts = zip(torch.split(qkv, list(self.heads), dim=-2), self.shift_sizes, tables, strict=True)
        y: Tensor = self.proj(torch.cat([self.partition(*part) for part in parts], dim=-2).flatten(-2))
        return y

    def partition(
        self, qkv: Float[Tensor, "b h w 3 n d"], shift: int, table: Float[Tensor, "n i j"] | None
    ) -> Float[Tensor, "b h w n d"]:
        """Attention of one partition of the heads: one call for all windows of the same size, at most nine sizes."""
        rows, columns = (window_runs(length, self.window_size, shift) for length in qkv.shape[1:3])
        strips = []
        for row in rows:
            strip = [self.windows(_cut(_cut(qkv, 1, row), 3, column), table) for column in columns]
            strips.append(torch.cat(strip, dim=2))
        return torch.cat(strips, dim=1)

    def windows(
        self, qkv: Float[Tensor, "b r y c x 3 n d"], table: Float[Tensor, "n i j"] | None
    ) -> Float[Tensor, "b r*y c*x n d"]:
        """Attention in each of r x c windows of y x x pixels."""
        batch, r, height, c, width, _, heads, head_dim = qkv.shape
        q, k, v = qkv.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(3, batch * r * c, heads, height * width, head_dim)
        bias = None
        if table is not None:
            sides = (table_indices(side, table.shape[1], table.device) for side in (height, width))
            bias = relative_bias(table, *sides)
        attended = self.attend(q, k, v, bias=bias, scale=self.scale)
        attended = attended.view(batch, r, c, heads, height, width, head_dim)
        y: Tensor = attended.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, r * height, c * width, heads, head_dim)
        return y

    def pixels_of_calls(self, height: int, width: int) -> Iterator[Int[Tensor, "windows pixels"]]:
        """Pixel indices of each window in each call of the op, counted row by row, for attention maps."""
        grid = torch.arange(height * width).view(1, height, width)
        for shift in self.shift_sizes:
            rows, columns = (window_runs(length, self.window_size, shift) for length in (height, width))
            for row in rows:
                for column in columns:
                    cut = _cut(_cut(grid, 1, row), 3, column)  # 1 r y c x
                    yield cut.transpose(2, 3).flatten(0, 2).flatten(1)

    def attention_map(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b heads h w"]:
        """Logits of each head's mean query against each pixel's key, for visualisation."""
        return attention_map(self.projected(x), self.scale)

    def projected(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w 3 n d"]:
        """Queries, keys and values, normalised and rotated where the options say so."""
        qkv: Tensor = self.query_key(self.qkv(x).unflatten(-1, (3, sum(self.heads), -1)))
        return qkv


def window_runs(length: int, window_size: int, shift: int) -> list[Run]:
    """Splits an axis into runs of windows of equal length: the part before the shift, whole windows, the remainder."""
    whole, left = divmod(length - shift, window_size)
    runs = [(0, 1, shift), (shift, whole, window_size), (length - left, 1, left)]
    return [(start, count, size) for start, count, size in runs if count * size]


def _cut(x: Tensor, axis: int, run: Run) -> Tensor:
    """The windows of a run, with the axis split in two: window and pixel in it."""
    start, count, size = run
    return torch.unflatten(x.narrow(axis, start, count * size), axis, (count, size))


def _window_problems(resolution: Resolution, window_size: int, shift_sizes: tuple[int, ...]) -> list[Problem]:
    height, width = resolution
    if window_size > min(resolution):
        return [
            Problem(("window_size",), f"window {window_size} > {min(resolution)} px; at most {min(resolution)} fits")
        ]
    problems = []
    for index, shift in enumerate(shift_sizes):
        if shift >= window_size:
            message = f"shift {shift} is not smaller than window {window_size}; take {shift % window_size}"
            problems.append(Problem(("shift_sizes", index), message))
        elif shift and height == width == window_size:
            message = f"one window covers the whole map of {height}x{width}, so a shift has no effect; take 0"
            problems.append(Problem(("shift_sizes", index), message))
    return problems
