"""Samples in a grid or a folder."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest
from PIL import Image

from assemblies import save_model
from ganblocks.errors import DataError
from ganblocks.sampling.conditions import one_hot
from ganblocks.sampling.generate import generate
from ganblocks.sampling.samples import arrangement, save_samples


def test_samples_are_written_as_a_grid_or_into_a_folder(tmp_path, model, conditional):
    save_samples(tmp_path, [3, 10], tmp_path / "new" / "grid.png", scale=1)
    assert Image.open(tmp_path / "new" / "grid.png").width > 34 + len("seeds 3, 10")
    save_samples(tmp_path, [3, 10], tmp_path / "new" / "grid.png")
    assert 512 <= Image.open(tmp_path / "new" / "grid.png").width < 700
    save_samples(tmp_path, [3, 10], tmp_path / "each", classes=[1])
    assert sorted(path.name for path in (tmp_path / "each").iterdir()) == ["seed0003.png", "seed0010.png"]
    expected = generate(conditional, [10], c=one_hot([1], 3)).mul(255).round().clamp(0, 255)[0].permute(1, 2, 0)
    np.testing.assert_allclose(np.asarray(Image.open(tmp_path / "each" / "seed0010.png")), expected.numpy(), atol=1)
    with pytest.raises(DataError, match="--class 3: there is no such class; the model takes classes 0 to 2"):
        save_samples(tmp_path, [0], tmp_path / "grid.png", classes=[3])


def test_several_classes_make_a_row_each(model, tmp_path, conditional):
    record = save_samples(model, [3, 4], tmp_path / "grid.png", classes=[0, 1, 2], scale=2)
    assert (record["images"], record["conditions"]) == (6, ["class 0", "class 1", "class 2"])
    picture = Image.open(tmp_path / "grid.png")
    assert 3 * 32 + 4 < picture.height < 3 * 32 + 30, "the columns have labels"
    save_samples(model, [3], tmp_path / "each", classes=[0, 2])
    names = sorted(path.name for path in (tmp_path / "each").iterdir())
    assert names == ["condition0-seed0003.png", "condition1-seed0003.png"]


def test_classes_have_the_names_of_the_data(tmp_path, conditional):
    named = copy.deepcopy(conditional)
    named.name_classes(["cat", "dog", "red panda"])
    save_model(tmp_path / "model.safetensors", named)
    record = save_samples(tmp_path, [3], tmp_path / "names.png", classes="red panda, 0-1")
    assert record["conditions"] == ["red panda", "cat", "dog"]
    save_samples(tmp_path, [3], tmp_path / "numbers.png", classes=[2, 0, 1])
    pictures = [Image.open(tmp_path / f"{name}.png").tobytes() for name in ("names", "numbers")]
    assert pictures[0] == pictures[1]
    for classes, message in (
        ("panda", "--class panda: there is no such class; the model takes classes 0 to 2; did you mean 'red panda'?"),
        ("3", "--class 3: there is no such class; the model takes classes 0 to 2"),
    ):
        with pytest.raises(DataError, match=re.escape(message)):
            save_samples(tmp_path, [3], tmp_path / "grid.png", classes=classes)
    for classes in ("cat,,dog", "2-1"):
        with pytest.raises(ValueError, match="classes"):
            save_samples(tmp_path, [3], tmp_path / "grid.png", classes=classes)


@pytest.mark.parametrize(
    ("seeds", "names", "rows"),
    [
        (range(6), [""], ["seeds 0-2", "seeds 3-5"]),
        ([1, 5, 7, 8], [""], ["seeds 1, 5", "seeds 7-8"]),
        ([4, 9], ["class 2"], ["class 2\nseeds 4, 9"]),
        ([4], ["class 2"], None),
        ([4, 5], ["a", "b"], ["a", "b"]),
    ],
)
def test_rows_are_labelled_with_seeds_or_conditions(seeds, names, rows):
    assert arrangement(seeds, names).get("row_labels") == rows
