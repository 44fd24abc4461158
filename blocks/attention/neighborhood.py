"""Neighborhood attention: each pixel attends to a window around it, the same for all heads.

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
    """Multi-head neighborhood attention: each pixel attends to a window around it; HydraNA with one partition.

    Args:
        dim: Channels C of the map; heads share them evenly.
        resolution: Height and width of the map, in pixels.
        num_heads: Number of heads.
        kernel_size: Side of the window, in attended pixels.
        dilation: Step between attended pixels.
        qkv_bias: Whether queries, keys and values have a bias.
        relative_position_bias: Whether each head learns a bias per relative position in its window.
        qk_norm: Whether queries and keys are normalised (RMSNorm over a head, with a learned scale).
        rotary: Whether queries and keys are rotated by row and column (2-D rotary position embedding).
        scale: Factor of the logits q.k; null for head_dim ** -0.5.
        equalized: Whether the linear layers use equalised learning rate, as in the ViTGAN authors' code.
        kernel: Kernel of the neighborhood_attention op; "auto" takes the best one that supports each call, "tune"
            the fastest, measured once per machine.

    Raises:
        IncompatibleError: `dim` does not divide by `num_heads`, or the window exceeds the map.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"num_heads": 4, "kernel_size": 5}},
        {"spec": {"num_heads": 2, "kernel_size": 3, "qk_norm": True, "rotary": True}},
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
        qk_norm: bool = False,
        rotary: bool = False,
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
                qk_norm=qk_norm,
                rotary=rotary,
                scale=scale,
                equalized=equalized,
                kernel=kernel,
            )
        except IncompatibleError as error:  # report this block's option names instead of HydraNA's
            renamed: dict[Path, Path] = {("kernel_sizes", 0): ("kernel_size",), ("dilations", 0): ("dilation",)}
            problems = [Problem(renamed.get(path, path), message) for path, message in error.problems]
            raise IncompatibleError(problems) from None
