"""Bias, activation, gain and clamp in the memory of the result, for calls without gradients."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.ops.bias_act.reference import GAINS, SLOPE, Activation, Channels, by_channel, by_pixel
from registry import Kernel


class InPlace(Kernel):
    """Makes the first addition out of place and applies the other steps to the sum in place."""

    op, name, priority = "bias_act", "in-place", 10

    def unsupported(
        self,
        x: Tensor,
        bias: Tensor | None = None,
        *,
        scale: Tensor | None = None,
        noise: Tensor | None = None,
        **_: object,
    ) -> list[str]:
        if torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in (x, bias, scale, noise)):
            return ["overwrites the intermediate results that gradients need"]
        return ["needs a bias: without one the first step would overwrite x"] if bias is None else []

    def run(
        self,
        x: Float[Tensor, "*shape"],
        bias: Channels,
        *,
        scale: Channels | None = None,
        noise: Float[Tensor, "*pixels"] | None = None,
        activation: Activation = "linear",
        slope: float = SLOPE,
        gain: float | None = None,
        clamp: float | None = None,
        dim: int = 1,
    ) -> Float[Tensor, "*shape"]:
        shift = by_channel(bias, x, dim)
        if scale is None:
            y = x + shift if noise is None else (x + by_pixel(noise, x, dim)).add_(shift)
        else:
            y = torch.addcmul(shift, x, by_channel(scale, x, dim))
            y = y if noise is None else y.add_(by_pixel(noise, x, dim))
        if activation == "lrelu":
            F.leaky_relu_(y, slope)
        elif activation != "linear":
            F.relu_(y) if activation == "relu" else F.silu(y, inplace=True)
        gain = GAINS[activation] if gain is None else gain
        y = y if gain == 1 else y.mul_(gain)
        return y if clamp is None else y.clamp_(-clamp, clamp)
