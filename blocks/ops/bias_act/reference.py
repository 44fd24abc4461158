"""Bias, activation, gain and clamp as separate steps."""

from __future__ import annotations

import math
from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from registry import Kernel

Activation = Literal["linear", "lrelu", "relu", "swish"]
SLOPE = 0.2
GAINS: dict[str, float] = {"linear": 1.0, "lrelu": math.sqrt(2), "relu": math.sqrt(2), "swish": math.sqrt(2)}


class Reference(Kernel):
    """The four steps one after the other; differentiable any number of times."""

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
        """Add a bias per channel, apply the activation, multiply by the gain and clamp.

        Args:
            x: Any shape with channels on axis `dim`.
            bias: One value per channel.
            activation: "lrelu" is leaky ReLU of slope `slope`; "swish" is x sigmoid(x).
            slope: Slope of "lrelu" below zero.
            gain: Factor after the activation; None for 1 ("linear") or sqrt(2) (all others).
            clamp: Largest magnitude of the result; None for no limit.
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
