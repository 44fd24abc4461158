"""Blocks of the family condition: what is told of an image, as features."""
