"""A three-layer network from the tokens of a discriminator to the features of a pretrained vision transformer.

REPA, Yu et al. 2024, https://arxiv.org/abs/2410.06940, section 3.2; on the last tokens of a discriminator: GAT,
https://arxiv.org/abs/2509.24935.
"""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from blocks.common.linear import linear
from blocks.common.shapes import check_nchw, check_resolution
from blocks.families import Projector, Resolution, to_nhwc
from registry import incompatible


class TokenProjector(Projector, kind="token-projector"):
    """Linear, SiLU, linear, SiLU, linear, for each token of a one-row map: x [B,D,1,1+N] -> [B,1+N,F].

    The first token is the class token. The discriminator's logits do not depend on the projector.

    Args:
        in_dim: Features D of a token.
        resolution: Height and width of the features: one row of tokens, the class token first.
        dim: Features F of the network that the tokens are aligned with; 768 for DINOv2 ViT-B.
        projector_dim: Features of the hidden layers.

    Raises:
        IncompatibleError: The features are not one row.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"dim": 6, "projector_dim": 10}, "context": {"resolution": (1, 5)}},
    )

    def __init__(
        self, in_dim: int, resolution: Resolution, *, dim: PositiveInt, projector_dim: PositiveInt = 2048
    ) -> None:
        super().__init__()
        if resolution[0] != 1:
            fact = f"token-projector needs one row of tokens, but the features are {resolution[0]}x{resolution[1]}"
            raise incompatible((), f"{fact}; use noised-levels, or overlapping-patches with class_token: true")
        self.in_dim = in_dim
        self.layers = nn.Sequential(
            linear(in_dim, projector_dim, init="xavier-uniform"),
            nn.SiLU(),
            linear(projector_dim, projector_dim, init="xavier-uniform"),
            nn.SiLU(),
            linear(projector_dim, dim, init="xavier-uniform"),
        )

    def forward(self, x: Float[Tensor, "b c 1 n"]) -> Float[Tensor, "b n f"]:
        check_nchw(self, x, self.in_dim)
        check_resolution(self, x.shape[2], x.shape[3], (1, x.shape[3]))  # one row of any number of tokens
        tokens: Tensor = self.layers(to_nhwc(x)[:, 0])
        return tokens
