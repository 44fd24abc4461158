"""Interpolation passes through its seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from ganblocks.errors import UsageError
from ganblocks.sampling.conditions import one_hot
from ganblocks.sampling.generate import generate, styles
from ganblocks.sampling.grids import to_picture
from ganblocks.sampling.interpolation import interpolate, interpolate_styles, save_interpolation, slerp


@pytest.mark.parametrize("space", ["w", "z"])
def test_interpolation_passes_through_its_seeds(generator, conditional, space):
    for model in (generator, conditional):
        c = None if not model.cond_dim else one_hot([2], 3)[0]
        images = interpolate(model, [3, 4, 5], 4, space=space, c=c)
        assert len(images) == 9
        torch.testing.assert_close(images[[0, 4, 8]], generate(model, [3, 4, 5], c=c))
        steps = (images[1:] - images[:-1]).flatten(1).norm(dim=1)
        assert steps.min() > 0
    with pytest.raises(ValueError, match="needs two seeds or more"):
        interpolate(generator, [3])


def test_slerp_stays_on_the_sphere():
    a, b = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    torch.testing.assert_close(slerp(a, b, 0.5), torch.full((2,), math.sqrt(2)))
    torch.testing.assert_close(slerp(a, b, 1 / 3), torch.tensor([math.sqrt(3), 1.0]))
    torch.testing.assert_close(slerp(a, a, 0.3), a)
    assert slerp(a, -a, 0.3).isfinite().all()


@pytest.mark.parametrize("space", ["w", "z"])
def test_interpolation_passes_through_the_conditions_of_its_seeds(conditional, space):
    c = one_hot([0, 2], 3)
    ws = interpolate_styles(conditional, [7, 8], 3, space=space, c=c)
    assert len(ws) == 4
    torch.testing.assert_close(ws[[0, 3]], styles(conditional, [7, 8], c=c))
    assert not torch.allclose(ws[1], interpolate_styles(conditional, [7, 8], 3, space=space, c=c[0])[1])


@pytest.mark.parametrize("suffix", [".gif", ".apng", ".webp"])
def test_an_interpolation_becomes_an_animation(model, tmp_path, suffix):
    record = save_interpolation(
        model, [1, 2, 3], tmp_path / f"interpolation{suffix}", steps=2, loop=True, fps=20, scale=2
    )
    assert record["images"] == 6
    animation = Image.open(tmp_path / f"interpolation{suffix}")
    assert (animation.n_frames, animation.size) == (6, (32, 32))
    assert animation.info["loop"] == 0
    animation.seek(1)
    animation.load()
    assert animation.info["duration"] == 50
    assert [path.name for path in tmp_path.iterdir() if path.suffix == suffix] == [f"interpolation{suffix}"]


def test_an_interpolation_becomes_a_grid_or_frames(model, tmp_path, conditional):
    save_interpolation(model, [1, 2], tmp_path / "interpolation.png", steps=3, scale=1)
    assert Image.open(tmp_path / "interpolation.png").height == 2 * 16 + 2
    record = save_interpolation(model, [1, 2], tmp_path / "frames", steps=3, space="z", classes=[0, 1])
    assert record["conditions"] == ["class 0", "class 1"]
    frames = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert frames == ["frame00000.png", "frame00001.png", "frame00002.png", "frame00003.png"]
    last = np.asarray(Image.open(tmp_path / "frames" / frames[-1])).astype(int)
    expected = np.asarray(to_picture(generate(conditional, [2], c=one_hot([1], 3))[0], conditional.value_range)).astype(
        int
    )
    assert np.abs(last - expected).max() <= 1


def test_invalid_interpolations_are_refused(model, tmp_path):
    with pytest.raises(UsageError, match="--seeds 4: interpolation needs two seeds or more"):
        save_interpolation(model, [4], tmp_path / "interpolation.gif")
    with pytest.raises(UsageError, match="2 conditions for 3 seeds"):
        save_interpolation(model, [1, 2, 3], tmp_path / "interpolation.gif", classes=[0, 1])
    with pytest.raises(UsageError, match=r"\.avi files cannot be written; use \.gif, \.apng"):
        save_interpolation(model, [1, 2], tmp_path / "interpolation.avi")
