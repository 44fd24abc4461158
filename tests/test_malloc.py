"""The command keeps large temporaries, unless the environment says how memory is allocated."""

from __future__ import annotations

import subprocess
import sys

import pytest

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


@pytest.mark.skipif(sys.platform != "linux", reason="about glibc")
def test_temporaries_are_mapped_once():
    pages = {}
    for kept in (True, False):
        environment = {"PATH": "/usr/bin"} | ({} if kept else {"MALLOC_ARENA_MAX": "4"})
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True, timeout=600
        )
        done, pages[kept] = ended.stdout.split()
        if kept and done == "False":
            pytest.skip("the allocator is not glibc's")
        assert done == str(kept)
    assert int(pages[True]) * 10 < int(pages[False])
