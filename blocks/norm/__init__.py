"""Normalisation blocks: they normalise a feature map [B,H,W,C] and keep its shape.

Styled norms, such as AdaIN and SLN, also take a style vector w [B,S]; the others ignore it.
"""
