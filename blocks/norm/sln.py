"""Self-modulated LayerNorm (SLN): LayerNorm whose gain and bias are computed from the style.

ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589, section 3.3; after Chen et al. 2019, https://arxiv.org/abs/1810.01365.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from blocks.common.equalized import EqualLinear
from blocks.common.shapes import check_nhwc, check_style
from blocks.families import Norm


class SelfModulatedLayerNorm(Norm, kind="sln"):
    """Self-modulated LayerNorm: gamma(w) * (x - mean) / std + beta(w), mean and std over the channels of each pixel.

    The defaults are the form in the paper. The authors' code has `gain_init` 1 and `eps` 1e-3; the best-known
    re-implementation has `affine` true, `bias` false and `eps` 1e-5.

    Args:
        dim: Channels C of the map.
        style_dim: Features S of the style.
        gain_init: Constant added to gamma(w): 0 in the paper, 1 in the authors' code.
        bias: Whether gamma and beta are affine in w; otherwise they are linear.
        affine: Whether the inner LayerNorm has its own learned gain and bias.
        eps: Added to the variance.
    """

    num_styles = 1
    examples: ClassVar = (
        {"spec": {"gain_init": 1.0, "eps": 1e-3}},
        {"spec": {"bias": False, "affine": True, "eps": 1e-5}},
    )

    def __init__(
        self,
        dim: int,
        style_dim: int,
        *,
        gain_init: float = 0.0,
        bias: bool = True,
        affine: bool = False,
        eps: Annotated[float, Field(gt=0)] = 1e-6,
    ) -> None:
        super().__init__()
        self.dim, self.style_dim, self.gain_init = dim, style_dim, gain_init
        self.norm = nn.LayerNorm(dim, eps=eps, elementwise_affine=affine)
        self.gamma = EqualLinear(style_dim, dim, bias_init=0.0 if bias else None)
        self.beta = EqualLinear(style_dim, dim, bias_init=0.0 if bias else None)

    def forward(self, x: Float[Tensor, "b h w c"], w: Float[Tensor, "b s"] | None = None) -> Float[Tensor, "b h w c"]:
        check_nhwc(self, x, self.dim)
        w = check_style(self, w, self.style_dim, x)
        normalized: Tensor = self.norm(x)
        gain: Tensor = self.gamma(w) + self.gain_init
        bias: Tensor = self.beta(w)
        return gain[:, None, None] * normalized + bias[:, None, None]
