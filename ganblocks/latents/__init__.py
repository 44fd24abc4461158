"""Tools on the style vectors of any generator: directions, edits, and the projection of images."""
