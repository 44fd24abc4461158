"""Converts networks of published checkpoints to networks of this project.

An importer recognises one layout by the names of its tensors and lists the weight rules that translate them.
"""
