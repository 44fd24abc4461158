"""Images of a trained generator: samples, grids, truncation sweeps, style mixing, interpolation, attention maps.

It needs models and, for the nearest training images, data; it does not need the training.
"""
