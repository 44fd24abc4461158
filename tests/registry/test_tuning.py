"""kernel="tune": the fastest kernel, measured once for this machine and cached."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import torch
from torch import Tensor

from blocks.attention.dense import DenseAttention
from registry import Kernel, KernelError, Op, cache_folder, recording, second_order, tuning

RUNS: list[str] = []


class Reference(Kernel):
    op, name, second_order = "triple", "reference", True

    def run(self, x: Tensor) -> Tensor:
        RUNS.append(self.name)
        return x * 3


class Slow(Kernel):
    """Has a higher priority and is slower."""

    op, name, priority = "triple", "slow", 10

    def run(self, x: Tensor) -> Tensor:
        RUNS.append(self.name)
        if not torch.compiler.is_compiling():
            time.sleep(0.01)
        return x * 3


class Broken(Slow):
    """Supports each call and raises."""

    name, priority = "broken", 20

    def run(self, x: Tensor) -> Tensor:
        raise RuntimeError("illegal instruction")


triple = Op("triple", Reference(), Slow())


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    Op.ops["attention"].bind()  # compiles its kernel in C++ into the usual cache, if no test has done so
    monkeypatch.setenv(cache_folder.CACHE_ENV, str(tmp_path / "cache"))
    RUNS.clear()
    yield tmp_path / "cache"
    torch._dynamo.reset()


def kernel_that_runs(bound, x: Tensor) -> str:
    with recording() as calls:
        torch.testing.assert_close(bound(x), 3 * x)
    ((_, name),) = calls
    return name


def cached(cache: Path) -> dict:
    (path,) = cache.iterdir()  # no temporary files are left
    return json.loads(path.read_text())


def test_the_fastest_kernel_runs_and_is_cached_on_disk(cache):
    assert kernel_that_runs(triple.bind(), torch.ones(4)) == "slow"
    assert kernel_that_runs(triple.bind("tune"), torch.ones(4)) == "reference"
    (key, choice), *others = cached(cache)["choices"].items()
    assert not others
    assert key == "triple(torch.float32 4 cpu) differentiated once by slow or reference"
    assert choice["kernel"] == "reference"
    assert choice["seconds"]["reference"] < choice["seconds"]["slow"]
    RUNS.clear()
    assert kernel_that_runs(triple.bind("tune"), torch.ones(4)) == "reference"
    assert RUNS == ["reference"]  # from the cache


def test_each_kind_of_call_has_its_own_entry(cache):
    bound = triple.bind("tune")
    for x in (torch.ones(4), torch.ones(2, 2), torch.ones(4).double(), torch.ones(4).requires_grad_()):
        bound(x)
        bound(x)
    with torch.no_grad():
        bound(torch.ones(4).requires_grad_())  # needs no gradient: the same entry as the first call
    assert len(cached(cache)["choices"]) == 4


def test_under_second_order_only_kernels_with_second_derivatives_are_measured(cache):
    with second_order():
        assert kernel_that_runs(triple.bind("tune"), torch.ones(4).requires_grad_()) == "reference"
    assert RUNS == ["reference"]  # the only one, so nothing is measured
    assert not cache.exists()


def test_results_of_another_machine_or_library_are_not_used(cache, monkeypatch):
    triple.bind("tune")(torch.ones(4))
    (path,) = cache.iterdir()
    identity = tuning.identity()
    assert identity["threads"] == torch.get_num_threads()
    assert identity["versions"]["torch"] == metadata.version("torch")
    monkeypatch.setattr(tuning, "identity", lambda libraries=(): identity | {"processor": "another"})
    assert tuning.Choices().kernels == {}
    assert tuning.Choices().path != path
    monkeypatch.setattr(tuning, "identity", lambda libraries=(): identity)
    assert len(tuning.Choices().kernels) == 1
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"identity": identity | {"processor": "another"}}))  # a copied file
    assert tuning.Choices().kernels == {}


def test_the_versions_of_libraries_with_kernels_are_part_of_the_identity():
    assert set(tuning.identity({"natten"})["versions"]) == {"ganblocks", "torch", "natten"}


def entry(**changes) -> str:
    """A file with one call, changed."""
    key = "triple(torch.float32 4 cpu) differentiated once by slow or reference"
    choice = {"kernel": "slow", "seconds": {"slow": 0.1, "reference": 0.2}} | changes
    return json.dumps({"identity": tuning.identity(), "choices": {key: choice}})


DAMAGED = {
    "empty": "",
    "cut": "{",
    "a list": "[]",
    "deep": "[" * 100_000,
    "a long integer": "[" + "1" * 5000 + "]",
    "no choices": '{"identity": 1, "choices": 3}',
    "an unknown kernel": entry(kernel="gone"),
    "a kernel that is a list": entry(kernel=[]),
    "seconds that are text": entry(seconds={"slow": "fast"}),
    "seconds that are a number": entry(seconds=1),
    "seconds of an unknown kernel": entry(seconds={"gone": 1}),
    "huge": " " * (tuning.MAX_BYTES + 1),
    "not text": "\udcff",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_ignored_with_the_reason(cache, content):
    triple.bind("tune")(torch.ones(4))
    (path,) = cache.iterdir()
    path.write_text(content, errors="surrogateescape")
    with pytest.warns(UserWarning, match=r"kernels-\w+.json is ignored, and kernels are measured again: ."):
        assert kernel_that_runs(triple.bind("tune"), torch.ones(4)) == "reference"
    assert len(cached(cache)["choices"]) == 1


def test_a_choice_that_another_process_made_is_used(cache):
    cache.mkdir()
    tuning.Choices().path.write_text(entry())
    assert kernel_that_runs(triple.bind("tune"), torch.ones(4)) == "slow"
    assert RUNS == ["slow"]


def test_entries_of_another_process_are_kept(cache):
    first, second = triple.bind("tune"), triple.bind("tune")
    first(torch.ones(4))
    second(torch.ones(5))
    assert len(cached(cache)["choices"]) == 2


def test_without_a_writable_folder_kernels_are_measured_again(cache):
    cache.write_text("a file where the folder should be")
    assert kernel_that_runs(triple.bind("tune"), torch.ones(4)) == "reference"


def test_a_kernel_that_raises_is_not_selected(monkeypatch):
    monkeypatch.setattr(triple, "kernels", lambda: [Broken(), *triple._own])
    assert kernel_that_runs(triple.bind("tune"), torch.ones(4)) == "reference"


def test_measuring_changes_no_recording_gradient_or_random_state():
    x, state = torch.ones(4).requires_grad_(), torch.get_rng_state()
    with recording() as calls:
        triple.bind("tune")(x).sum().backward()
    assert calls == [("triple", "reference")]
    torch.testing.assert_close(x.grad, torch.full((4,), 3.0))
    assert torch.equal(torch.get_rng_state(), state)


def test_tracing_uses_the_cache_or_the_highest_priority():
    bound = triple.bind("tune")
    bound(torch.ones(4))
    compiled = torch.compile(lambda x: bound(x), fullgraph=True, backend="eager")
    with recording() as calls:
        compiled(torch.ones(4))
        compiled(torch.ones(6))
        triple.bind("tune")(torch.ones(6, device="meta"))
    assert [name for _, name in calls] == ["reference", "slow", "slow"]


def test_blocks_have_it_as_an_option(cache):
    block = DenseAttention(8, (3, 4), num_heads=2, kernel="tune")
    x = torch.randn(2, 3, 4, 8, generator=torch.Generator().manual_seed(0))
    y = block(x)
    assert len(cached(cache)["choices"]) == 1
    torch.testing.assert_close(torch.compile(block, fullgraph=True, backend="aot_eager", dynamic=True)(x), y)
    assert block.spec.to_dict()["kernel"] == "tune"


def test_an_error_lists_all_reasons_against_a_call():
    class Picky(Reference):
        def unsupported(self, x: Tensor) -> list[str]:
            return ["is picky"]

    with pytest.raises(KernelError, match="reference: is picky"):
        Op("pickier", Picky()).bind("tune")(torch.ones(3))
