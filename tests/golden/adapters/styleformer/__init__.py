"""Styleformer, and the parts of StyleGAN2-ADA that it uses."""
