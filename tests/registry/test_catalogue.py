"""The catalogue: origins of entries, plugins that clash or fail, the cost of importing it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch

from assemblies import CheckpointError
from assemblies.conversion.read import form_of
from blocks.families import Attention
from registry import DuplicateError, Kernel, Origin, SpecValidationError, blocks_in, catalogue, hookimpl
from registry.catalogue import Catalogue
from registry.slots import SlotOf
from registry.spec_file import validate
from tests.toys import ToyAttention, ToyPlugin, added, installed

Fresh = Callable[..., Catalogue]


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fresh]:
    """Makes a catalogue of the installed plugins and of further distributions: name=(entry point, source of module)."""
    modules: list[str] = []
    monkeypatch.delenv("GANBLOCKS_PLUGINS", raising=False)

    def install(group: str = "ganblocks", **plugins: tuple[str, str]) -> Catalogue:
        for name, (entry, module) in plugins.items():
            (tmp_path / f"{name}.py").write_text(module)
            about = tmp_path / f"{name}-1.5.dist-info"
            about.mkdir()
            (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
            (about / "entry_points.txt").write_text(f"[{group}]\n{entry} = {name}\n")
            modules.append(name)
        monkeypatch.syspath_prepend(tmp_path)
        return Catalogue()

    yield install
    for name in modules:
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


def test_every_entry_has_its_origin() -> None:
    entry = catalogue.get("norm", "sln")
    assert entry is not None
    assert entry.origin.package == "ganblocks"
    assert entry.origin.version
    assert entry.summary.startswith("Self-modulated LayerNorm")
    assert "2107.04589" in entry.paper


def test_a_plugin_is_found_by_its_entry_point(fresh: Fresh) -> None:
    entry = fresh(their_package=("theirs", PLUGIN.format(kind="mine"))).get("attention", "mine")
    assert entry is not None
    assert entry.origin == Origin("theirs", "their_package", "1.5")


def test_a_kind_of_two_packages_is_written_with_the_package_in_front(
    fresh: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = PLUGIN.format(kind="mine")
    both = fresh(acme=("theirs", module), zenith=("zzz", module), sound=("sound", PLUGIN.format(kind="audio/sound")))
    message = (
        "attention kind 'mine' is provided by acme 1.5 and by zenith 1.5; write acme/mine or zenith/mine, or uninstall "
        "one: pip uninstall zenith"
    )
    for _ in range(2):
        with pytest.raises(DuplicateError, match=message):
            both.get("attention", "mine")
    assert both.conflicts == {"attention kind 'mine'": message}
    assert [each.kind for each in both.entries("attention") if each.origin.package in ("acme", "zenith")] == [
        "acme/mine",
        "zenith/mine",
    ]
    monkeypatch.setattr("registry.slots.catalogue", both)
    assert validate("audio/sound", Attention).to_dict() == {
        "kind": "audio/sound",
        "reach": 1,
    }  # others are not affected
    assert validate("audio/sound", Attention) == validate({"kind": "audio/sound"}, Attention).block.Spec()
    spec = validate({"kind": "zenith/mine", "reach": 3}, Attention)
    assert spec.block.__module__ == "zenith"
    assert spec.to_dict() == {"kind": "zenith/mine", "reach": 3}
    assert validate(spec.to_dict(), Attention) == spec
    with pytest.raises(SpecValidationError, match="write acme/mine or zenith/mine"):
        validate({"kind": "mine"}, Attention)


def test_a_kind_of_this_project_stays_its_own(fresh: Fresh) -> None:
    clashing = fresh(acme=("theirs", PLUGIN.format(kind="hydra-na")))
    ours, theirs = clashing.get("attention", "hydra-na"), clashing.get("attention", "acme/hydra-na")
    assert ours is not None
    assert ours.origin.package == "ganblocks"
    assert theirs is not None
    assert theirs.origin.package == "acme"
    (conflict,) = clashing.conflicts.values()
    assert conflict.endswith(
        "; hydra-na is that of ganblocks, and acme/hydra-na the other; or uninstall one: pip uninstall acme"
    )


def test_a_kind_is_found_by_its_name_alone_again_when_the_other_package_is_removed() -> None:
    loaded, toys = Catalogue(), [ToyPlugin(type("Toy", (ToyAttention,), {}, kind="toy")) for _ in range(2)]
    for package, toy in zip(("acme", "zenith"), toys, strict=True):
        loaded.add_plugin(toy, Origin(package, package, "1"))
    with pytest.raises(DuplicateError):
        loaded.get("attention", "toy")
    loaded.remove_plugin(toys[0])
    entry = loaded.get("attention", "toy")
    assert entry is not None
    assert entry.origin.package == "zenith"


def test_presets_kernels_and_commands_of_two_packages_have_the_package_in_front() -> None:
    loaded = Catalogue()
    kernels = [type("Fast", (Fast,), {})() for _ in range(2)]
    for package, kernel in zip(("acme", "zenith"), kernels, strict=True):
        origin = Origin(package, package, "1")
        loaded.register_kernel(kernel, origin)
        loaded.register_preset("a-preset", lambda: {}, origin)
    loaded.register_command("greet", greet, Origin("cli", "ganblocks", "1"))
    loaded.register_command("greet", lambda: None, Origin("acme", "acme", "1"))
    assert [kernel.name for kernel in loaded.kernels("toy-op")] == ["acme/fast", "zenith/fast"]
    assert [name for name in loaded.presets() if name.endswith("a-preset")] == ["acme/a-preset", "zenith/a-preset"]
    assert loaded.commands()["greet"] is greet
    assert "acme/greet" in loaded.commands()


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("from registry import hookimpl\n@hookimpl\ndef register_blocks(register): register(int)", "has no kind"),
        (
            "from registry import hookimpl\n@hookimpl\ndef register_block(register): pass",
            "hook 'register_block'",
        ),
        ("def register_blocks(register): pass", "TypeError: a_broken_one has no function with @hookimpl"),
        (
            "from registry import Kernel, hookimpl\n@hookimpl\ndef register_kernels(register):\n"
            "    register(type('Fast', (Kernel,), {'op': 'attention', 'name': 'fast'}))",
            "kernel 'fast' of op attention should be registered as instance, not as <class",
        ),
    ],
)
def test_a_plugin_that_fails_is_reported_and_does_not_affect_others(fresh: Fresh, module: str, reason: str) -> None:
    loaded = fresh(broken=("a_broken_one", module), sound=("sound", PLUGIN.format(kind="mine")))
    assert loaded.get("norm", "sln") is not None
    assert loaded.get("attention", "mine") is not None
    assert list(loaded.failures) == ["a_broken_one (broken 1.5)"]
    assert reason in loaded.failures["a_broken_one (broken 1.5)"]
    hint = "; plugins that failed to load (details: `ganblocks doctor`): a_broken_one (broken 1.5): "
    assert loaded.failed().startswith(hint)


@pytest.mark.parametrize(
    ("limit", "loaded"),
    [("plugin2", ["mine2"]), ("plugin1, plugin2", ["mine1", "mine2"]), ("", []), (None, ["mine1", "mine2"])],
)
def test_a_variable_selects_the_plugins_that_are_loaded(
    fresh: Fresh, monkeypatch: pytest.MonkeyPatch, limit: str | None, loaded: list[str]
) -> None:
    limited = fresh(**{f"package{n}": (f"plugin{n}", PLUGIN.format(kind=f"mine{n}")) for n in (1, 2)})
    if limit is not None:
        monkeypatch.setenv("GANBLOCKS_PLUGINS", limit)
    assert [entry.block.kind for entry in limited.entries() if entry.origin.package.startswith("package")] == loaded
    assert limited.get("norm", "sln") is not None  # the project's own plugins are always loaded


def test_a_plugin_is_added_and_removed_as_a_whole() -> None:
    class Other(Attention, kind="harmless"):
        """Has the same kind as another block of its package."""

        def __init__(self, dim: int) -> None:
            super().__init__()

    class Harmless(Attention, kind="harmless"):
        """Is registered before the duplicate."""

        def __init__(self, dim: int) -> None:
            super().__init__()

    with installed(ToyAttention):
        assert catalogue.get("attention", "toy-attention") is not None
        with pytest.raises(DuplicateError, match=r"kind 'harmless' is provided twice by acme 1 .*give one another"):
            catalogue.add_plugin(ToyPlugin(Harmless, Other), Origin("acme", "acme", "1"))
        assert catalogue.get("attention", "harmless") is None
        catalogue.register(ToyAttention)  # the same one again is no duplicate
    assert catalogue.get("attention", "toy-attention") is None


class Fast(Kernel):
    op, name = "toy-op", "fast"


class Layout(NamedTuple):
    """An importer that recognises checkpoints by one name."""

    form: str
    recognises: Callable[[frozenset[str]], bool] = lambda names: "theirs.weight" in names
    conversion: Callable[..., Any] = dict
    options: Mapping[str, str] = MappingProxyType({})
    roles: tuple[str, ...] = ("G",)


class PluginOfAll:
    """Registers a kernel, a preset, an importer and a command."""

    __name__ = "plugin_of_all"

    def __init__(self) -> None:
        self.kernel, self.importer = Fast(), Layout("their layout")

    @hookimpl
    def register_importers(self, register: Any) -> None:
        register(self.importer)

    @hookimpl
    def register_commands(self, register: Any) -> None:
        register("greet", greet)

    @hookimpl
    def register_kernels(self, register: Any) -> None:
        register(self.kernel)

    @hookimpl
    def register_presets(self, register: Any) -> None:
        register("a-preset", a_preset)


def a_preset() -> dict[str, Any]:
    return {"kind": "gan"}


def greet() -> None:
    """Greet."""


def test_plugins_register_kernels_presets_importers_and_commands() -> None:
    plugin = PluginOfAll()
    with added(plugin, Origin("all", "a-package", "2")):
        assert catalogue.kernels("toy-op") == [plugin.kernel]
        assert catalogue.presets()["a-preset"]() == {"kind": "gan"}
        assert catalogue.importers()[-1] is plugin.importer
        assert catalogue.commands()["greet"] is greet
        assert Origin("all", "a-package", "2") in catalogue.plugins()
    assert catalogue.kernels("toy-op") == []
    assert "a-preset" not in catalogue.presets()
    assert plugin.importer not in catalogue.importers()
    assert "greet" not in catalogue.commands()
    assert Origin("all", "a-package", "2") not in catalogue.plugins()


def test_an_importer_of_another_package_converts_checkpoints() -> None:
    tensors = {"theirs.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="unknown layout"):
        form_of(tensors, "their.pt")
    importer = Layout("their layout")
    plugin = PluginOfAll()
    plugin.importer = importer
    with added(plugin):
        assert form_of(tensors, "their.pt") is importer


COMMANDS = """
from registry import hookimpl

