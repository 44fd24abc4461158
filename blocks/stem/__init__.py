"""The family `stem`: from an image to a discriminator's features.

One file per kind; a stem after the first one adds its features to those that are there.
"""
