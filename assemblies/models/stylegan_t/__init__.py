"""StyleGAN-T: text to image, with a projected discriminator over DINO features and guidance by CLIP.

StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515. Outputs, losses and gradients are tested against
recordings of the published code at small sizes and without published weights, parameter counts at the published sizes.
"""
