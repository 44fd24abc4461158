"""The training images nearest to generated ones."""

from __future__ import annotations

import torch

from ganblocks.sampling.nearest import beside_nearest, nearest


def test_the_nearest_image_is_found():
    references = torch.rand(300, 3, 4, 4)
    images = references[[7, 250, 3]] + 0.01
    indices, distances = nearest(images, references, chunk=2)
    assert indices.tolist() == [7, 250, 3]
    torch.testing.assert_close(distances, torch.full((3,), 0.01), rtol=1e-2, atol=1e-4)
    strip = beside_nearest(images, references)
    assert torch.equal(strip, torch.cat([images, references[[7, 250, 3]]]))
