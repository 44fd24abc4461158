"""RMSNorm: scales the features of each pixel to unit root mean square, with a learned gain.

Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467, section 3.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.shapes import check_nhwc
from blocks.families import Norm


class RMSNorm(Norm, kind="rms-norm"):
    """RMSNorm: gain * x / sqrt(mean(x^2) + eps), the mean over the channels of each pixel.

    Args:
        dim: Channels C of the map.
        eps: Added to the mean square.
        affine: Whether there is a learned gain per channel.
    """

    examples: ClassVar[tuple[Any, ...]] = ({"spec": {}}, {"spec": {"affine": False}})

    def __init__(self, dim: int, *, eps: Annotated[float, Field(gt=0)] = 1e-6, affine: bool = True) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps
        self.weight = nn.Parameter(torch.ones(dim)) if affine else None

    def forward(self, x: Float[Tensor, "b h w c"], w: Float[Tensor, "b s"] | None = None) -> Float[Tensor, "b h w c"]:
        check_nhwc(self, x, self.dim)
        return F.rms_norm(x, (self.dim,), self.weight, self.eps)
