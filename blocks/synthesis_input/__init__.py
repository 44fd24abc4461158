"""The family `synthesis-input`: the first features of a generator's synthesis network.

One file per kind: a learned constant, learned tokens, or Fourier features.
"""
