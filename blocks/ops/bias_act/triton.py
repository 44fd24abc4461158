"""Scale, noise, bias, activation, gain and clamp in one pass over the map on a GPU, with first and second derivatives.

The order of the steps follows StyleGAN2-ADA, Karras et al. 2020, https://arxiv.org/abs/2006.06676.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.ops.bias_act.reference import GAINS, SLOPE, Activation, Channels, by_channel
from blocks.ops.triton import TritonKernel

ACTIVATIONS = ("linear", "lrelu", "relu", "swish")  # numbered as in `triton_kernel`


class Options(NamedTuple):
    """The function f(u) of one value, and the axis of the channels."""

    activation: Activation
    slope: float
    gain: float
    clamp: float | None
    dim: int


class Shifts(NamedTuple):
    """What is done to x before f: u = x scale + noise + bias."""

    bias: Tensor | None
    scale: Tensor | None
    noise: Tensor | None


def launch(order: int, x: Tensor, shifts: Shifts, options: Options, *factors: Tensor) -> Tensor:
    """f(u) (order 0), g f'(u) (order 1) or g h f''(u) (order 2) with the factors g, h."""
    from blocks.ops.bias_act import triton_kernel

    y = torch.empty_like(x)
    if x.numel():
        activation, slope, gain, clamp, dim = options
        bias, scale, noise = (None if each is None else each.contiguous() for each in shifts)
        first, second = (*(_with_strides_of(x, each) for each in factors), None, None)[:2]
        triton_kernel.launch(
            y,
            x,
            bias,
            scale,
            noise,
            first,
            second,
            channels=x.shape[dim],
            channels_last=_channels_last(x, dim),
            activation=ACTIVATIONS.index(activation),
            order=order,
            slope=slope,
            gain=gain,
            clamp=clamp,
        )
    return y


def gradients(
    needed: tuple[bool, ...], du: Tensor, x: Tensor, shifts: Shifts, dim: int
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of x, bias, scale and noise from that of u, where they are needed."""
    bias, scale, noise = shifts
    dx = dbias = dscale = dnoise = None
    if needed[0]:
        dx = du if scale is None else du * by_channel(scale, x, dim)
    if needed[1] and bias is not None:
        dbias = _sum_pixels(du, bias, dim)
    if needed[2] and scale is not None:
        dscale = _sum_pixels(du * x, scale, dim)
    if needed[3] and noise is not None:
        dnoise = du.sum(dim, dtype=torch.float32)
        dnoise = (dnoise if noise.ndim == dnoise.ndim else dnoise.sum(0)).to(noise.dtype)
    return dx, dbias, dscale, dnoise


class Value(torch.autograd.Function):
    """f(u)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bias: Tensor | None, scale: Tensor | None, noise: Tensor | None, options: Options
    ) -> Tensor:
        ctx.save_for_backward(x, bias, scale, noise)
        ctx.options = options
        return launch(0, x, Shifts(bias, scale, noise), options)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, *shifts = ctx.saved_tensors
        du = slope_of(gradient, x, *shifts, ctx.options)
        return *gradients(ctx.needs_input_grad, du, x, Shifts(*shifts), ctx.options.dim), None


class Slope(torch.autograd.Function):
    """g f'(u), linear in g."""

    @staticmethod
    def forward(
        ctx: Any,
        g: Tensor,
        x: Tensor,
        bias: Tensor | None,
        scale: Tensor | None,
        noise: Tensor | None,
        options: Options,
    ) -> Tensor:
        ctx.save_for_backward(g, x, bias, scale, noise)
        ctx.options = options
        return launch(1, x, Shifts(bias, scale, noise), options, g)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        g, x, *shifts = ctx.saved_tensors
        needed, options = ctx.needs_input_grad, ctx.options
        dg = slope_of(gradient, x, *shifts, options) if needed[0] else None
        if options.activation != "swish" or not any(needed[1:]):  # the others are linear on both sides of 0
            return dg, None, None, None, None, None
        du = curvature_of(gradient, g, x, *shifts, options)
        return dg, *gradients(needed[1:], du, x, Shifts(*shifts), options.dim), None


class Curvature(torch.autograd.Function):
    """g h f''(u)."""

    @staticmethod
    def forward(
        ctx: Any,
        g: Tensor,
        h: Tensor,
        x: Tensor,
        bias: Tensor | None,
        scale: Tensor | None,
        noise: Tensor | None,
        options: Options,
    ) -> Tensor:
        return launch(2, x, Shifts(bias, scale, noise), options, g, h)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        raise RuntimeError("bias_act: the kernel triton has no third derivative of swish; take kernel='reference'")


value_of: Callable[..., Tensor] = Value.apply
slope_of: Callable[..., Tensor] = Slope.apply
curvature_of: Callable[..., Tensor] = Curvature.apply


class Triton(TritonKernel):
    """Reads the map once and writes the result once, in float32 arithmetic; differentiable twice."""

    op, name, priority, second_order = "bias_act", "triton", 20, True

    def unsupported(
        self,
        x: Tensor,
        bias: Tensor | None = None,
        *,
        scale: Tensor | None = None,
        noise: Tensor | None = None,
        activation: Activation = "linear",
        gain: float | None = None,
        clamp: float | None = None,
        dim: int = 1,
        **_: object,
    ) -> list[str]:
        if torch.compiler.is_compiling() or torch.compiler.is_exporting():
            return ["torch.compile fuses the steps of the reference kernel itself"]
        reasons = self.unsupported_map(x)
        contiguous = x.is_contiguous() and dim % x.ndim == 1
        if x.ndim < 2 or dim % x.ndim == 0 or not (contiguous or _channels_last(x, dim)):
            reasons.append("needs a contiguous or channels-last map with channels after the batch")
        plain = bias is None and scale is None and noise is None
        if plain and activation == "linear" and gain in (None, 1) and clamp is None:
            reasons.append("has nothing to compute")
        return reasons

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
        options = Options(activation, slope, GAINS[activation] if gain is None else gain, clamp, dim)
        tensors = (x, bias, scale, noise)
        if torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in tensors):
            return value_of(*tensors, options)
        return launch(0, x, Shifts(bias, scale, noise), options)


def _channels_last(x: Tensor, dim: int) -> bool:
    return x.movedim(dim, -1).is_contiguous()


def _sum_pixels(values: Tensor, like: Tensor, dim: int) -> Tensor:
    axes = [axis for axis in range(values.ndim) if axis != dim % values.ndim and (axis or like.ndim == 1)]
    return (values.sum(axes, dtype=torch.float32) if axes else values).to(like.dtype)


def _with_strides_of(x: Tensor, gradient: Tensor) -> Tensor:
    return gradient if gradient.stride() == x.stride() else torch.empty_like(x).copy_(gradient)
