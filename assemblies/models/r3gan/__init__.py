"""R3GAN, a modern baseline without normalisation, styles and noise.

Huang et al. 2024, https://arxiv.org/abs/2501.05441.
"""
