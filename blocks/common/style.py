"""From a style vector to the numbers that modulate a layer: a linear map, or a polynomial of second order.

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
    """s1 * s2 + s3 of three affine maps of w, all with a bias of 1 at the start, so that styles start around 2.

    Args:
        style_dim: Features S of w.
        dim: Channels to modulate.
    """

    def __init__(self, style_dim: int, dim: int) -> None:
        super().__init__()
        self.proj = EqualLinear(style_dim, 3 * dim, bias_init=1)

    def forward(self, w: Float[Tensor, "b s"]) -> Float[Tensor, "b c"]:
        proj = self.proj  # its scale goes onto w, far smaller than the weight
        first, second, third = F.linear(w * proj.scale, proj.weight, proj.bias).chunk(3, dim=-1)
        y: Tensor = first * second + third
        return y


def style_map(style_dim: int, dim: int, order: StyleOrder) -> EqualLinear | StylePolynomial:
    """What gives a layer its style: an affine map with bias 1 (order 1), or the polynomial (order 2)."""
    return StylePolynomial(style_dim, dim) if order == 2 else EqualLinear(style_dim, dim, bias_init=1)
