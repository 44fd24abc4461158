"""The digit score tells good digits from bad ones."""

from __future__ import annotations

import pytest
import torch

from assemblies import parse
from ganblocks import DigitScore
from ganblocks.data.digits import digits
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

        z_dim, cond_dim, value_range, picture_shape = 2, 0, "unit", (1, 16, 16)

        def __init__(self):
            super().__init__()
            self.images = torch.nn.Parameter(from_bytes(digits("train", 16).pixels, "unit"), requires_grad=False)

        def decode(self, image):
            return image

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
