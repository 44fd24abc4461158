"""One module a model: how the reference's arguments and tensor names map to our blocks."""
