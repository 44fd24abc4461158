"""C++ kernels: compiled once per machine; where that fails, the kernel is unavailable with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from blocks.ops import native
from blocks.ops.neighborhood_attention import neighborhood_attention
from blocks.ops.neighborhood_attention.compiled import SOURCE, Compiled
from blocks.ops.neighborhood_attention.lane_layout import lane_layout
from registry import recording

needs_compiler = pytest.mark.skipif(native.compiler() is None, reason="there is no C++ compiler")
TWICE = 'extern "C" int twice(int x) { return 2 * x; }\n'


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GANBLOCKS_CACHE", str(tmp_path / "cache"))
    for function in (native.compiler, native.library, native.unavailable):
        function.cache_clear()
    yield
    for function in (native.compiler, native.library, native.unavailable):
        function.cache_clear()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "twice.cpp"
    path.write_text(TWICE)
    return path


@needs_compiler
def test_a_source_is_compiled_once_and_then_loaded_from_disk(source, tmp_path, monkeypatch):
    assert native.library(source).twice(21) == 42
    (kept,) = (tmp_path / "cache" / "compiled").iterdir()
    native.library.cache_clear()
    monkeypatch.setattr(native, "_compile", lambda *_: pytest.fail("compiled again"))
    assert native.library(source).twice(4) == 8
    assert kept.name.startswith("twice-")


@needs_compiler
def test_a_changed_source_is_compiled_again(source):
    assert native.library(source).twice(1) == 2
    source.write_text(TWICE.replace("2 * x", "3 * x"))
    native.library.cache_clear()
    assert native.library(source).twice(1) == 3


def test_without_a_compiler_the_kernel_is_unavailable_and_another_runs(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert "no C++ compiler" in Compiled().unavailable()
    q = torch.randn(1, 24, 24, 1, 8)
    with recording() as ran:
        neighborhood_attention(q, q, q, kernel_size=3)
    assert ran == [("neighborhood_attention", "tiled")]


@needs_compiler
def test_the_error_of_the_compiler_is_the_reason(source):
    source.write_text("this is not C++\n")
    reason = native.unavailable(source)
    assert "failed" in reason
    assert "error" in reason


@needs_compiler
def test_a_cache_that_cannot_be_written_is_the_reason(source, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GANBLOCKS_CACHE", str(tmp_path / "file"))
    assert "cannot be written to" in native.unavailable(source)


@needs_compiler
def test_float32_on_a_cpu_runs_the_compiled_kernel():
    q = torch.randn(1, 24, 24, 1, 8)
    with recording() as ran:
        neighborhood_attention(q, q, q, kernel_size=3)
        neighborhood_attention(q.double(), q.double(), q.double(), kernel_size=3)
    assert [kernel for _, kernel in ran] == ["compiled", "tiled"]


@pytest.mark.parametrize(
    ("width", "kernel_size", "dilation"), [(64, 7, 1), (64, 7, 8), (65, 7, 3), (9, 3, 3), (7, 7, 1)]
)
def test_the_keys_of_every_lane_are_in_one_load(width, kernel_size, dilation):
    layout = lane_layout(width, kernel_size, dilation)
    assert sorted(layout.column[layout.column >= 0].tolist()) == list(range(width))
    loaded = (layout.load_start[:, None] + layout.permutation).flatten()
    used = layout.column >= 0
    assert torch.equal(loaded[used], layout.window_start[used])
    assert layout.permutation.min() >= 0
    assert layout.permutation.max() < 16


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_result_does_not_depend_on_the_number_of_threads(threads):
    q, k, v = torch.randn(3, 2, 15, 19, 3, 12, generator=torch.Generator().manual_seed(0)).unbind()
    bias = torch.randn(3, 13, 13, generator=torch.Generator().manual_seed(1))
    expected = neighborhood_attention.reference.run(q, k, v, kernel_size=7, dilation=2, bias=bias)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        y = Compiled().run(q, k, v, kernel_size=7, dilation=2, bias=bias)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-6)


def test_the_source_is_part_of_the_package():
    assert SOURCE.exists()
