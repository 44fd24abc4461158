"""Convolutions over a row of tokens: the head that StyleGAN-T puts on each depth of a frozen vision transformer.

StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515, section 3.2; heads on several depths of a frozen
network: Projected GANs, Sauer et al. 2021, https://arxiv.org/abs/2111.01007.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.shapes import check_nchw
from blocks.families import Head, Norm, OddInt, Resolution, WeightNorm
from blocks.head.projection import Projection, to_logits
from blocks.weight_norm.apply import normalize_weights
from registry import Slot, incompatible


class TokenConvHead(Head, kind="token-conv"):
    """Two convolutions over the row of all tokens, the second one residual, and a logit for each token.

    A map is flattened in raster order, so a kernel spans the end of one row and the start of the next. The padding is
    circular. With a condition, a logit is the scalar product of the token's features and the condition's embedding.

    Args:
        dim: Channels C of the features.
        resolution: Height and width of the features; one row of tokens, or a map.
        cond_dim: Features of the condition c; 0 for no condition.
        kernel_size: Tokens that the second convolution covers.
        embed_dim: Features of the token and condition embeddings.
        norm: Follows both convolutions, before leaky ReLU of slope 0.2.
        weight_norm: Reparametrises the weights of the convolutions; None for none.

    Raises:
        IncompatibleError: The kernel covers the row more than twice.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"embed_dim": 6}},
        {"spec": {"kernel_size": 3, "norm": {"kind": "group-norm", "num_groups": 2}, "weight_norm": None}},
    )

    dead_parameters = ("conv1.bias", "conv2.bias")  # batch norm subtracts them; StyleGAN-T's code has them

    def __init__(
        self,
        dim: int,
        resolution: Resolution,
        cond_dim: int = 0,
        *,
        kernel_size: OddInt = 9,
        embed_dim: PositiveInt = 64,
        norm: Slot[Norm] = "batch-norm-local",
        weight_norm: Slot[WeightNorm] | None = "spectral-norm",
    ) -> None:
        super().__init__()
        tokens = resolution[0] * resolution[1]
        if kernel_size // 2 > tokens:
            fact = f"circular padding of {kernel_size // 2} needs at least as many tokens, and there are {tokens}"
            raise incompatible("kernel_size", f"{fact}; take {2 * tokens + 1} or less")
        self.padding = kernel_size // 2
        self.conv1 = nn.Conv1d(dim, dim, 1)
        self.norm1 = self.fill("norm", norm, dim=dim)
        self.conv2 = nn.Conv1d(dim, dim, kernel_size)
        self.norm2 = self.fill("norm", norm, dim=dim)
        self.out = nn.Conv1d(dim, embed_dim if cond_dim else 1, 1)
        self.projection = Projection(embed_dim, cond_dim) if cond_dim else None
        if weight_norm is not None:
            for conv in (self.conv1, self.conv2, self.out):
                normalize_weights(conv, weight_norm)

    def forward(self, x: Float[Tensor, "b c h w"], c: Float[Tensor, "b d"] | None = None) -> Float[Tensor, "b n"]:
        check_nchw(self, x, self.conv1.in_channels)
        x = self.activate(self.conv1(x.flatten(2)), self.norm1)
        padded = F.pad(x, (self.padding, self.padding), mode="circular") if self.padding else x
        x = (self.activate(self.conv2(padded), self.norm2) + x) / math.sqrt(2)
        y: Tensor = self.out(x)
        return to_logits(self, y.mT, c, self.projection)

    @staticmethod
    def activate(x: Float[Tensor, "b c n"], norm: nn.Module) -> Float[Tensor, "b c n"]:
        return F.leaky_relu(norm(x.mT[:, None])[:, 0].mT, 0.2)
