"""ViTGAN as its best-known re-implementation has it (teodorToshkov/ViTGAN-pytorch): transformers on both sides."""
