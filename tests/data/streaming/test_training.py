"""A training on streamed images continues bit for bit where it was stopped."""

from __future__ import annotations

from tests import tiny
from tests.data.streaming.conftest import use_cache
from tests.training.conftest import different_tensors, run

DOCUMENT = tiny.gan(generator=tiny.GENERATOR | {"cond_dim": 2})


def test_a_resumed_training_on_shards_is_equal_bit_for_bit(tars, tmp_path, monkeypatch):
    options = {"data": f"shards?path={tars}&together=2", "flip": True}
    whole = run(DOCUMENT, tmp_path / "whole", steps=4, **options)
    assert len(whole.log) == 2
    run(DOCUMENT, tmp_path / "parts", steps=2, **options)
    use_cache(monkeypatch, tmp_path / "of-another-machine")
    parts = run(None, tmp_path / "parts", steps=4, resume=True, data=None, workers=1)
    assert different_tensors(tmp_path / "parts", tmp_path / "whole") == []
    assert parts.log[-1]["losses"] == whole.log[-1]["losses"]
