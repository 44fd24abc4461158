"""GAT, a GAN of plain vision transformers on the latents of an autoencoder.

Scalable GANs with Transformers, https://arxiv.org/abs/2509.24935.
"""
