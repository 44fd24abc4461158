"""The benchmark of data loaders compares loaders that deliver the same pixels."""

from __future__ import annotations

import torch

from benchmarks import data


def test_loaders_deliver_the_same_images_and_are_timed_in_turns(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "BATCH", 4)
    monkeypatch.setattr(data, "RESOLUTION", 16)
    threads = torch.get_num_threads()
    delivered = {}
    for source in data.write(tmp_path, 24, 8):
        rows = list(data.measured(source, 24, 1))
        timed = {row["loader"] for row in rows if "rate" in row}
        assert {row["images/s"] for row in rows if "rate" in row} == {"per core", "of a worker"}
        assert all(row["rate"] > 0 and row["times ganblocks"] > 0 for row in rows if "rate" in row)
        assert {"ganblocks", "torchvision"} <= timed | {row["loader"] for row in rows if "skipped" in row}
        for name in timed - {"torchvision tensors"}:
            images = torch.cat(list(data.CANDIDATES[name](source, 0)))
            delivered[source.store, name] = {image.numpy().tobytes() for image in images}
    assert len(delivered) >= 3
    assert len(set(map(frozenset, delivered.values()))) == 1
    assert torch.get_num_threads() == threads
