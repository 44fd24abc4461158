"""Scale, noise, bias, activation, gain and clamp in the memory of the result, for calls without gradients."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.ops.bias_act.reference import GAINS, SLOPE, Activation, Channels, by_channel, by_pixel
from registry import Kernel


class InPlace(Kernel):
    """Makes the first addition out of place, unless x may be overwritten, and applies the other steps in place."""

    op, name, priority = "bias_act", "in-place", 10

    def unsupported(
        self,
        x: Tensor,
        bias: Tensor | None = None,
        *,
        scale: Tensor | None = None,
        noise: Tensor | None = None,
        inplace: bool = False,
        **_: object,
    ) -> list[str]:
        if torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in (x, bias, scale, noise)):
            return ["overwrites the intermediate results that gradients need"]
        if bias is None and not inplace:
            return ["needs a bias, or inplace=True: without a bias the first step would overwrite x"]
        return []

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
        factor = None if scale is None else by_channel(scale, x, dim)
        shift = None if bias is None else by_channel(bias, x, dim)
        plus = None if noise is None else by_pixel(noise, x, dim)
        if inplace or shift is None:
            y = x if factor is None else x.mul_(factor)
            y = y if plus is None else y.add_(plus)
            y = y if shift is None else y.add_(shift)
        elif factor is None:
            y = x + shift if plus is None else (x + plus).add_(shift)
        else:
            y = torch.addcmul(shift, x, factor)
            y = y if plus is None else y.add_(plus)
        if activation == "lrelu":
            F.leaky_relu_(y, slope)
        elif activation != "linear":
            F.relu_(y) if activation == "relu" else F.silu(y, inplace=True)
        gain = GAINS[activation] if gain is None else gain
        y = y if gain == 1 else y.mul_(gain)
        return y if clamp is None else y.clamp_(-clamp, clamp)
