"""Snapshots: the last ones and those at every so many images are kept, also by a resumed run."""

from __future__ import annotations

import pytest

from assemblies import parse
from assemblies.model_file import read_metadata
from assemblies.training_options import Keep
from ganblocks.training.run.snapshots import Snapshots
from ganblocks.training.train import train
from tests import tiny


def names(folder):
    return [float(path.name.removesuffix("kimg.safetensors")) for path in sorted((folder / "snapshots").glob("*"))]


def simulate(folder, keep, steps, start=0, size=100, log_every=200):
    """Steps of `size` images with a log line every `log_every` images."""
    snapshots = Snapshots(folder, keep)
    for step in range(start, steps):
        before, images = step * size, (step + 1) * size
        logged = images // log_every > before // log_every
        snapshots.step(before, images, logged=logged, write=lambda path: path.write_text("model"))


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (Keep(), None),
        (Keep(last=3), [1.6, 1.8, 2.0]),
        (Keep(every_kimg=0.5), [0.5, 1.0, 1.5, 2.0]),
        (Keep(last=2, every_kimg=0.7), [0.7, 1.4, 1.8, 2.0]),
    ],
)
def test_what_is_kept(tmp_path, keep, expected):
    simulate(tmp_path, keep, 20)
    if expected is None:
        assert not (tmp_path / "snapshots").exists()
    else:
        assert names(tmp_path) == expected


def test_a_resumed_run_keeps_the_same(tmp_path):
    keep = Keep(last=2, every_kimg=0.7)
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    simulate(tmp_path / "whole", keep, 20)
    for start, end in [(0, 9), (7, 13), (13, 20)]:
        simulate(tmp_path / "parts", keep, end, start)
    assert names(tmp_path / "whole") == names(tmp_path / "parts")


def test_a_training_keeps_the_snapshots_of_its_document(tmp_path):
    document = tiny.gan(keep={"last": 1, "every_kimg": 0.016})
    train(document, "digits", tmp_path, kimg=0.04, log_every_kimg=0.008, quiet=True, device="cpu")
    assert names(tmp_path) == [0.016, 0.032, 0.04]
    for path in (tmp_path / "snapshots").iterdir():
        images = read_metadata(path)["extra"]["images"]
        assert path.name.startswith(f"{images / 1000:010.3f}")
    assert parse(document).keep == Keep(last=1, every_kimg=0.016)
