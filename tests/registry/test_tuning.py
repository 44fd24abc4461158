"""kernel="tune": the quickest kernel, measured once for this machine, and remembered."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from blocks.attention.dense import DenseAttention
from registry import Kernel, KernelError, Op, recording, second_order, tuning

RUNS: list[str] = []


class Reference(Kernel):
    op, name, second_order = "triple", "reference", True

    def run(self, x: Tensor) -> Tensor:
        RUNS.append(self.name)
        return x * 3


class Slow(Kernel):
    """Preferred, and slower."""

    op, name, priority = "triple", "slow", 10

    def run(self, x: Tensor) -> Tensor:
        RUNS.append(self.name)
        if not torch.compiler.is_compiling():
            time.sleep(0.01)
        return x * 3


class Broken(Slow):
    """Says that it can, and cannot."""

    name, priority = "broken", 20

    def run(self, x: Tensor) -> Tensor:
        raise RuntimeError("illegal instruction")


triple = Op("triple", Reference(), Slow())


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setenv(tuning.CACHE, str(tmp_path / "kept"))
    RUNS.clear()
    yield tmp_path / "kept"
    torch._dynamo.reset()


def ran(bound, x: Tensor) -> str:
    with recording() as calls:
        torch.testing.assert_close(bound(x), 3 * x)
    ((_, name),) = calls
    return name


def kept(cache: Path) -> dict:
    (path,) = cache.iterdir()  # and nothing half-written beside it
    return json.loads(path.read_text())


def test_the_quickest_runs_and_is_remembered_on_disk(cache):
    assert ran(triple.bind(), torch.ones(4)) == "slow"
    assert ran(triple.bind("tune"), torch.ones(4)) == "reference"
    (asked, choice), *others = kept(cache)["choices"].items()
    assert not others
    assert asked == "triple(torch.float32 4 cpu) differentiated once by slow or reference"
    assert choice["kernel"] == "reference"
    assert choice["seconds"]["reference"] < choice["seconds"]["slow"]
    RUNS.clear()
    assert ran(triple.bind("tune"), torch.ones(4)) == "reference"
    assert RUNS == ["reference"]  # read, not measured


def test_each_kind_of_call_is_measured_by_itself(cache):
    bound = triple.bind("tune")
    for x in (torch.ones(4), torch.ones(2, 2), torch.ones(4).double(), torch.ones(4).requires_grad_()):
        bound(x)
        bound(x)
    with torch.no_grad():
        bound(torch.ones(4).requires_grad_())  # no gradient is wanted: the first call again
    assert len(kept(cache)["choices"]) == 4


def test_under_second_order_only_kernels_that_have_it_are_measured(cache):
    with second_order():
        assert ran(triple.bind("tune"), torch.ones(4).requires_grad_()) == "reference"
    assert RUNS == ["reference"]  # the only one: nothing to measure
    assert not cache.exists()


def test_another_machine_or_library_is_never_consulted(cache, monkeypatch):
    triple.bind("tune")(torch.ones(4))
    (path,) = cache.iterdir()
    mine = tuning.identity()
    assert mine["threads"] == torch.get_num_threads()
    assert mine["versions"]["torch"] == torch.__version__
    monkeypatch.setattr(tuning, "identity", lambda libraries=(): mine | {"processor": "another"})
    assert tuning.Choices().kernels == {}
    assert tuning.Choices().path != path
    monkeypatch.setattr(tuning, "identity", lambda libraries=(): mine)
    assert len(tuning.Choices().kernels) == 1
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"identity": mine | {"processor": "another"}}))  # copied over by somebody
    assert tuning.Choices().kernels == {}


def test_the_versions_of_libraries_that_give_kernels_are_part_of_the_identity():
    assert set(tuning.identity({"natten"})["versions"]) == {"ganblocks", "torch", "natten"}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"choices": {}}', '{"identity": 1, "choices": 3}'])
def test_a_spoiled_file_is_as_good_as_none(cache, content):
    triple.bind("tune")(torch.ones(4))
    (path,) = cache.iterdir()
    path.write_text(content)
    assert ran(triple.bind("tune"), torch.ones(4)) == "reference"
    assert len(kept(cache)["choices"]) == 1


def test_what_another_process_added_stays(cache):
    first, second = triple.bind("tune"), triple.bind("tune")
    first(torch.ones(4))
    second(torch.ones(5))
    assert len(kept(cache)["choices"]) == 2


def test_a_folder_that_cannot_be_written_to_only_costs_measuring(cache):
    cache.write_text("a file where the folder should be")
    assert ran(triple.bind("tune"), torch.ones(4)) == "reference"


def test_the_folder_follows_the_variables(monkeypatch):
    monkeypatch.setenv(tuning.CACHE, "/somewhere")
    assert tuning.folder() == Path("/somewhere")
    monkeypatch.delenv(tuning.CACHE)
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert tuning.folder() == Path("/caches/ganblocks")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert tuning.folder() == Path.home() / ".cache/ganblocks"


def test_a_kernel_that_raises_is_not_chosen(monkeypatch):
    monkeypatch.setattr(triple, "kernels", lambda: [Broken(), *triple._own])
    assert ran(triple.bind("tune"), torch.ones(4)) == "reference"


def test_measuring_is_not_recorded_and_leaves_gradients_and_random_numbers_alone():
    x, state = torch.ones(4).requires_grad_(), torch.get_rng_state()
    with recording() as calls:
        triple.bind("tune")(x).sum().backward()
    assert calls == [("triple", "reference")]
    torch.testing.assert_close(x.grad, torch.full((4,), 3.0))
    assert torch.equal(torch.get_rng_state(), state)


def test_tracing_takes_what_is_remembered_or_the_preferred():
    bound = triple.bind("tune")
    bound(torch.ones(4))
    compiled = torch.compile(lambda x: bound(x), fullgraph=True, backend="eager")
    with recording() as calls:
        compiled(torch.ones(4))
        compiled(torch.ones(6))
        triple.bind("tune")(torch.ones(6, device="meta"))
    assert [name for _, name in calls] == ["reference", "slow", "slow"]


def test_blocks_take_it_as_an_option(cache):
    block = DenseAttention(8, (3, 4), num_heads=2, kernel="tune")
    x = torch.randn(2, 3, 4, 8, generator=torch.Generator().manual_seed(0))
    y = block(x)
    assert len(kept(cache)["choices"]) == 1
    torch.testing.assert_close(torch.compile(block, fullgraph=True, backend="aot_eager", dynamic=True)(x), y)
    assert block.spec.to_dict()["kernel"] == "tune"


def test_a_call_that_nothing_can_serve_has_its_reasons():
    class Picky(Reference):
        def unsupported(self, x: Tensor) -> list[str]:
            return ["is picky"]

    with pytest.raises(KernelError, match="reference: is picky"):
        Op("pickier", Picky()).bind("tune")(torch.ones(3))
