"""The family `schedule`: numbers that change during training, such as a learning rate or gamma.

One file per kind: constant, linear, cosine and step.
"""
