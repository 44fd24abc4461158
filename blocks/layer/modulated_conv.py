"""StyleGAN2's synthesis layer: a convolution with style-modulated weights, then noise, bias and leaky ReLU.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958, section 2.2 and figure 2; second-order styles:
StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515, section 3.1.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from blocks.common.autocast import no_autocast, to_autocast_dtype
from blocks.common.computed_buffer import computed_buffer
from blocks.common.noise import Noise
from blocks.common.resample import BINOMIAL, fir_kernel
from blocks.common.shapes import check_nchw, check_styles
from blocks.common.style import StyleOrder, style_map
from blocks.families import Layer, OddInt, Resolution, to_nchw, to_nhwc
from blocks.ops.bias_act import GAINS, Activation, bias_act
from blocks.ops.modulated_conv2d import modulated_conv2d


class ModulatedConv(Layer, kind="modulated-conv"):
    """A convolution whose weights are modulated by the style per input channel and demodulated per output channel.

    Args:
        in_dim: Channels of the input.
        resolution: Height and width of the input, in pixels.
        style_dim: Features S of the style.
        dim: Channels of the output; null for `in_dim`.
        kernel_size: Side of the kernel, in pixels.
        up: Upsampling factor, applied before the convolution, with filter [1,3,3,1].
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
        self.weight = nn.Parameter(torch.randn(dim, in_dim, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.noise = Noise((up * resolution[0], up * resolution[1])) if noise else nn.Identity()
        if up > 1:
            computed_buffer(self, "filter", fir_kernel, BINOMIAL)
        else:
            self.filter = None
        self.convolve = modulated_conv2d.bind(kernel)
        self.bias_act = bias_act.bind()

    def forward(
        self, x: Float[Tensor, "b c h w"], ws: Float[Tensor, "b n s"] | None = None
    ) -> Float[Tensor, "b d i j"]:
        check_nchw(self, x, self.weight.shape[1])
        ws = check_styles(self, ws, 1, self.style_dim, x)
        options = {"demodulate": self.demodulate, "up": self.up, "filter": self.filter}
        flip_kernel = self.up > 1  # StyleGAN's upsampling layers are true convolutions, the others correlations
        with no_autocast(x):
            style = self.affine(ws[:, 0].to(self.weight.dtype)) * self.scale  # cheaper than scaling the weight
        y = to_nhwc(self.convolve(to_autocast_dtype(x), self.weight, style, flip_kernel=flip_kernel, **options))
        noise = self.noise.sample(y) if isinstance(self.noise, Noise) else None
        finish = {"activation": self.activation, "gain": self.gain, "clamp": self.clamp, "dim": -1}
        return to_nchw(self.bias_act(y, self.bias, noise=noise, **finish))
