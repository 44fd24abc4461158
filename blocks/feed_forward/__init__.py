"""Feed-forward blocks: they mix the channels of each pixel of a feature map [B,H,W,C] and keep its shape.

A transformer layer applies one after its attention.
"""
