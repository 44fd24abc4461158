"""ViTGAN as its authors published it (mlpc-ucsd/ViTGAN): a generator of transformer blocks, StyleGAN2's discriminator."""
