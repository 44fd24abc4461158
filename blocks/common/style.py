"""Maps from a style vector to the channel scales of a modulated layer: affine, or a polynomial of second order.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958, section 2.2; the polynomial: StyleGAN-T, Sauer et al.
2023, https://arxiv.org/abs/2301.09515, section 3.1 and equation 1.
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.equalized import EqualLinear

StyleOrder = Literal[1, 2]


class StylePolynomial(nn.Module):
    """s1 * s2 + s3, three affine maps of w whose biases are 1 at init, so that the result is around 2.

    Args:
        style_dim: Features S of w.
        dim: Channels to modulate.
    """

    def __init__(self, style_dim: int, dim: int) -> None:
        super().__init__()
        self.proj = EqualLinear(style_dim, 3 * dim, bias_init=1)

    def forward(self, w: Float[Tensor, "b s"]) -> Float[Tensor, "b c"]:
        proj = self.proj  # scale w instead of the much larger weight
        first, second, third = F.linear(w * proj.scale, proj.weight, proj.bias).chunk(3, dim=-1)
        y: Tensor = first * second + third
        return y


def style_map(style_dim: int, dim: int, order: StyleOrder) -> EqualLinear | StylePolynomial:
    """The map from w to a layer's style: affine with bias 1 at init (order 1), or `StylePolynomial` (order 2)."""
    return StylePolynomial(style_dim, dim) if order == 2 else EqualLinear(style_dim, dim, bias_init=1)
