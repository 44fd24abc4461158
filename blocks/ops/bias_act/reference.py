"""Scale, noise, bias, activation, gain and clamp as separate steps."""

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


Channels = Float[Tensor, " c"] | Float[Tensor, "b c"]


def by_channel(value: Channels, x: Tensor, dim: int) -> Tensor:
    """A value per channel, of all samples or of each, in x's dtype and a shape that broadcasts against x."""
    dim %= x.ndim
    after = [1] * (x.ndim - 1 - dim)
    before = [] if value.ndim == 1 else [value.shape[0], *[1] * (dim - 1)]
    return value.to(x.dtype).reshape(*before, value.shape[-1], *after)


def by_pixel(noise: Tensor, x: Tensor, dim: int) -> Tensor:
    """A value per pixel in x's dtype, in a shape that broadcasts against x; a missing batch axis is broadcast too."""
    return noise.to(x.dtype).unsqueeze(dim % x.ndim - x.ndim)


class Reference(Kernel):
    """The steps one after the other; differentiable any number of times."""

    op, name = "bias_act", "reference"
    second_order, forward_ad = True, True

    def run(
        self,
        x: Float[Tensor, "*shape"],
        bias: Channels | None = None,
        *,
        scale: Channels | None = None,
        noise: Float[Tensor, "*pixels"] | None = None,
        activation: Activation = "linear",
        slope: float = SLOPE,
        gain: float | None = None,
        clamp: float | None = None,
        dim: int = 1,
        inplace: bool = False,
    ) -> Float[Tensor, "*shape"]:
        """Scale channels, add noise and a bias, apply the activation, multiply by the gain and clamp.

        Args:
            x: Any shape with channels on axis `dim`.
            bias: One value per channel, of all samples [C] or of each [B,C].
            scale: One factor per channel, as `bias`.
            noise: One value per pixel: the axes of x except `dim`, with or without the batch axis.
            activation: "lrelu" is leaky ReLU of slope `slope`; "swish" is x sigmoid(x).
            slope: Slope of "lrelu" below zero.
            gain: Factor after the activation; None for 1 ("linear") or sqrt(2) (all others).
            clamp: Largest magnitude of the result; None for no limit.
            dim: Axis of the channels.
            inplace: Whether a kernel may overwrite x, a temporary of the caller, where no gradient is needed.
        """
        if scale is not None:
            x = x * by_channel(scale, x, dim)
        if noise is not None:
            x = x + by_pixel(noise, x, dim)
        if bias is not None:
            x = x + by_channel(bias, x, dim)
        if activation == "lrelu":
            x = F.leaky_relu(x, slope)
        elif activation != "linear":
            x = F.relu(x) if activation == "relu" else F.silu(x)
        gain = GAINS[activation] if gain is None else gain
        x = x if gain == 1 else x * gain
        return x if clamp is None else x.clamp(-clamp, clamp)
