"""Layers that depend on the tokens of a caption."""
