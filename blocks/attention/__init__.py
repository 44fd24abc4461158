"""Attention blocks: they mix the pixels of a feature map [B,H,W,C] and keep its shape.

The attention itself is an op of `blocks.ops`, whose kernels compute it; `heads` holds what blocks with heads share.
"""
