"""The digit score tells good digits from bad ones, and the Fréchet distance is what the formula says."""

from __future__ import annotations

import math

import pytest
import torch

from assemblies import parse
from ganblocks import DigitScore
from ganblocks.data.digits import digits
from ganblocks.metrics.frechet import frechet_distance, gaussian_of
from ganblocks.pixels import from_bytes, from_symmetric
from tests import tiny


@pytest.fixture(scope="module")
def judge():
    return DigitScore(resolution=16)


def held_out(channels=3, value_range="symmetric"):
    images = digits("held-out", 16, channels)
    return from_bytes(images.pixels, value_range), images.labels


def test_the_classifier_reads_digits_it_never_saw(judge):
    images, labels = held_out()
    assert judge.accuracy >= 0.97
    assert (judge.classify(images) == labels).double().mean().item() == pytest.approx(judge.accuracy)
    votes = judge.votes(images)
    assert votes.sum() == 360
    assert (votes - labels.bincount()).abs().max() <= 10


def test_real_digits_score_better_than_anything_else(judge):
    images, _ = held_out()
    train = from_bytes(digits("train", 16).pixels, "symmetric")
    assert judge.distance(train) < 1e-6
    assert 0 < judge.floor == pytest.approx(judge.distance(images), rel=1e-4)
    blurred = torch.nn.functional.avg_pool2d(images, 5, 1, 2)
    worse = {
        "blurred": blurred,
        "mirrored": images.flip(-1),
        "noise": torch.randn(360, 3, 16, 16, generator=torch.Generator().manual_seed(0)),
        "one digit only": images[:1].expand(360, -1, -1, -1),
    }
    assert {name: judge.distance(each) > 2 * judge.floor for name, each in worse.items()} == dict.fromkeys(worse, True)


def test_size_channels_and_range_of_images_do_not_matter(judge):
    images, _ = held_out(1)
    expected = judge.features(images)
    torch.testing.assert_close(judge.features(images.expand(-1, 3, -1, -1)), expected, rtol=1e-3, atol=1e-3)
    for value_range in ("unit", "imagenet"):
        other = from_symmetric(images.expand(-1, 3, -1, -1), value_range)
        torch.testing.assert_close(judge.features(other, value_range), expected, rtol=1e-3, atol=1e-3)
    larger = torch.nn.functional.interpolate(images, (48, 48), mode="nearest")
    assert (judge.classify(larger) == judge.classify(images)).double().mean() > 0.98


def test_a_generator_is_scored_by_its_samples(judge):
    class Replay(torch.nn.Module):
        """Shows the training digits, one for each latent."""

        z_dim, cond_dim, value_range, resolution = 2, 0, "unit", (16, 16)

        def __init__(self):
            super().__init__()
            self.images = torch.nn.Parameter(from_bytes(digits("train", 16).pixels, "unit"), requires_grad=False)

        def mapping(self, z, c, **_):
            return z[:, None]

        def synthesis(self, ws):
            return self.images[(ws[:, 0, 0] * 1e4).long() % len(self.images)]

    replay = Replay()
    assert judge.score(replay, num_samples=1000) < judge.floor
    assert judge.score(replay, num_samples=200) == judge.score(replay, num_samples=200)
    generator = parse(tiny.GENERATOR).build().eval()
    ceiling = judge.ceiling(generator, num_samples=200)
    assert ceiling > 5 * judge.floor
    assert judge.ceiling(generator, num_samples=200) == ceiling


def test_the_score_repeats_itself(judge):
    again = DigitScore(resolution=16)
    assert again.floor == pytest.approx(judge.floor, rel=1e-5)
    assert DigitScore(resolution=16, seed=1).floor != pytest.approx(judge.floor, rel=1e-3)


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
