"""Augmentation blocks: random, differentiable changes of images [B,K,H,W] before the discriminator.

They are applied to real and generated images alike, in training mode.
"""
