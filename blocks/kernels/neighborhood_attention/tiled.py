"""Neighborhood attention tile by tile: plain matrix products that fit into the cache, on any device.

NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143, section 3.1; a softmax by tiles that is computed again for
the gradient: FlashAttention, Dao et al. 2022, https://arxiv.org/abs/2205.14135, section 3.1.

Columns of tiles are served one after the other. The keys of such a column are copied into a strip as wide as a tile
needs; there the keys of a tile are consecutive, those of the next tile overlap them, and one batched product serves all
tiles, heads and dilation groups. Keys beyond the end of a map belong to its neighbour in the strip, and are masked.
"""

from __future__ import annotations
