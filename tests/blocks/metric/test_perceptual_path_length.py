"""PPL against its definition, for a generator and features whose path lengths are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from blocks.families import FeatureExtractor, FeatureSet
from blocks.metric.frechet import gaussian_of
from blocks.metric.perceptual_path_length import PerceptualPathLength
from tests.toys import installed


class Pixels(FeatureExtractor, kind="pixels-for-tests"):
    """The pixels."""

    def forward(self, images):
        return images.double().flatten(1)


@pytest.fixture(autouse=True)
def extractor():
    with installed(Pixels):
        yield


def batch(seeds, to_image):
    z = torch.stack([torch.randn(5, generator=torch.Generator().manual_seed(seed)) for seed in seeds]).double()
    return SimpleNamespace(
        seeds=seeds, z=z, styles=lambda z: z[:, None], exact_images=lambda ws: to_image(ws[:, 0])[..., None, None]
    )


@pytest.mark.parametrize("sampling", ["end", "full"])
def test_for_a_linear_generator_it_is_the_squared_distance_of_the_ends(sampling):
    matrix = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double()
    ppl = PerceptualPathLength(extractor=Pixels, sampling=sampling)
    seeds = [3, 4, 900]
    distances = ppl.measure(batch(seeds, lambda w: w @ matrix))
    other = torch.stack([torch.randn(5, generator=torch.Generator().manual_seed(2**31 + seed)) for seed in seeds])
    expected = ((other - batch(seeds, None).z) @ matrix).square().sum(1, keepdim=True)
    assert (expected > 1).all()
    torch.testing.assert_close(distances, expected, rtol=1e-6, atol=0)


def test_large_images_are_averaged_down():
    ppl = PerceptualPathLength(extractor=Pixels, max_resolution=2)
    image = torch.arange(16.0).view(1, 1, 4, 4)
    features = ppl.features(SimpleNamespace(exact_images=lambda ws: image), None)
    assert features.tolist() == [[2.5, 4.5, 10.5, 12.5]]


def test_outliers_are_left_out():
    values = torch.arange(1000.0)[:, None]
    values[-1] = 1e9
    ppl = PerceptualPathLength(extractor=Pixels)(FeatureSet(1000, *gaussian_of(values), values), None)
    numbers = values.flatten().numpy()
    low, high = np.percentile(numbers, 1, method="lower"), np.percentile(numbers, 99, method="higher")
    kept = numbers[(low <= numbers) & (numbers <= high)]
    assert ppl == pytest.approx({"ppl": kept.mean(), "ppl_std": kept.std()})
    assert ppl["ppl"] < 1000
