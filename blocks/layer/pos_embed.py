"""A learned position embedding.

ViT, Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929, section 3.1; one per resolution of a generator:
Styleformer, Park and Kim 2021, https://arxiv.org/abs/2106.07023.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from blocks.common.shapes import check_nchw, check_resolution
from blocks.families import Layer, Resolution, to_nchw


class PosEmbed(Layer, kind="pos-embed"):
    """Adds a learned vector per pixel, the same for all images.

    Args:
        dim: Channels C of the map.
        resolution: Height and width of the map, in pixels.
        init_std: Initial standard deviation of the vectors; 0 in Styleformer, 0.02 in ViT.
    """

    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"init_std": 0.02}},)

    def __init__(self, dim: int, resolution: Resolution, *, init_std: Annotated[float, Field(ge=0)] = 0.0) -> None:
        super().__init__()
        self.resolution = resolution
        self.value = nn.Parameter(init_std * torch.randn(*resolution, dim))

    def forward(
        self, x: Float[Tensor, "b c h w"], ws: Float[Tensor, "b n s"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        check_nchw(self, x, self.value.shape[2])
        check_resolution(self, x.shape[2], x.shape[3], self.resolution)
        return x + to_nchw(self.value[None]).to(x.dtype)
