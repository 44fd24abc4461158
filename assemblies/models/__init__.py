"""Presets: the published models as documents, named after paper and data set."""
