"""The family `regularizer`: terms beside the adversarial loss, each for the generator or the discriminator.

One file per kind; `fake_images.py` is shared by those that need generated images.
"""
