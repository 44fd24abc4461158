"""The family `loss`: adversarial losses of the generator and the discriminator.

One file per kind.
"""
