"""StyleGAN2's synthesis layer: a convolution with style-modulated weights, then noise, bias and leaky ReLU.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958, section 2.2 and figure 2; second-order styles:
StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515, section 3.1; a bank of filters: GigaGAN, Kang et al.
2023, https://arxiv.org/abs/2303.05511, section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.autocast import no_autocast, to_autocast_dtype
from blocks.common.computed_buffer import computed_buffer
from blocks.common.equalized import EqualLinear
from blocks.common.noise import Noise
from blocks.common.resample import BINOMIAL, fir_kernel
from blocks.common.shapes import check_nchw, check_styles
from blocks.common.style import StyleOrder, style_map
from blocks.families import Layer, OddInt, Resolution, to_nchw, to_nhwc
from blocks.ops.bias_act import GAINS, Activation, bias_act
from blocks.ops.modulated_conv2d import modulated_conv2d
from blocks.ops.modulated_conv2d.reference import convolve_samples, total_padding
from blocks.ops.upfirdn2d import upfirdn2d


class ModulatedConv(Layer, kind="modulated-conv"):
    """A convolution whose weights are modulated by the style per input channel and demodulated per output channel.

    Args:
        in_dim: Channels of the input.
        resolution: Height and width of the input, in pixels.
        style_dim: Features S of the style.
        dim: Channels of the output; null for `in_dim`.
        kernel_size: Side of the kernel, in pixels.
        up: Upsampling factor, applied before the convolution, with filter [1,3,3,1].
        num_filters: Number of filters in a bank: each sample's weight, before it is modulated, is their mean, weighted
            by the softmax of an affine map of w. 1 is one weight for all samples.
        style_order: 1 for styles affine in w, 2 for StyleGAN-T's second-order polynomial.
        demodulate: Whether the modulated weight of each output channel is scaled to unit length, for each sample.
        noise: Whether noise with a learned strength is added to each pixel.
        activation: "lrelu" is leaky ReLU of slope 0.2 times sqrt(2).
        gain: Factor of the output beside the activation's own; StyleGAN-T takes 1/sqrt(2) where a sum follows.
        clamp: Largest magnitude of the output before `gain`, for half precision; null for no limit, 256 in
            StyleGAN2-ADA.
        kernel: Kernel of the modulated_conv2d op; "auto" takes the best one that supports each call, "tune" the
            fastest.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"dim": 12, "up": 2}},
        {"spec": {"style_order": 2, "gain": 0.5, "clamp": 1.0}},
        {"spec": {"num_filters": 3, "up": 2}},
        {"spec": {"kernel_size": 1, "noise": False, "demodulate": False, "activation": "linear", "clamp": 1.0}},
    )
    filter: Tensor | None
    num_styles = 1

    def __init__(
        self,
        in_dim: int,
        resolution: Resolution,
        style_dim: int,
        *,
        dim: PositiveInt | None = None,
        kernel_size: OddInt = 3,
        up: Literal[1, 2] = 1,
        num_filters: PositiveInt = 1,
        style_order: StyleOrder = 1,
        demodulate: bool = True,
        noise: bool = True,
        activation: Activation = "lrelu",
        gain: PositiveFloat = 1.0,
        clamp: PositiveFloat | None = None,
        kernel: str = "auto",
    ) -> None:
        super().__init__()
        dim = in_dim if dim is None else dim
        self.style_dim = style_dim
        self.up, self.demodulate, self.activation = up, demodulate, activation
        self.gain, self.clamp = gain * GAINS[activation], None if clamp is None else clamp * gain
        self.scale = 1 / math.sqrt(in_dim * kernel_size**2)
        self.affine = style_map(style_dim, in_dim, style_order)
        self.weight = nn.Parameter(torch.randn(num_filters * dim, in_dim, kernel_size, kernel_size))
        self.select = EqualLinear(style_dim, num_filters) if num_filters > 1 else None
        self.bias = nn.Parameter(torch.zeros(dim))
        self.noise = Noise((up * resolution[0], up * resolution[1])) if noise else nn.Identity()
        if up > 1:
            computed_buffer(self, "filter", fir_kernel, BINOMIAL)
        else:
            self.filter = None
        self.convolve, self.resample = modulated_conv2d.bind(kernel), upfirdn2d.bind()
        self.bias_act = bias_act.bind()

    def forward(
        self, x: Float[Tensor, "b c h w"], ws: Float[Tensor, "b n s"] | None = None
    ) -> Float[Tensor, "b d i j"]:
        check_nchw(self, x, self.weight.shape[1])
        ws = check_styles(self, ws, 1, self.style_dim, x)
        options: dict[str, Any] = {"demodulate": self.demodulate, "up": self.up, "filter": self.filter}
        flip_kernel = self.up > 1  # StyleGAN's upsampling layers are true convolutions, the others correlations
        with no_autocast(x):
            w = ws[:, 0].to(self.weight.dtype)
            style = self.affine(w) * self.scale  # cheaper than scaling the weight
            weight: Tensor = self.weight
            if self.select is not None:
                bank = torch.unflatten(self.weight, 0, (self.select.out_dim, -1))
                weight = torch.einsum("bn,noikl->boikl", self.select(w).softmax(dim=1), bank)
        convolve = self.convolve if self.select is None else partial(convolve_with_sample_weights, self.resample)
        y = to_nhwc(convolve(to_autocast_dtype(x), weight, style, flip_kernel=flip_kernel, **options))
        noise = self.noise.sample(y) if isinstance(self.noise, Noise) else None
        finish = {"activation": self.activation, "gain": self.gain, "clamp": self.clamp, "dim": -1, "inplace": True}
        return to_nchw(self.bias_act(y, self.bias, noise=noise, **finish))


def convolve_with_sample_weights(
    resample: Callable[..., Tensor],
    x: Float[Tensor, "b i h w"],
    weight: Float[Tensor, "b o i k k"],
    style: Float[Tensor, "b i"],
    *,
    demodulate: bool,
    up: int,
    filter: Float[Tensor, "f f"] | None,
    flip_kernel: bool,
) -> Float[Tensor, "b o u v"]:
    """The op modulated_conv2d with a weight for each sample; `resample` is the op upfirdn2d."""
    with no_autocast(x):
        modulated = weight * style[:, None, :, None, None]
        if demodulate:
            modulated = modulated * torch.rsqrt(modulated.square().sum((2, 3, 4), keepdim=True) + 1e-8)
    if filter is not None:
        sides = total_padding(up, filter, weight.shape[3] // 2)
        x = resample(x, filter, up=up, padding=sides, gain=up**2)
    padding = 0 if filter is not None else weight.shape[3] // 2
    modulated = modulated.to(x.dtype)
    return convolve_samples(partial(F.conv2d, padding=padding), x, modulated.flip(-1, -2) if flip_kernel else modulated)
