"""The Fréchet distance is what the formula says, and what SciPy and torch-fidelity compute."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from blocks.metric.frechet import frechet_distance, gaussian_of
from plugins.fidelity.library import module


def samples(num, dim, seed):
    """Features with correlations, as networks give them."""
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(num, dim, generator=draws).double() @ torch.randn(dim, dim, generator=draws).double()


def test_the_distance_agrees_with_torch_fidelity_and_scipy():
    first, second = samples(300, 32, 0), samples(200, 32, 1) + 0.5
    ours = frechet_distance(*gaussian_of(first), *gaussian_of(second))
    fidelity = module("metric_fid")
    statistics = [fidelity.fid_features_to_statistics(each) for each in (first, second)]
    theirs = fidelity.fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    assert ours == pytest.approx(theirs, rel=1e-12)
    (mean1, cov1), (mean2, cov2) = ((each["mu"], each["sigma"]) for each in statistics)
    root = scipy.linalg.sqrtm(cov1 @ cov2).real
    by_scipy = np.square(mean1 - mean2).sum() + np.trace(cov1 + cov2 - 2 * root)
    assert ours == pytest.approx(by_scipy, rel=1e-11)


def test_the_distance_agrees_with_torch_fidelity_for_fewer_samples_than_features():
    first, second = samples(20, 64, 0), samples(30, 64, 1)
    fidelity = module("metric_fid")
    statistics = [fidelity.fid_features_to_statistics(each) for each in (first, second)]
    theirs = fidelity.fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    assert frechet_distance(*gaussian_of(first), *gaussian_of(second)) == pytest.approx(theirs, rel=1e-6)


def test_the_distance_of_diagonal_gaussians_has_a_closed_form():
    draws = torch.Generator().manual_seed(0)
    mean1, mean2, std1, std2 = (torch.rand(7, generator=draws, dtype=torch.double) for _ in range(4))
    expected = ((mean1 - mean2) ** 2 + (std1 - std2) ** 2).sum().item()
    found = frechet_distance(mean1, (std1**2).diag(), mean2, (std2**2).diag())
    assert found == pytest.approx(expected, rel=1e-12)


def test_the_distance_does_not_depend_on_the_axes():
    draws = torch.Generator().manual_seed(0)
    mean1, mean2 = torch.rand(2, 6, generator=draws, dtype=torch.double)
    a, b = torch.rand(2, 6, 6, generator=draws, dtype=torch.double)
    rotation = torch.linalg.qr(torch.rand(6, 6, generator=draws, dtype=torch.double))[0]
    expected = frechet_distance(mean1, a @ a.T, mean2, b @ b.T)
    turned = [rotation @ mean1, rotation @ a @ a.T @ rotation.T, rotation @ mean2, rotation @ b @ b.T @ rotation.T]
    assert frechet_distance(*turned) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(mean2, b @ b.T, mean1, a @ a.T) == pytest.approx(expected, rel=1e-10)
    # the same by the root of the product itself, whose eigenvalues are real and not negative
    root = torch.linalg.eigvals(a @ a.T @ b @ b.T).real.clamp(min=0).sqrt().sum()
    by_product = (mean1 - mean2).square().sum() + (a @ a.T).trace() + (b @ b.T).trace() - 2 * root
    assert expected == pytest.approx(by_product.item(), rel=1e-8)


def test_the_distance_bears_singular_covariances():
    few = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    mean, cov = gaussian_of(few)
    assert cov.dtype == torch.double
    assert frechet_distance(mean, cov, mean, cov) == pytest.approx(0, abs=1e-6)
    zero = torch.zeros(8, 8)
    assert frechet_distance(mean, cov, mean, zero) == pytest.approx(cov.trace().item())


def test_a_gaussian_is_mean_and_covariance():
    features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [5.0, 6.0]])
    mean, cov = gaussian_of(features)
    assert mean.tolist() == [3.0, 2.0]
    assert cov.tolist() == [[4.0, 6.0], [6.0, 12.0]]
    assert math.isclose(gaussian_of(features[:, :1])[1].item(), 4.0)
