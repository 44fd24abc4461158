"""The catalogue: who gives what, what happens when plugins clash or fail, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from blocks.families import Attention
from registry import DuplicateError, Kernel, Origin, catalogue, hookimpl
from registry.catalogue import Catalogue
from tests.toys import ToyAttention, ToyPlugin, installed

Fresh = Callable[..., Catalogue]


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fresh]:
    """Makes a catalogue that finds, beside what is installed, the distributions given as {name: (entry, module)}."""
    made: list[str] = []
    monkeypatch.delenv("GANBLOCKS_PLUGINS", raising=False)

    def install(**plugins: tuple[str, str]) -> Catalogue:
        for name, (entry, module) in plugins.items():
            (tmp_path / f"{name}.py").write_text(module)
            about = tmp_path / f"{name}-1.5.dist-info"
            about.mkdir()
            (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
            (about / "entry_points.txt").write_text(f"[ganblocks]\n{entry} = {name}\n")
            made.append(name)
        monkeypatch.syspath_prepend(tmp_path)
        return Catalogue()

    yield install
    for name in made:
        sys.modules.pop(name, None)


PLUGIN = """
from registry import hookimpl
from blocks.families import Attention

class Mine(Attention, kind="{kind}"):
    "Mine."

    def __init__(self, dim: int, *, reach: int = 1) -> None:
        super().__init__()

@hookimpl
def register_blocks(register):
    register(Mine)
"""


def test_importing_the_registry_needs_no_torch_and_is_fast() -> None:
    code = "import time, sys; start = time.process_time(); import registry; took = time.process_time() - start; "
    code += "print(took, 'torch' in sys.modules)"
    seconds = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        took, torch_came_along = done.stdout.split()
        assert torch_came_along == "False"
        seconds.append(float(took))
    assert min(seconds) < 0.5


def test_every_entry_knows_who_gave_it() -> None:
    entry = catalogue.get("norm", "sln")
    assert entry is not None
    assert entry.origin.package == "ganblocks"
    assert entry.origin.version
    assert entry.summary.startswith("Self-modulated LayerNorm")
    assert "2107.04589" in entry.paper


def test_a_plugin_arrives_by_its_entry_point(fresh: Fresh) -> None:
    entry = fresh(their_package=("theirs", PLUGIN.format(kind="mine"))).get("attention", "mine")
    assert entry is not None
    assert entry.origin == Origin("theirs", "their_package", "1.5")


def test_a_clash_names_both_packages_every_time(fresh: Fresh, monkeypatch: pytest.MonkeyPatch) -> None:
    clashing = fresh(their_package=("theirs", PLUGIN.format(kind="hydra-na")))
    said = (
        r"attention kind 'hydra-na' is given by ganblocks .*again by their_package 1.5 \(their_package\); uninstall one"
    )
    for _ in range(2):
        with pytest.raises(DuplicateError, match=said):
            list(clashing.entries())
    monkeypatch.setenv("GANBLOCKS_PLUGINS", "")  # the way out that the message names
    assert clashing.get("attention", "hydra-na") is not None


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("from registry import hookimpl\n@hookimpl\ndef register_blocks(register): register(int)", "has no kind"),
    ],
)
def test_a_plugin_that_fails_is_reported_and_harms_nothing_else(fresh: Fresh, module: str, reason: str) -> None:
    found = fresh(broken=("a_broken_one", module), sound=("sound", PLUGIN.format(kind="mine")))
    assert found.get("norm", "sln") is not None
    assert found.get("attention", "mine") is not None
    assert list(found.failures) == ["a_broken_one (broken 1.5)"]
    assert reason in found.failures["a_broken_one (broken 1.5)"]
    assert "a plugin failed to load (a_broken_one (broken 1.5)), `ganblocks doctor` says why" in found.unknown(
        ["norm"], "x"
    )


@pytest.mark.parametrize(
    ("limit", "loaded"),
    [("plugin2", ["mine2"]), ("plugin1, plugin2", ["mine1", "mine2"]), ("", []), (None, ["mine1", "mine2"])],
)
def test_a_variable_limits_what_is_loaded(
    fresh: Fresh, monkeypatch: pytest.MonkeyPatch, limit: str | None, loaded: list[str]
) -> None:
    found = fresh(**{f"package{n}": (f"plugin{n}", PLUGIN.format(kind=f"mine{n}")) for n in (1, 2)})
    if limit is not None:
        monkeypatch.setenv("GANBLOCKS_PLUGINS", limit)
    assert [entry.block.kind for entry in found.entries() if entry.origin.package.startswith("package")] == loaded
    assert found.get("norm", "sln") is not None  # the project's own floors are never limited


def test_a_plugin_comes_and_goes_whole() -> None:
    class Other(Attention, kind="toy-attention"):
        """Has the same kind."""

        def __init__(self, dim: int) -> None:
            super().__init__()

    class Harmless(Attention, kind="harmless"):
        """Comes before the clash."""

        def __init__(self, dim: int) -> None:
            super().__init__()

    with installed(ToyAttention):
        assert catalogue.get("attention", "toy-attention") is not None
        with pytest.raises(
            DuplicateError,
            match=r"is given by toys\d+ \(tests\.toys\) and again by toys\d+ \(tests\.registry\.test_catalogue\)",
        ):
            catalogue.add_plugin(ToyPlugin(Harmless, Other))
        assert catalogue.get("attention", "harmless") is None
        catalogue.register(ToyAttention)  # again the same one: nothing to say
    assert catalogue.get("attention", "toy-attention") is None


class Fast(Kernel):
    op, name = "toy-op", "fast"


class PluginOfAll:
    """Gives a kernel and a preset."""

    __name__ = "plugin_of_all"

    def __init__(self) -> None:
        self.kernel = Fast()

    @hookimpl
    def register_kernels(self, register: Any) -> None:
        register(self.kernel)

    @hookimpl
    def register_presets(self, register: Any) -> None:
        register("a-preset", a_preset)


def a_preset() -> dict[str, Any]:
    return {"kind": "gan"}


def test_plugins_give_kernels_and_presets() -> None:
    plugin = PluginOfAll()
    catalogue.add_plugin(plugin, Origin("all", "a-package", "2"))
    try:
        assert catalogue.kernels("toy-op") == [plugin.kernel]
        assert catalogue.presets()["a-preset"]() == {"kind": "gan"}
        with pytest.raises(
            DuplicateError, match="kernel 'fast' of op toy-op is given by a-package 2 and again by other 3"
        ):
            catalogue.register_kernel(Fast(), Origin("other", "other", "3"))
        with pytest.raises(DuplicateError, match="preset 'a-preset' is given by a-package 2 and again by other 3"):
            catalogue.register_preset("a-preset", lambda: {}, Origin("other", "other", "3"))
    finally:
        catalogue.remove_plugin(plugin)
    assert catalogue.kernels("toy-op") == []
    assert "a-preset" not in catalogue.presets()


def test_what_is_no_block_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Attention.* has no kind: declare it as class Attention\(SomeFamily, kind="):
        catalogue.register(Attention)


def test_a_right_name_at_the_wrong_place_is_pointed_out() -> None:
    assert "('sln' is a kind of norm)" in catalogue.unknown(["attention"], "sln")
