"""The command and `train` tune glibc's allocator, unless the environment configures it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ganblocks import train
from ganblocks.errors import RunError

PROGRAM = """
import resource
from ganblocks.malloc import tune_malloc
print(tune_malloc())
size = 2**26
b"x" * size
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    b"x" * size
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is on Linux only")
def test_memory_of_temporaries_is_mapped_once():
    pages = {}
    for kept in (True, False):
        environment = {"PATH": "/usr/bin"} | ({} if kept else {"MALLOC_ARENA_MAX": "4"})
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True, timeout=600
        )
        tuned, pages[kept] = ended.stdout.split()
        if kept and tuned == "False":
            pytest.skip("the allocator is not glibc's")
        assert tuned == str(kept)
    assert int(pages[True]) * 10 < int(pages[False])


def test_train_tunes_the_allocator(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(sys.modules["ganblocks.training.train"], "tune_malloc", lambda: calls.append("tuned"))
    with pytest.raises(RunError, match="nothing to train"):
        train(out=tmp_path)
    assert calls == ["tuned"]
