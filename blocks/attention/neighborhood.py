"""Neighborhood attention: all heads see the same window.

NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143, section 3; dilated: DiNAT, https://arxiv.org/abs/2209.15001.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import PositiveFloat, PositiveInt

from blocks.attention.hydra import HydraNA
from blocks.families import OddInt, Resolution
from registry import IncompatibleError, Problem
from registry.errors import Path


class NeighborhoodAttention(HydraNA, kind="na"):
    """Multi-head neighborhood attention: each pixel attends to a window around it.

    Args:
        dim: Channels C of the map; heads share them evenly.
        resolution: Height and width of the map, in pixels.
        num_heads: Number of heads.
        kernel_size: Side of the window, counted in attended pixels.
        dilation: Step between the attended pixels.
        qkv_bias: Whether queries, keys and values have a bias.
        relative_position_bias: Whether each head learns a bias for each position in its window.
        scale: What queries are multiplied by; null for head_dim ** -0.5.
        equalized: Whether the linear maps have equalised learning rate, as in the ViTGAN authors' code.
        kernel: Kernel of neighborhood_attention; "auto" takes the best that can serve each call, "tune" the quickest,
            measured once for this machine and remembered.

    Raises:
        IncompatibleError: Channels do not divide over the heads, or the window exceeds the map.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"num_heads": 4, "kernel_size": 5}},
        {"spec": {"num_heads": 2, "kernel_size": 3, "dilation": 2}, "context": {"resolution": (7, 6)}},
    )

    def __init__(
        self,
        dim: int,
        resolution: Resolution,
        *,
        num_heads: PositiveInt = 8,
        kernel_size: OddInt = 7,
        dilation: PositiveInt = 1,
        qkv_bias: bool = True,
        relative_position_bias: bool = True,
        scale: PositiveFloat | None = None,
        equalized: bool = False,
        kernel: str = "auto",
    ) -> None:
        try:
            super().__init__(
                dim,
                resolution,
                num_heads=num_heads,
                kernel_sizes=(kernel_size,),
                dilations=(dilation,),
                qkv_bias=qkv_bias,
                relative_position_bias=relative_position_bias,
                scale=scale,
                equalized=equalized,
                kernel=kernel,
            )
        except IncompatibleError as error:  # the one window's options have names of their own here
            single: dict[Path, Path] = {("kernel_sizes", 0): ("kernel_size",), ("dilations", 0): ("dilation",)}
            raise IncompatibleError([Problem(single.get(path, path), said) for path, said in error.problems]) from None
