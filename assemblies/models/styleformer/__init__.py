"""Styleformer: a generator of styled attention, with StyleGAN2-ADA's discriminator and training.

Styleformer, Park and Kim 2021, https://arxiv.org/abs/2106.07023. Outputs, losses and gradients are tested against
recordings of the authors' code at small sizes, parameter counts at the published sizes.
"""
