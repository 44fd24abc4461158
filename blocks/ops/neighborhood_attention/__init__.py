"""Neighborhood attention: each pixel attends to a K x K window of every d-th pixel around it.

NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143; dilated: DiNAT, https://arxiv.org/abs/2209.15001.
"""

from __future__ import annotations

from blocks.ops.neighborhood_attention.compiled import Compiled
from blocks.ops.neighborhood_attention.masked import Masked
from blocks.ops.neighborhood_attention.reference import Reference
from blocks.ops.neighborhood_attention.tiled import Tiled
from blocks.ops.neighborhood_attention.tiled_math import TiledMath
from blocks.ops.neighborhood_attention.triton import Triton
from registry import Op

neighborhood_attention = Op("neighborhood_attention", Reference(), Compiled(), Masked(), Tiled(), TiledMath(), Triton())
"""Call: (q, k, v, *, kernel_size, dilation=1, bias=None, scale=None); q, k, v and the result are [B,H,W,heads,d].

softmax(scale q k^T + bias) v over the window of each pixel (see `windows`). `bias` is a table [heads,2K-1,2K-1] of
relative positions from -(K-1) to K-1, in steps of the dilation; `scale` defaults to d ** -0.5.

Raises:
    ValueError: The window is even, or larger than the map.
"""
