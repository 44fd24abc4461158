"""Attention of several kinds in one layer, each on its own heads.

The heads of StyleSwin, Zhang et al. 2021, https://arxiv.org/abs/2112.10762, section 3.2, and of StyleNAT, Walton et al.
2022, https://arxiv.org/abs/2211.05770, section 3, differ in windows; here they differ in the kind of attention too.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from blocks.common.divisors import nearest_divisors
from blocks.common.linear import linear
from blocks.common.shapes import check_nhwc
from blocks.families import Attention, Resolution
from registry import Slot, incompatible


class MixedHeads(Attention, kind="mixed-heads"):
    """W2 [part_1(h_1); ...; part_n(h_n)], [h_1; ...; h_n] = W1 x; each part has an equal share of the channels.

    Args:
        dim: Channels C of the map.
        resolution: Height and width of the map, in pixels.
        parts: The kinds of attention; the heads of each have its share of the channels.

    Raises:
        IncompatibleError: `dim` does not divide over the parts.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {
            "spec": {
                "parts": [
                    {"kind": "hydra-na", "num_heads": 2, "kernel_sizes": [3], "dilations": [1, 1]},
                    {"kind": "dense", "num_heads": 1},
                ]
            },
            "context": {"dim": 16},
        },
    )

    def __init__(
        self,
        dim: int,
        resolution: Resolution,
        *,
        parts: Annotated[tuple[Slot[Attention], ...], Field(min_length=2, max_length=16)],
    ) -> None:
        super().__init__()
        if dim % len(parts):
            fact = f"{dim} channels do not split evenly over {len(parts)} parts"
            raise incompatible("parts", f"{fact}; take {nearest_divisors(dim, len(parts))}")
        self.dim, share = dim, dim // len(parts)
        self.in_proj = linear(dim, dim)
        self.parts = nn.ModuleList(
            self.fill(f"parts.{index}", part, dim=share, resolution=resolution) for index, part in enumerate(parts)
        )
        self.out_proj = linear(dim, dim)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        check_nhwc(self, x, self.dim)
        shares = self.in_proj(x).chunk(len(self.parts), dim=-1)
        y: Tensor = self.out_proj(torch.cat([part(h) for part, h in zip(self.parts, shares, strict=True)], dim=-1))
        return y
