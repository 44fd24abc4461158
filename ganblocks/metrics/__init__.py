"""Numbers that say how good a generator is: Fréchet distances in the features of a network.

Metrics generate their images by `ganblocks.sampling` and read their references by `ganblocks.data`.
"""
