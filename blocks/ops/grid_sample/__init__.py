"""Bilinear interpolation of a map at coordinates between its pixels; the map is zero beyond its borders.

Spatial transformers, Jaderberg et al. 2015, https://arxiv.org/abs/1506.02025, section 3.3.
"""

from __future__ import annotations

from blocks.ops.grid_sample.linear import Linear
from blocks.ops.grid_sample.reference import Reference
from registry import Op

grid_sample = Op("grid_sample", Reference(), Linear())
"""Call: (x, coordinates) with x [B,C,H,W] and coordinates [B,I,J,2] -> [B,C,I,J].

Coordinates are (x, y) in pixels, counted from the centre of the first pixel.
"""
