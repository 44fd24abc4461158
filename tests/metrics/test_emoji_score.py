"""The emoji score: its numbers agree with a reference in float64, and its classifier is trained once."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from blocks.families import FeatureSet
from blocks.metric.frechet import frechet_distance, gaussian_of
from ganblocks.data.dataset import ImagesInMemory
from ganblocks.errors import DataError
from ganblocks.metrics.classifier.distances import kernel_distance, precision_and_recall, share_within
from ganblocks.metrics.classifier.emoji import EmojiDistance, EmojiScore
from ganblocks.pixels import from_bytes
from plugins.fidelity.library import module


def features(count, seed=0, shift=0.0):
    return (torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)) + shift).relu()


def squares(count, seed):
    """Squares in the colour of their class at random places of a white image."""
    draws = np.random.default_rng(seed)
    pixels = np.full((count, 3, 32, 32), 255, np.uint8)
    labels = np.arange(count) % 9
    for image, label in zip(pixels, labels, strict=True):
        top, left = draws.integers(0, 20, 2)
        colour = [[0, 120, 240][label // 3], [0, 120, 240][label % 3], 60]
        image[:, top : top + 12, left : left + 12] = np.array(colour, np.uint8)[:, None, None]
    return ImagesInMemory(torch.from_numpy(pixels), labels=torch.from_numpy(labels), class_names=tuple("abcdefghi"))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GANBLOCKS_CACHE", str(tmp_path))
    return tmp_path


def test_the_kernel_distance_is_that_of_the_definition_and_of_torch_fidelity():
    x, y = features(40), features(50, seed=1, shift=0.3)
    a, b = x.double().numpy(), y.double().numpy()

    def mean(first, second, same):
        values = [(p @ q / 8 + 1) ** 3 for i, p in enumerate(first) for j, q in enumerate(second) if not same or i != j]
        return sum(values) / len(values)

    expected = mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False)
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-12)
    subset = {"kid_subsets": 1, "kid_subset_size": 40, "rng_seed": 0, "verbose": False}
    library = module("metric_kid").kid_features_to_metric(x, y[:40], **subset)
    assert kernel_distance(x, y[:40]) == pytest.approx(library["kernel_inception_distance_mean"], rel=1e-5)
    assert abs(kernel_distance(features(2000), features(2000, seed=2))) < 0.05 * kernel_distance(x, y)


def test_precision_and_recall_are_those_of_the_definition_and_of_torch_fidelity():
    x, y = features(60), features(80, seed=1, shift=0.4)

    def within(points, others):
        a, b = points.double().numpy(), others.double().numpy()
        radii = [sorted(np.linalg.norm(p - q) for q in b)[3] for p in b]
        return np.mean([any(np.linalg.norm(p - q) <= radius for q, radius in zip(b, radii, strict=True)) for p in a])

    precision, recall = precision_and_recall(x, y)
    assert (precision, recall) == (pytest.approx(within(x, y)), pytest.approx(within(y, x)))
    assert 0 < recall < precision < 1
    options = {"prc_neighborhood": 3, "prc_batch_size": 100, "save_cpu_ram": True, "verbose": False}
    library = module("metric_prc").prc_features_to_metric(x, y, **options)
    assert (precision, recall) == (pytest.approx(library["precision"]), pytest.approx(library["recall"]))
    assert share_within(x[:10], x) == 1


def test_the_classifier_is_trained_once_for_each_data_set_and_seed(cache):
    train, held_out = squares(72, 0), squares(18, 1)
    score = EmojiScore(train=train, held_out=held_out)
    files = list((cache / "metrics").iterdir())
    again = EmojiScore(32, train=train, held_out=held_out)
    assert list((cache / "metrics").iterdir()) == files
    assert (again.sha256, again.floor, again.accuracy) == (score.sha256, score.floor, score.accuracy)
    files[0].unlink()
    assert EmojiScore(train=train, held_out=held_out).sha256 == score.sha256
    assert EmojiScore(train=train, held_out=held_out, seed=1).sha256 != score.sha256
    assert len(list((cache / "metrics").iterdir())) == 2


def test_the_numbers_tell_good_images_from_bad_and_show_what_was_memorised(cache):
    train, held_out = squares(180, 0), squares(90, 1)
    score = EmojiScore(train=train, held_out=held_out)
    assert score.accuracy > 0.9
    metric = EmojiDistance()
    metric.judge = score

    def measure(images):
        found = score.features(images)
        return metric(FeatureSet(len(found), *gaussian_of(found), found), None)

    real = from_bytes(train.pixels, "symmetric")
    values = measure(from_bytes(squares(180, 2).pixels, "symmetric"))
    assert next(iter(values)) == "emoji"
    assert values["emoji_floor"] == score.floor == frechet_distance(*score.real, *gaussian_of(score.held_out))
    noise = measure(torch.randn(180, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert values["emoji"] < noise["emoji"] / 4
    assert values["emoji_kernel"] < noise["emoji_kernel"] / 4
    assert values["emoji_precision"] > noise["emoji_precision"]
    one_class = measure(real[train.labels == 4])
    assert one_class["emoji_recall"] < 0.5 < values["emoji_recall"]
    assert measure(real)["emoji_recall"] == 1 > measure(real)["emoji_recall_held_out"]
    assert metric.record() == {"seed": 0, "features": 64, "sha256": score.sha256}


def test_without_the_extra_the_error_names_the_command_that_installs_it(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(DataError, match=r"pip install 'ganblocks\[emoji\]'"):
        EmojiScore()
