"""GAT's head: the class token's logit is its scalar product with an embedding of the class, and nothing else.

GAT, https://arxiv.org/abs/2509.24935; projection: Miyato and Koyama 2018, https://arxiv.org/abs/1802.05637.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.linear import SlowLinear, linear
from blocks.common.shapes import check_condition, check_nchw, check_resolution
from blocks.families import Head, Resolution
from blocks.norm.rms_norm import RMSNorm
from registry import incompatible


class ClassProjection(Head, kind="class-projection"):
    """<W norm(first token), v(c)>, v(c) = L2 silu(L1 E c), of the first token of a one-row map.

    norm is RMSNorm with a gain, E a linear map without bias, L1 and L2 linear layers that learn slowly. The scalar
    product is not scaled. Without a condition W has one output, the logit.

    Args:
        dim: Features D of a token.
        resolution: Height and width of the features: one row of tokens, the class token first.
        cond_dim: Features of the condition c; 0 for no condition.
        embed_dim: Features of the scalar product and of v's layers.
        lr_multiplier: Factor of the weights of L1 and L2.
        eps: Added to the mean square in the norm.

    Raises:
        IncompatibleError: The features are not one row.
    """

    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"embed_dim": 6}, "context": {"resolution": (1, 5)}},)

    def __init__(
        self,
        dim: int,
        resolution: Resolution,
        cond_dim: int = 0,
        *,
        embed_dim: PositiveInt = 2048,
        lr_multiplier: PositiveFloat = 0.01,
        eps: Annotated[float, Field(gt=0)] = 1e-6,
    ) -> None:
        super().__init__()
        if resolution[0] != 1:
            fact = f"class-projection needs one row of tokens, but the features are {resolution[0]}x{resolution[1]}"
            raise incompatible((), f"{fact}; use noised-levels, or overlapping-patches with class_token: true")
        self.dim, self.cond_dim = dim, cond_dim
        self.norm = RMSNorm(dim, eps=eps)
        self.out: nn.Module = linear(dim, embed_dim if cond_dim else 1, init="xavier-uniform")
        self.embed: nn.Linear | None = None
        if cond_dim:
            self.embed = nn.Linear(cond_dim, embed_dim, bias=False)
            nn.init.normal_(self.embed.weight, std=0.02)
            self.layer1, self.layer2 = (SlowLinear(embed_dim, embed_dim, lr_multiplier=lr_multiplier) for _ in range(2))

    def forward(self, x: Float[Tensor, "b c 1 n"], c: Float[Tensor, "b d"] | None = None) -> Float[Tensor, "b 1"]:
        check_nchw(self, x, self.dim)
        check_resolution(self, x.shape[2], x.shape[3], (1, x.shape[3]))  # one row of any number of tokens
        check_condition(self, c, self.cond_dim, x)
        features: Tensor = self.out(self.norm(x[:, :, 0, 0][:, None, None])[:, 0, 0])
        return features if c is None else (features * self.embedded(c)).sum(dim=1, keepdim=True)

    def embedded(self, c: Float[Tensor, "b d"]) -> Float[Tensor, "b e"]:
        """v(c)."""
        assert self.embed is not None
        embedded: Tensor = self.layer2(F.silu(self.layer1(self.embed(c))))
        return embedded
