"""Modulated convolution: each sample's style scales the input channels of the weight.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958, section 2.2; the per-sample weights as one grouped
convolution: appendix B of the same paper.
"""

from __future__ import annotations

from blocks.ops.modulated_conv2d.grouped import Grouped
from blocks.ops.modulated_conv2d.reference import Reference
from blocks.ops.modulated_conv2d.scaled import Scaled
from registry import Op

modulated_conv2d = Op("modulated_conv2d", Reference(), Scaled(), Grouped())
"""Call: (x, weight, style, *, demodulate=True, up=1, filter=None, padding=None, flip_kernel=False, eps=1e-8).

x [B,I,H,W], weight [O,I,k,k], style [B,I] -> [B,O,up H,up W]: conv(x s) d with d = (sum (w s)^2 + eps)^-1/2. With `up`
the map is upsampled first: zeros between its pixels, then `filter` (with gain up^2).
"""
