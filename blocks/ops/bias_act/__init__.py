"""Scale, noise, bias, activation, gain and clamp in one op: what follows each convolution of the StyleGAN family.

The order and the default gains follow StyleGAN2-ADA, Karras et al. 2020, https://arxiv.org/abs/2006.06676.
"""

from __future__ import annotations

from blocks.ops.bias_act.in_place import InPlace
from blocks.ops.bias_act.reference import GAINS, SLOPE, Activation, Reference
from blocks.ops.bias_act.triton import Triton
from registry import Op

__all__ = ["GAINS", "SLOPE", "Activation", "bias_act"]

bias_act = Op("bias_act", Reference(), InPlace(), Triton())
"""Call: (x, bias=None, *, scale=None, noise=None, activation="linear", slope=0.2, gain=None, clamp=None, dim=1,
inplace=False).

clamp(gain * activation(x scale + noise + bias)), like x; scale and bias per channel, noise per pixel. With `inplace` x
may be overwritten.
"""
