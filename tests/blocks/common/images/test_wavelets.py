"""The Haar transform."""

from __future__ import annotations

import torch

from blocks.common.images.wavelets import haar, inverse_haar
from tests.tensors import normal


def test_bands_are_average_rows_columns_and_diagonal():
    patterns = torch.tensor([[[1, 1], [1, 1]], [[1, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, -1], [-1, 1]]])
    torch.testing.assert_close(haar(patterns[:, None].double()).flatten(1), 2 * torch.eye(4, dtype=torch.float64))


def test_the_transform_is_orthonormal_and_invertible():
    image = normal(2, 3, 6, 10)
    bands = haar(image)
    assert bands.shape == (2, 12, 3, 5)
    torch.testing.assert_close(bands.norm(), image.norm())
    torch.testing.assert_close(inverse_haar(bands), image)
