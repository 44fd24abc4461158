"""StyleGAN2, with the training of StyleGAN2-ADA, which Styleformer shares.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958; StyleGAN2-ADA, Karras et al. 2020,
https://arxiv.org/abs/2006.06676. The discriminator, the losses and the augmentation are tested against recordings of
Styleformer's copy of the code; of the generator, tests check the names, shapes and places of the tensors only.
"""
