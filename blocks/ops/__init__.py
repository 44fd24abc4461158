"""The ops, each with its kernels; importing the package makes all of them known, to `ganblocks doctor` for one."""

from blocks.ops import (
    attention,
    bias_act,
    conv2d,
    l2_attention,
    modulated_conv2d,
    neighborhood_attention,
    upfirdn2d,
)

__all__ = ["attention", "bias_act", "conv2d", "l2_attention", "modulated_conv2d", "neighborhood_attention", "upfirdn2d"]
