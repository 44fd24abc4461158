"""Convolution of maps, which the StyleGAN family's discriminators and modulated convolutions come down to."""

from __future__ import annotations

from blocks.ops.conv2d.reference import Reference
from blocks.ops.conv2d.winograd import Winograd
from registry import Op

conv2d = Op("conv2d", Reference(), Winograd())
"""Call: (x, weight, bias=None, *, stride=1, padding=0, groups=1).

x [B,I,H,W], weight [O,I/groups,k,l], bias [O] -> [B,O,H',W']: a correlation with zeros around the map.
"""
