"""C++ kernels: compiled once per machine; where that fails, the kernel is unavailable with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from blocks.ops import native
from blocks.ops.attention import attention
from blocks.ops.neighborhood_attention import neighborhood_attention
from blocks.ops.neighborhood_attention.compiled import SOURCE, Compiled
from blocks.ops.neighborhood_attention.lane_layout import lane_layout
from ganblocks.worker import run_in_worker
from registry import recording

needs_compiler = pytest.mark.skipif(native.compiler() is None, reason="there is no C++ compiler")
TWICE = 'extern "C" int twice(int x) { return 2 * x; }\n'


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GANBLOCKS_CACHE", str(tmp_path / "cache"))
    forget()
    yield
    forget()


def forget() -> None:
    """Forget compilers, folders and libraries, as a new process."""
    for function in (native.compiler, native.library, native.unavailable, native.cache_problem, native._private):
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


def test_nothing_is_compiled_for_calls_that_a_kernel_does_not_serve(monkeypatch):
    q = torch.randn(1, 2, 9, 12, requires_grad=True)
    with monkeypatch.context() as patch:
        patch.setattr(native, "library", lambda source: pytest.fail(f"{source.name} is compiled"))
        for dtype in (torch.float32, torch.bfloat16):
            attention.bind()(*[q.to(dtype)] * 3)
        attention.bind()(*[torch.randn(1, 2, 9, 32)] * 3, bias=torch.zeros(2, 9, 9))


@needs_compiler
def test_the_error_of_the_compiler_is_the_reason(source):
    source.write_text("this is not C++\n")
    reason = native.unavailable(source)
    assert "failed" in reason
    assert "error" in reason


@needs_compiler
def test_without_a_cache_each_process_compiles_for_itself(source, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GANBLOCKS_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match=r"not cached, each process compiles them: .*Not a directory"):
        assert native.library(source).twice(2) == 4
    assert any("Not a directory" in problem for problem in native.problems())


@needs_compiler
@pytest.mark.parametrize("home", ["", "relative"])
def test_without_a_home_folder_kernels_are_compiled_too(source, tmp_path, monkeypatch, home):
    monkeypatch.delenv("GANBLOCKS_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", home)
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="there is no home folder"):
        assert native.library(source).twice(2) == 4


@needs_compiler
@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_libraries_in_a_folder_that_others_can_write_to_are_not_loaded(source, tmp_path, mode):
    native.library(source)
    folder = tmp_path / "cache" / "compiled"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(mode)
    forget()
    with pytest.warns(UserWarning, match=f"can be written by other users .mode {mode:o}.; delete it, or set"):
        library = native.library(source)
    assert library.twice(2) == 4
    assert not library._name.startswith(str(tmp_path))


@needs_compiler
def test_a_library_that_others_can_write_to_is_compiled_again(source, tmp_path):
    native.library(source)
    (kept,) = (tmp_path / "cache" / "compiled").iterdir()
    kept.chmod(0o777)
    native.library.cache_clear()
    assert native.library(source).twice(2) == 4
    assert kept.stat().st_mode & 0o777 == 0o700


def load(source: Path) -> int:
    return native.library(source).twice(4)


@needs_compiler
@pytest.mark.parametrize("damage", [lambda content: content[:5000], lambda content: b"", lambda content: content[::-1]])
def test_a_damaged_library_is_compiled_again(source, tmp_path, damage):
    assert run_in_worker(load, (source,), "loading ended the process") == 8
    (kept,) = (tmp_path / "cache" / "compiled").iterdir()
    whole = kept.read_bytes()
    kept.unlink()
    kept.write_bytes(damage(whole))
    assert run_in_worker(load, (source,), "loading ended the process") == 8  # a truncated library would: SIGBUS
    assert kept.read_bytes() == whole


@needs_compiler
@pytest.mark.parametrize(
    ("value", "reason"), [("'g++", "No closing quotation"), ("no-such-compiler -x", "not a program")]
)
def test_a_compiler_that_does_not_exist_is_replaced(source, monkeypatch, value, reason):
    monkeypatch.setenv("CXX", value)
    assert native.library(source).twice(2) == 4
    (problem,) = native.problems()
    assert reason in problem


def test_a_program_that_is_no_compiler_is_the_reason(source, monkeypatch):
    monkeypatch.setenv("CXX", "false")
    assert native.unavailable(source) == "false failed: "


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
def test_the_result_does_not_depend_on_the_number_of_threads():
    q, k, v = torch.randn(3, 2, 15, 19, 3, 12, generator=torch.Generator().manual_seed(0)).unbind()
    bias = torch.randn(3, 13, 13, generator=torch.Generator().manual_seed(1))
    expected = neighborhood_attention.reference.run(q, k, v, kernel_size=7, dilation=2, bias=bias)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            y = Compiled().run(q, k, v, kernel_size=7, dilation=2, bias=bias)
            torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-6)
    finally:
        torch.set_num_threads(before)


def test_the_source_is_part_of_the_package():
    assert SOURCE.exists()
