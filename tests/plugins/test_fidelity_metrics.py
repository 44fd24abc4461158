"""KID, Inception Score, precision, recall, density and coverage against formulas in float64, on known features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from blocks.families import FeatureExtractor, FeatureSet
from blocks.metric.frechet import gaussian_of
from plugins.fidelity.metrics import KID, InceptionScore, PrecisionRecall, density_and_coverage
from tests.toys import installed


class Linear(FeatureExtractor, kind="linear-for-tests"):
    """Two classes of one feature."""

    def logits(self, features):
        return torch.cat([features, -features], dim=1)


@pytest.fixture(autouse=True)
def extractor():
    with installed(Linear):
        yield


def feature_set(features):
    return FeatureSet(len(features), *gaussian_of(features), features)


def cluster(num, dim=8, seed=0, shift=0.0):
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed)) + shift


def test_kid_is_the_unbiased_mmd_of_a_cubic_kernel():
    x, y = cluster(60), cluster(60, seed=1, shift=0.3)
    value = KID(extractor=Linear, subsets=2, subset_size=60)(feature_set(x), feature_set(y))
    kernel = lambda a, b: (a.double() @ b.double().T / 8 + 1) ** 3  # noqa: E731
    off_diagonal = ~torch.eye(60, dtype=torch.bool)
    expected = kernel(x, x)[off_diagonal].mean() + kernel(y, y)[off_diagonal].mean() - 2 * kernel(x, y).mean()
    assert value["kid"] == pytest.approx(expected.item(), rel=1e-4)
    assert value["kid_std"] == pytest.approx(0, abs=1e-6)  # each subset is the whole set


def test_kid_of_a_distribution_against_itself_is_about_zero():
    kid = KID(extractor=Linear, subsets=20, subset_size=100)
    same, other = cluster(500), cluster(500, seed=1)
    value = kid(feature_set(same), feature_set(other))
    assert abs(value["kid"]) < value["kid_std"]
    assert kid(feature_set(same + 0.5), feature_set(other))["kid"] > 10 * value["kid_std"]
    assert kid.min_images == 100


def test_the_inception_score_follows_its_formula():
    features = cluster(40, 1) * 3
    score = InceptionScore(extractor=Linear, splits=2)(feature_set(features), None)
    parts = []
    for part in torch.cat([features, -features], 1).double().split(20):
        p = part.softmax(1)
        parts.append((p * (p.log() - p.mean(0).log())).sum(1).mean().exp().item())
    assert score["is"] == pytest.approx(np.mean(parts), rel=1e-9)
    assert score["is_std"] == pytest.approx(np.std(parts), rel=1e-9)
    assert InceptionScore(extractor=Linear, splits=1)(feature_set(torch.zeros(10, 1)), None)["is"] == pytest.approx(1)


def brute_force(fake, real, k, density_k):
    distances = lambda a, b: np.linalg.norm(a[:, None] - b[None], axis=2)  # noqa: E731
    radius = lambda x, k: np.sort(distances(x, x), axis=1)[:, k]  # noqa: E731
    between = distances(real, fake)
    inside = between < radius(real, density_k)[:, None]
    return {
        "precision": (between <= radius(real, k)[:, None]).any(0).mean(),
        "recall": (between <= radius(fake, k)[None]).any(1).mean(),
        "density": inside.sum() / (density_k * len(fake)),
        "coverage": inside.any(1).mean(),
    }


def test_precision_recall_density_and_coverage_agree_with_brute_force():
    fake, real = cluster(70, 3, shift=1.2), cluster(90, 3, seed=1)
    values = PrecisionRecall(extractor=Linear)(feature_set(fake), feature_set(real))
    expected = brute_force(fake.double().numpy(), real.double().numpy(), 3, 5)
    assert values == pytest.approx(expected, abs=1e-7)  # torch-fidelity returns float32
    assert all(0 < value < 1 for value in values.values())


def test_a_dropped_mode_lowers_recall_and_coverage_but_not_precision():
    modes = torch.cat([cluster(200, 4), cluster(200, 4, seed=1, shift=20)])
    real = torch.cat([cluster(200, 4, seed=2), cluster(200, 4, seed=3, shift=20)])
    prdc = PrecisionRecall(extractor=Linear)
    whole, dropped = (prdc(feature_set(each), feature_set(real)) for each in (modes, modes[:200]))
    assert dropped["recall"] < 0.6 * whole["recall"]
    assert dropped["coverage"] < 0.6 * whole["coverage"]
    assert dropped["precision"] == pytest.approx(whole["precision"], abs=0.1)


def test_density_and_coverage_of_a_set_against_itself():
    real = cluster(50, 4)
    density, coverage = density_and_coverage(real, real, 5)
    assert coverage == 1
    assert density == pytest.approx(1, abs=0.01)  # each ball holds its centre and 4 others; the fifth lies on it
