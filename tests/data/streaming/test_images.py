"""Images in tar shards are the same with any workers and processes and after a resume, and few shards are in use."""

from __future__ import annotations

import pickle
from itertools import islice

import numpy as np
import pytest
import torch

from ganblocks.data.dataset import ImagesInFiles
from ganblocks.data.loader import Shard, batches, sampler_of
from ganblocks.data.sources import open_data
from ganblocks.data.streaming.images import StreamedImages
from ganblocks.data.streaming.prefetch import ShardPrefetch
from ganblocks.errors import DataError
from ganblocks.metrics.references import RealImages
from tests.data.files import png, write_tar
from tests.data.streaming.conftest import SIZES, numbers_of, opened, state_sizes, stream_of, use_cache, write_shards

TOTAL = sum(SIZES)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_are_equal_with_any_workers_and_from_any_position(tars, workers, cache, monkeypatch):
    images = opened(tars, cond_dim=2)
    whole = stream_of(images, 14)
    use_cache(monkeypatch, cache / "of-another-machine")
    resumed = stream_of(opened(tars, cond_dim=2), 9, position=20, workers=workers)
    for one, other in zip(whole[5:], resumed, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def test_each_pass_has_every_image_once_with_its_class_and_caption(tars):
    for epoch in range(2):
        (batch,) = stream_of(opened(tars, cond_dim=2), 1, position=epoch * TOTAL, batch_size=TOTAL)
        assert sorted(numbers_of(batch)) == list(range(TOTAL))
        assert batch.labels.tolist() == [number % 2 for number in numbers_of(batch)]
    captioned = opened(tars, captions=True, cond_dim=32)
    (batch,) = stream_of(captioned, 1, batch_size=TOTAL)
    assert list(batch.captions) == [f"number {number}" for number in numbers_of(batch)]
    assert captioned.first_captions(3) == captioned.first_captions(3)
    assert set(captioned.first_captions(TOTAL)) == set(batch.captions)


def test_two_processes_share_each_batch(tars):
    images = opened(tars)
    parts = []
    for rank in range(2):
        stream = batches(images, sampler_of(images, 3), position=8, batch_size=6, shard=Shard(rank, 2))
        parts.append([numbers_of(batch) for batch in islice(stream, 5)])
    whole = [numbers_of(batch) for batch in stream_of(images, 5, position=8, batch_size=6)]
    assert [first + second for first, second in zip(*parts, strict=True)] == whole


def test_only_the_shards_in_use_are_read_and_indexed(tars, fetched, cache):
    state_sizes(tars)
    images = opened(tars)
    assert len(images) == TOTAL
    assert fetched == []
    order = sampler_of(images, 3)
    stream = batches(images, order, position=0, batch_size=1)
    for group in range(order.num_groups):
        for _ in range(order.order_of(0)[1][group] - order.order_of(0)[1][group - 1] * (group > 0)):
            next(stream)
        expected = [f"{shard:05}.tar" for each in range(group + 1) for shard in order.shards_of(0, each)]
        assert sorted(fetched) == sorted(expected)


def test_a_resumed_run_reads_the_shards_of_its_position_only(tars, fetched):
    state_sizes(tars)
    images = opened(tars)
    order = sampler_of(images, 3)
    place = order.place(20)
    stream_of(images, 1, position=20, batch_size=1)
    assert place.group == 2
    assert fetched[0] in {f"{shard:05}.tar" for shard in order.shards_of(0, 2)}
    assert len(fetched) == 1


def test_the_next_shards_are_fetched_in_the_background(tars, monkeypatch):
    state_sizes(tars)
    prefetched = []
    monkeypatch.setattr(ShardPrefetch, "announce", lambda self, numbers: prefetched.append(numbers))
    images = opened(tars)
    order = images.order(3)
    stream_of(images, 6)
    assert prefetched[0] == order.shards_of(0, 0) + order.shards_of(0, 1)


def test_a_damaged_image_is_replaced_by_the_next_and_named(tmp_path):
    images = opened(write_shards(tmp_path / "tars", i7=b"not an image"), cond_dim=2)
    (batch,) = stream_of(images, 1, batch_size=TOTAL)
    assert [tuple(each) for each in batch.skipped] == [("00001.tar/b/007.png", "is not an image")]
    assert sorted(numbers_of(batch)) == sorted([*range(7), 8, *range(8, TOTAL)])


def test_a_cut_shard_is_named_and_its_missing_images_are_skipped(tars):
    state_sizes(tars)
    path = tars / "00002.tar"
    path.write_bytes(path.read_bytes()[:6400])
    (batch,) = stream_of(opened(tars), 1, batch_size=TOTAL)
    paths = {each.path for each in batch.skipped}
    assert paths <= {f"00002.tar, image {number}" for number in range(6)}
    assert {each.reason for each in batch.skipped} == {
        "is missing: the shard has 3 of the stated 6 images: 00002.tar: is cut short"
    }
    (tars / "sizes.json").unlink()
    images = opened(tars)
    assert [tuple(each) for each in images.skipped] == [("00002.tar", "is cut short")]
    assert len(images) == TOTAL - len(paths)


def test_images_without_class_or_caption_are_skipped(tmp_path):
    files = [
        ("a/0.png", png(0)),
        ("a/0.txt", "zero"),
        ("1.png", png(8)),
        ("1.json", '{"width": 3}'),
        ("b/2.png", png(16)),
    ]
    folder = write_tar(tmp_path / "tars" / "0.tar", [*files, ("b/2.txt", b"\xff\xfe\xff")]).parent
    (batch,) = stream_of(opened(folder, cond_dim=2), 1, batch_size=3)
    assert {tuple(each) for each in batch.skipped} == {
        ("0.tar/1.png", "has no class: neither a .cls file nor a folder named after it")
    }
    images = opened(folder, captions=True, cond_dim=32)
    (batch,) = stream_of(images, 1, batch_size=3)
    assert set(batch.captions) == {"zero"}
    assert {each.path for each in batch.skipped} == {"0.tar/1.png", "0.tar/b/2.png"}
    assert images.first_captions(4) == ["zero"] * 4


def test_class_files_number_the_classes(tmp_path):
    files = [(f"{index}.{suffix}", data) for index in range(4) for suffix, data in
             (("png", png(8 * index)), ("cls", str(index % 3)))]  # fmt: skip
    folder = write_tar(tmp_path / "tars" / "0.tar", files).parent
    images = opened(folder, cond_dim=3)
    assert images.class_names == ("0", "1", "2")
    (batch,) = stream_of(images, 1)
    assert batch.labels.tolist() == [number % 3 for number in numbers_of(batch)]
    with pytest.raises(DataError, match=r"has 3 classes \(0, 1, 2\), the generator's cond_dim is 2"):
        opened(folder, cond_dim=2)
    write_tar(folder / "1.tar", [("cat/0.png", png(0))])
    with pytest.raises(DataError, match=r"some classes are numbers in \.cls files, others are folders"):
        opened(folder, cond_dim=2)


def test_what_cannot_be_streamed_is_refused_with_the_cure(tars, tmp_path):
    with pytest.raises(DataError, match="--data shards: path: is required; files: no such option; valid: path"):
        open_data("shards?files=4", resolution=8)
    with pytest.raises(DataError, match=r"nowhere: there is no \.tar"):
        opened(tmp_path / "nowhere")
    write_tar(tmp_path / "text" / "0.tar", [("readme.md", "no images")])
    with pytest.raises(DataError, match="no sample with an image in 1 shard"):
        opened(tmp_path / "text")
    write_tar(tmp_path / "loose" / "0.tar", [("0.png", png(0))])
    with pytest.raises(DataError, match="has no classes; the generator takes 2"):
        opened(tmp_path / "loose", cond_dim=2)
    state_sizes(tars, s0=4)
    with pytest.raises(DataError, match=r"00000\.tar has 5 images, and 4 were stated; correct or remove"):
        stream_of(opened(tars), 6)


def test_many_images_in_tars_are_streamed_without_being_asked_for(tars, monkeypatch):
    monkeypatch.setattr("ganblocks.data.sources.STREAMED_FROM", TOTAL)
    monkeypatch.setattr("ganblocks.data.streaming.open.STREAMED_FROM", TOTAL)
    assert isinstance(open_data(tars, resolution=8, in_memory=0), ImagesInFiles)
    monkeypatch.setattr("ganblocks.data.sources.STREAMED_FROM", TOTAL - 1)
    by_index = open_data(tars, resolution=8)
    assert isinstance(by_index, StreamedImages)
    monkeypatch.setattr("ganblocks.data.streaming.open.STREAMED_FROM", TOTAL - 1)
    state_sizes(tars)
    monkeypatch.setattr("ganblocks.data.sources.list_prepared", None)  # nothing is listed
    stated = open_data(tars, resolution=8)
    assert isinstance(stated, StreamedImages)
    assert stated.fingerprint == by_index.fingerprint


def test_the_fingerprint_depends_on_shards_sizes_and_order(tars, tmp_path):
    fingerprint = opened(tars).fingerprint
    assert opened(write_shards(tmp_path / "copy")).fingerprint == fingerprint
    assert open_data(f"shards?path={tars}&together=3", resolution=8).fingerprint != fingerprint
    assert opened(write_shards(tmp_path / "other", i3=png(1) * 400)).fingerprint != fingerprint


def test_a_data_set_can_be_sent_to_another_process(tars):
    images = opened(tars, captions=True, cond_dim=32)
    images.read(0)
    copy = pickle.loads(pickle.dumps(images))
    assert torch.equal(copy.read(TOTAL - 1), images.read(TOTAL - 1))
    assert copy.captions[4] == ("number 4",)


def test_metrics_read_each_shard_once_and_few_shards_for_a_subset(tars, fetched):
    state_sizes(tars)
    images = open_data(f"shards?path={tars}&together=1", resolution=8)
    real = RealImages(images, (8, 8), "lanczos")
    shades = torch.cat([batch[:, 0, 0, 0] for batch in real.batches(range(TOTAL), 3)])
    assert shades.tolist() == [8 * number for number in range(TOTAL)]
    assert fetched == [f"{number:05}.tar" for number in range(len(SIZES))]
    subset = RealImages(images, (8, 8), "lanczos", num=5, seed=1)
    assert len(set(subset.indices)) == 5
    assert len({np.searchsorted(images.ends, index, side="right") for index in subset.indices}) <= 3


def test_classes_for_generated_images_have_the_frequencies_of_the_data(tars):
    images = opened(tars, cond_dim=2)
    drawn = images.draw_classes(26_000, np.random.default_rng(0))
    assert abs(drawn.count(0) / 26_000 - 13 / 25) < 0.01
    captions = opened(tars, captions=True, cond_dim=32).draw_captions(40, np.random.default_rng(0))
    assert set(captions) == {f"number {number}" for number in range(TOTAL)}


def test_a_reference_records_the_split_that_the_path_names(tars):
    folder = tars.rename(tars.parent / "held-out")
    assert RealImages(opened(folder), (8, 8), "lanczos").record["split"] == "held-out"
    assert RealImages(open_data("digits", resolution=8, image_channels=1), (8, 8), "lanczos").record["split"] == "train"
