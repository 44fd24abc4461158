"""ViTGAN as its authors published it (mlpc-ucsd/ViTGAN): a transformer as generator, StyleGAN2's discriminator."""
