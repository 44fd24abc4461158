"""Reads checkpoints of other libraries as data: tensors, settings, and records of objects whose classes are unknown.

Nothing in a file is imported or run: a pickle that would call anything but a known constructor is refused.
"""
