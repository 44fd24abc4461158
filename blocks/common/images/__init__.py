"""Functions of images that blocks share: value ranges, patches of pixels, wavelets."""
