"""The family `synthesis-input`: the first features of a generator's synthesis network.

One file per kind.
"""
