"""Bias, activation, gain and clamp in the memory of the result, for calls without gradients."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.ops.bias_act.reference import GAINS, SLOPE, Activation
from registry import Kernel


class InPlace(Kernel):
    """Adds the bias out of place and applies the other steps to the sum in place."""

    op, name, priority = "bias_act", "in-place", 10

    def unsupported(self, x: Tensor, bias: Tensor | None = None, **_: object) -> list[str]:
        if torch.is_grad_enabled() and (x.requires_grad or (bias is not None and bias.requires_grad)):
            return ["overwrites the intermediate results that gradients need"]
        return ["needs a bias: without one the first step would overwrite x"] if bias is None else []

    def run(
        self,
        x: Float[Tensor, "*shape"],
        bias: Float[Tensor, " c"],
        *,
        activation: Activation = "linear",
        slope: float = SLOPE,
        gain: float | None = None,
        clamp: float | None = None,
        dim: int = 1,
    ) -> Float[Tensor, "*shape"]:
        y = x + bias.to(x.dtype).view(-1, *[1] * (x.ndim - 1 - dim % x.ndim))
        if activation == "lrelu":
            F.leaky_relu_(y, slope)
        elif activation != "linear":
            F.relu_(y) if activation == "relu" else F.silu(y, inplace=True)
        gain = GAINS[activation] if gain is None else gain
        y = y if gain == 1 else y.mul_(gain)
        return y if clamp is None else y.clamp_(-clamp, clamp)