def greet() -> None:
    "Greet."

@hookimpl
def register_commands(register):
    register("greet", greet)
"""


def test_commands_load_without_torch_and_without_the_other_plugins(fresh: Fresh, tmp_path: Path) -> None:
    fresh("ganblocks.commands", their_commands=("theirs", COMMANDS))
    code = "import sys; from registry import catalogue; print('greet' in catalogue.commands(), 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True", "False"]


def test_a_command_of_the_same_name_leaves_the_others_as_they_are(fresh: Fresh, tmp_path: Path) -> None:
    fresh("ganblocks.commands", acme=("theirs", COMMANDS.replace('"greet"', '"train"')))
    done = subprocess.run(
        [sys.executable, "-m", "ganblocks", "--help"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "acme/train" in done.stdout
    assert "Greet." in done.stdout


def test_one_name_serves_both_entry_point_groups(fresh: Fresh, tmp_path: Path) -> None:
    both = fresh(their_package=("theirs", PLUGIN.format(kind="mine")))
    (tmp_path / "their_commands.py").write_text(COMMANDS)
    points = tmp_path / "their_package-1.5.dist-info" / "entry_points.txt"
    points.write_text(points.read_text() + "[ganblocks.commands]\ntheirs = their_commands\n")
    assert both.get("attention", "mine") is not None
    assert "greet" in both.commands()
    assert not both.failures
    sys.modules.pop("their_commands")


def test_the_project_finds_every_block_that_a_file_defines() -> None:
    collected = {*blocks_in("blocks.attention"), *blocks_in("blocks.norm")}
    assert collected == {entry.block for family in ("attention", "norm") for entry in catalogue.entries(family)}
    assert list(blocks_in("blocks.norm")) == list(blocks_in("blocks.norm"))
    assert not list(blocks_in("blocks.common"))


def test_a_class_that_is_not_a_block_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Attention.* has no kind: declare it as class Attention\(SomeFamily, kind="):
        catalogue.register(Attention)


def test_a_kind_of_another_family_is_pointed_out() -> None:
    message = "unknown attention 'sln', which is a kind of norm; valid: dense"
    assert SlotOf(Attention).unknown("sln").startswith(message)


def test_an_unknown_kind_has_the_nearest_valid_names() -> None:
    message = "unknown attention 'hidra-na'; did you mean 'hydra-na'?"
    assert SlotOf(Attention).unknown("hidra-na").startswith(message)
