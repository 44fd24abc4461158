"""The family `metric`: numbers from the features of generated and of real images.

One file per kind. Metrics that need a library are in `plugins`.
"""
