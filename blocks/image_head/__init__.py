"""The family `image-head`: from a generator's features to an image, added to the image so far.

One file per kind: a 1x1 convolution, or a patch of pixels per token.
"""
