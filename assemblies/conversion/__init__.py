"""Importers: one per form of checkpoint that a paper's authors, or others, have published."""
