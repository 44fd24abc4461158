"""Adapters compute the outputs of fixtures with our blocks: a folder for each model, a function for each kind."""
