"""Metrics of a set against itself are zero, and grow with blur, noise and dropped modes."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from assemblies import parse
from ganblocks.data.digits import digits
from ganblocks.metrics.evaluation import Evaluation
from ganblocks.metrics.processes import Processes
from ganblocks.metrics.protocols import PROTOCOLS
from ganblocks.metrics.references import RealImages, ReferenceSource
from ganblocks.metrics.specs import build_metrics, metric_specs
from ganblocks.pixels import from_bytes
from tests import tiny

PROCESSES = Processes(0, 1, torch.device("cpu"))
COUNT = 400


class Replay(torch.nn.Module):
    """A generator of given images, one after the other."""

    z_dim, cond_dim, value_range, picture_shape = 2, 0, "symmetric", (3, 16, 16)
    spec = parse(tiny.GENERATOR)

    def __init__(self, images):
        super().__init__()
        self.images = torch.nn.Parameter(images, requires_grad=False)
        self.position = 0

    def optimize_for_inference(self, precision):
        return self

    def decode(self, image):
        return image

    def mapping(self, z, c, **_):
        return z[:, None]

    def synthesis(self, ws):
        self.position += len(ws)
        return self.images[self.position - len(ws) : self.position]


@pytest.fixture(scope="module")
def real():
    return digits("train", 16, 3)


@pytest.fixture
def measure(real, extractor_file):
    """The values of fid, kid and prdc of images."""
    kinds = ("fid", "kid", "prdc")
    settings = [f"{kind}.extractor=torchscript" for kind in kinds] + ["kid.subset_size=200", "kid.subsets=10"]
    protocol = PROTOCOLS["stylegan-full"].with_changes(num=COUNT)
    specs = metric_specs(kinds, protocol, weights=[f"torchscript={extractor_file}"], settings=settings)
    metrics = build_metrics(specs, PROCESSES.device, captioned=False)
    subset = RealImages(real, (16, 16), "lanczos", None)
    subset.indices = range(COUNT)
    source = ReferenceSource(PROCESSES, subset, None, resolution=(16, 16), batch_size=64, use_cache=False)
    evaluation = Evaluation(metrics, protocol, source, None, PROCESSES, batch_size=50)

    def values(images):
        return {name: value for each in evaluation.run(Replay(images)) for name, value in each.values.items()}

    return values


def test_they_grow_with_blur_noise_and_dropped_modes(measure, real):
    images = from_bytes(real.pixels[:COUNT], "symmetric")
    labels = real.labels[:COUNT]
    same = measure(images)
    assert same["fid"] == pytest.approx(0, abs=1e-6)
    assert same["kid"] < 1e-3
    assert (same["precision"], same["recall"], same["coverage"]) == (1, 1, 1)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    blurred = [F.avg_pool2d(images, side, 1, side // 2) for side in (3, 5)]
    noisy = [images + strength * noise for strength in (0.2, 0.5)]
    dropped = [
        images[(labels < kept).nonzero().flatten()[torch.arange(COUNT) % (labels < kept).sum()]] for kept in (5, 1)
    ]
    for name, versions in {"blurred": blurred, "noisy": noisy, "dropped": dropped}.items():
        weak, strong = (measure(each) for each in versions)
        assert 1e-4 < weak["fid"] < strong["fid"], name
        assert weak["kid"] < strong["kid"], name
    assert measure(dropped[1])["recall"] < 0.9
    assert measure(dropped[1])["coverage"] < 0.9
