"""Shards behind a web server, which fsspec opens with aiohttp."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from ganblocks.data.sources import open_data
from tests.data.streaming.conftest import SIZES, opened, stream_of


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def address(tars):
    pytest.importorskip("aiohttp")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tars)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_of_a_web_server_give_the_batches_of_local_ones(tars, address, workers):
    for one, other in zip(
        stream_of(opened(tars), 8), stream_of(opened(address + "/"), 8, workers=workers), strict=True
    ):
        assert torch.equal(one.images, other.images)


def test_one_shard_of_a_web_server_is_copied_or_streamed(tars, address, monkeypatch, tmp_path):
    monkeypatch.setenv("GANBLOCKS_CACHE", str(tmp_path / "copies"))
    copied = open_data(f"{address}/00002.tar", resolution=8)
    assert len(copied) == len(opened(f"{address}/00002.tar")) == SIZES[2]
    (copy,) = (tmp_path / "copies").rglob("*.tar")
    before = copy.stat().st_mtime_ns
    assert open_data(f"{address}/00002.tar", resolution=8).fingerprint == copied.fingerprint
    assert copy.stat().st_mtime_ns == before
