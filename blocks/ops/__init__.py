"""The ops, a folder each: the contract in `__init__`, the reference kernel, and one file per faster kernel.

Importing the package registers all of them, e.g. for `ganblocks doctor`.
"""

from blocks.ops import (
    attention,
    bias_act,
    conv2d,
    grid_sample,
    l2_attention,
    modulated_conv2d,
    neighborhood_attention,
    upfirdn2d,
)

__all__ = [
    "attention",
    "bias_act",
    "conv2d",
    "grid_sample",
    "l2_attention",
    "modulated_conv2d",
    "neighborhood_attention",
    "upfirdn2d",
]
