"""Resampling with a FIR filter: upsample by inserting zeros, pad, filter, downsample by keeping every n-th pixel.

The operation and its name follow StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958, appendix B.
"""

from __future__ import annotations

from blocks.ops.upfirdn2d.linear import Linear
from blocks.ops.upfirdn2d.reference import Padding, Pair, Reference, pair
from blocks.ops.upfirdn2d.separable import Separable
from blocks.ops.upfirdn2d.transposed import Transposed
from blocks.ops.upfirdn2d.triton import Triton
from registry import Op

__all__ = ["Padding", "Pair", "pair", "upfirdn2d"]

upfirdn2d = Op("upfirdn2d", Reference(), Linear(), Transposed(), Separable(), Triton())
"""Call: (x, filter, *, up=1, down=1, padding=(0, 0, 0, 0), gain=1.0, flip_filter=False).

x [B,C,H,W] and filter [fh,fw] or [f] -> [B,C,H',W'] with H' = (up H + top + bottom - fh) // down + 1.
"""
