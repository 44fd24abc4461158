"""Hydra neighborhood attention: each partition of the heads has its own window size and dilation.

StyleNAT, Walton et al. 2022, https://arxiv.org/abs/2211.05770, section 3.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from blocks.attention.heads import attention_map, head_problems, relative_position_table, split_heads
from blocks.attention.query_key import query_key
from blocks.common.linear import linear
from blocks.common.shapes import check_nhwc
from blocks.families import Attention, OddInt, Resolution
from blocks.ops.neighborhood_attention import neighborhood_attention
from registry import IncompatibleError, Problem


class HydraNA(Attention, kind="hydra-na"):
    """Multi-head neighborhood attention; each partition of the heads has its own window and dilation.

    The longer of `kernel_sizes` and `dilations` sets the number of partitions; a single value in the other is used for
    all partitions. If the heads do not divide evenly, the last partitions have one more.

    Args:
        dim: Channels C of the map; heads share them evenly.
        resolution: Height and width of the map, in pixels.
        num_heads: Total number of heads.
        kernel_sizes: Side of each partition's window, in attended pixels.
        dilations: Step between attended pixels, one per partition.
        qkv_bias: Whether queries, keys and values have a bias.
        relative_position_bias: Whether each head learns a bias per relative position in its window.
        qk_norm: Whether queries and keys are normalised (RMSNorm over a head, with a learned scale).
        rotary: Whether queries and keys are rotated by row and column (2-D rotary position embedding).
        scale: Factor of the logits q.k; null for head_dim ** -0.5.
        equalized: Whether the linear layers use equalised learning rate, as in the ViTGAN authors' code.
        kernel: Kernel of the neighborhood_attention op; "auto" takes the best one that supports each call, "tune"
            the fastest, measured once per machine.

    Raises:
        IncompatibleError: `dim` does not divide by `num_heads`, there are fewer heads than partitions, or a window
            exceeds the map.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"num_heads": 4, "kernel_sizes": [3, 5], "dilations": [1, 1]}},
        {"spec": {"num_heads": 4, "kernel_sizes": [3], "dilations": [1, 1, 1], "qkv_bias": False}},
        {"spec": {"num_heads": 2, "kernel_sizes": [3], "dilations": [1], "relative_position_bias": False, "scale": 1}},
        {"spec": {"num_heads": 2, "kernel_sizes": [3], "dilations": [1], "equalized": True}},
        {
            "spec": {"num_heads": 4, "kernel_sizes": [3, 5], "dilations": [1, 1], "relative_position_bias": False}
            | {"qk_norm": True, "rotary": True}
        },
        {"spec": {"num_heads": 4}, "context": {"dim": 8, "resolution": (29, 28)}},
    )

    def __init__(
        self,
        dim: int,
        resolution: Resolution,
        *,
        num_heads: PositiveInt = 8,
        kernel_sizes: Annotated[tuple[OddInt, ...], Field(min_length=1)] = (7, 7),
        dilations: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1, 4),
        qkv_bias: bool = True,
        relative_position_bias: bool = True,
        qk_norm: bool = False,
        rotary: bool = False,
        scale: PositiveFloat | None = None,
        equalized: bool = False,
        kernel: str = "auto",
    ) -> None:
        super().__init__()
        num_partitions = max(len(kernel_sizes), len(dilations))
        problems = head_problems(dim, num_heads, num_partitions)
        problems += _window_problems(resolution, kernel_sizes, dilations)
        if problems:
            raise IncompatibleError(problems)
        self.dim = dim
        self.windows = tuple(zip(*_broadcast(kernel_sizes, dilations), strict=True))
        self.heads = split_heads(num_heads, num_partitions)
        self.scale = scale
        self.attend = neighborhood_attention.bind(kernel)
        self.qkv = linear(dim, 3 * dim, bias=qkv_bias, equalized=equalized)
        self.query_key = query_key(dim // num_heads, qk_norm=qk_norm, rotary=rotary)
        self.rpb = None
        if relative_position_bias:
            sizes = zip(self.heads, self.windows, strict=True)
            self.rpb = nn.ParameterList(relative_position_table(heads, size, size) for heads, (size, _) in sizes)
        self.proj = linear(dim, dim, equalized=equalized)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        check_nhwc(self, x, self.dim)
        qkv = self.projected(x)
        tables = (None,) * len(self.heads) if self.rpb is None else tuple(self.rpb)
        attended = []
        for partition, (size, step), table in zip(
            torch.split(qkv, list(self.heads), dim=-2), self.windows, tables, strict=True
        ):
            q, k, v = partition.unbind(dim=-3)
            attended.append(self.attend(q, k, v, kernel_size=size, dilation=step, bias=table, scale=self.scale))
        y: Tensor = self.proj(torch.cat(attended, dim=-2).flatten(-2))
        return y

    def attention_map(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b heads h w"]:
        """Logits of each head's mean query against each pixel's key, for visualisation."""
        return attention_map(self.projected(x), self.scale)

    def projected(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w 3 n d"]:
        """Queries, keys and values, normalised and rotated where the options say so."""
        qkv: Tensor = self.query_key(self.qkv(x).unflatten(-1, (3, sum(self.heads), -1)))
        return qkv


def _window_problems(
    resolution: Resolution, kernel_sizes: tuple[int, ...], dilations: tuple[int, ...]
) -> list[Problem]:
    sizes, steps = _broadcast(kernel_sizes, dilations)
    if len(sizes) != len(steps):
        counts = f"{len(steps)} dilations for {len(sizes)} kernel sizes"
        return [Problem(("dilations",), f"{counts}; give one for each window, or one for all")]
    side = min(resolution)
    problems = []
    for index, (size, step) in enumerate(zip(sizes, steps, strict=True)):
        if size > side:
            message = f"window {size} > {side} px; at most {side - 1 + side % 2} fits"
            problems.append(Problem(("kernel_sizes", index % len(kernel_sizes)), message))
        elif size * step > side:
            message = f"{step} x window {size} > {side} px; at most {side // size} fits"
            problems.append(Problem(("dilations", index % len(dilations)), message))
    return list(dict.fromkeys(problems))  # a value used for several windows is reported once


def _broadcast(*lists: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    longest = max(map(len, lists))
    return tuple(values * longest if len(values) == 1 else values for values in lists)
