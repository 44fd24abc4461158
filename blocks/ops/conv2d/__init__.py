"""2-D convolution: the op behind the StyleGAN family's discriminators and modulated convolutions."""

from __future__ import annotations

from blocks.ops.conv2d.pointwise import Pointwise
from blocks.ops.conv2d.reference import Reference
from blocks.ops.conv2d.winograd import Winograd
from registry import Op

conv2d = Op("conv2d", Reference(), Winograd(), Pointwise())
"""Call: (x, weight, bias=None, *, stride=1, padding=0, groups=1).

x [B,I,H,W], weight [O,I/groups,k,l], bias [O] -> [B,O,H',W']: cross-correlation with zero padding, as `F.conv2d`.
"""
