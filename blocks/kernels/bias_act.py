"""Bias, activation, gain and clamp in one: what follows each convolution of the StyleGAN family.

The order and the default gains follow StyleGAN2-ADA, Karras et al. 2020, https://arxiv.org/abs/2006.06676.
"""

from __future__ import annotations

import math
from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.equalized import GAIN, SLOPE
from registry import Kernel, Op

Activation = Literal["linear", "lrelu", "relu", "swish"]
GAINS: dict[str, float] = GAIN | {"relu": math.sqrt(2), "swish": math.sqrt(2)}


class Reference(Kernel):
    """The four steps one after the other."""

    op, name, second_order = "bias_act", "reference", True

    def run(
        self,
        x: Float[Tensor, "*shape"],
        bias: Float[Tensor, " c"] | None = None,
        *,
        activation: Activation = "linear",
        slope: float = SLOPE,
        gain: float | None = None,
        clamp: float | None = None,
        dim: int = 1,
    ) -> Float[Tensor, "*shape"]:
        """Add a bias of each channel and bend.

        Args:
            x: Any shape with channels on axis `dim`.
            bias: One number per channel.
            activation: "lrelu" is leaky ReLU of slope `slope`; "swish" is x sigmoid(x).
            slope: Of "lrelu" below zero.
            gain: Factor after the activation; None for sqrt(2), and 1 for "linear".
            clamp: Largest magnitude of the result; None for any.
            dim: Axis of the channels.
        """
        if bias is not None:
            x = x + bias.to(x.dtype).view(-1, *[1] * (x.ndim - 1 - dim % x.ndim))
        if activation == "lrelu":
            x = F.leaky_relu(x, slope)
        elif activation != "linear":
            x = F.relu(x) if activation == "relu" else F.silu(x)
        gain = GAINS[activation] if gain is None else gain
        x = x if gain == 1 else x * gain
        return x if clamp is None else x.clamp(-clamp, clamp)


bias_act = Op("bias_act", Reference())
"""Call: (x, bias=None, *, activation="linear", slope=0.2, gain=None, clamp=None, dim=1), shape of x kept.

clamp(gain activation(x + bias)).
"""
