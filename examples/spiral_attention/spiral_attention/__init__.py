"""Spiral attention, a block for ganblocks."""

from spiral_attention.attention import SpiralAttention

__all__ = ["SpiralAttention"]
