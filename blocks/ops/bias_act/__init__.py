"""Bias, activation, gain and clamp in one: what follows each convolution of the StyleGAN family.

The order and the default gains follow StyleGAN2-ADA, Karras et al. 2020, https://arxiv.org/abs/2006.06676.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from registry import Kernel, Op

Activation = Literal["linear", "lrelu", "relu", "swish"]
SLOPE = 0.2
GAINS: dict[str, float] = {"linear": 1.0, "lrelu": math.sqrt(2), "relu": math.sqrt(2), "swish": math.sqrt(2)}


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


class InPlace(Kernel):
    """The same steps, all but the first of them in the memory of their result, where no gradient is wanted."""

    op, name, priority = "bias_act", "in-place", 10

    def unsupported(self, x: Tensor, bias: Tensor | None = None, **_: object) -> list[str]:
        if torch.is_grad_enabled() and (x.requires_grad or (bias is not None and bias.requires_grad)):
            return ["gradients need what lies between the steps"]
        return ["there is no bias: its first step would overwrite x"] if bias is None else []

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


bias_act = Op("bias_act", Reference(), InPlace())
"""Call: (x, bias=None, *, activation="linear", slope=0.2, gain=None, clamp=None, dim=1), shape of x kept.

clamp(gain activation(x + bias)).
"""
