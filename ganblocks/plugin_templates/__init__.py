"""Writes a package of a plugin: an example block of a family, its registration, tests, and optionally a kernel.

The examples are the Python files in the folders here. In a package, the class and kind of its block take the place of
`Example` and "example".
"""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path
from typing import NamedTuple

from ganblocks.errors import UsageError
from registry.errors import nearest

FOLDER = Path(__file__).parent
DOCUMENTS = FOLDER / "documents"
FAMILIES = {path.stem.replace("_", "-"): path for path in sorted(FOLDER.glob("*/*.py"))}
NAME = r"[a-z][a-z0-9]*(-[a-z0-9]+)*"


class Names(NamedTuple):
    """What the parts of a package are called.

    Args:
        distribution: The package as pip calls it: `spiral-attention`.
        family: The family of its block: `attention`.
    """

    distribution: str
    family: str

    @property
    def package(self) -> str:
        """The package as Python calls it: `spiral_attention`."""
        return self.distribution.replace("-", "_")

    @property
    def kind(self) -> str:
        """The name without the family at its end, `spiral`; of a preset the whole name."""
        return self.distribution if self.is_document else self.distribution.removesuffix(f"-{self.family}")

    @property
    def block(self) -> str:
        """The block's class: `SpiralAttention`."""
        return "".join(word.capitalize() for word in self.distribution.split("-"))

    @property
    def module(self) -> str:
        """The file of the block: `attention`; of a document, `presets`."""
        return "presets" if self.is_document else self.family.replace("-", "_")

    @property
    def is_document(self) -> bool:
        """Whether the package has a preset in place of a block: of whole networks and trainings."""
        return FAMILIES[self.family].parent == DOCUMENTS

    @property
    def function(self) -> str:
        """The function of a preset."""
        return self.kind.replace("-", "_")


def write_package(name: str, family: str, folder: Path, *, kernel: bool = False) -> list[Path]:
    """Write the package into a folder of its name. Nothing is overwritten.

    Args:
        name: Lower-case words joined by hyphens, such as "spiral-attention".
        family: Family of its block; of gan, generator, discriminator and multi-stage the package has a preset.
        folder: Where its folder is made.
        kernel: Whether it also has a kernel.

    Returns:
        The files.

    Raises:
        UsageError: The name or family is not valid, or the folder exists.
        OSError: A file cannot be written.
    """
    if family not in FAMILIES:
        raise UsageError(f"--family: unknown family {family!r}; {nearest(family, list(FAMILIES))}")
    if not re.fullmatch(NAME, name):
        raise UsageError(f"NAME: {name!r} is not lower-case words joined by hyphens, such as spiral-attention")
    names = Names(name, family)
    if keyword.iskeyword(names.package) or importlib.util.find_spec(names.package) is not None:
        raise UsageError(f"NAME: Python has a module {names.package} already; take another name, such as my-{name}")
    root = folder / name
    if root.exists():
        raise UsageError(f"{root} exists already, and nothing is overwritten; take another name, or move it away")
    files = contents(names, kernel=kernel)
    (root / names.package).mkdir(parents=True)
    (root / "tests").mkdir()
    for path, text in files.items():
        (root / path).write_text(text, encoding="utf-8")
    return [root / path for path in files]


def contents(names: Names, *, kernel: bool = False) -> dict[str, str]:
    """The files of a package by their paths in its folder."""
    package = names.package
    files = {
        "pyproject.toml": _pyproject(names),
        "README.md": _readme(names, kernel=kernel),
        f"{package}/__init__.py": _init(names),
        f"{package}/{names.module}.py": _filled(FAMILIES[names.family], names),
        f"{package}/plugin.py": _plugin(names, kernel=kernel),
        f"{package}/py.typed": "",
        f"tests/test_{package}.py": _test(names),
    }
    if kernel:
        files[f"{package}/kernel.py"] = _filled(FOLDER / "kernel.py", names)
    return files


def _filled(template: Path, names: Names) -> str:
    """An example with the names of a package."""
    text = template.read_text(encoding="utf-8")
    title = names.kind.replace("-", " ").capitalize()
    text = re.sub(r'\A"""Example', f'"""{title}', text)
    text = text.replace("ExampleKernel", f"{names.block}Kernel").replace("class Example(", f"class {names.block}(")
    text = text.replace('"example"', f'"{names.kind}"').replace("kernel: example", f"kernel: {names.kind}")
    return text.replace("def example(", f"def {names.function}(")


def _pyproject(names: Names) -> str:
    what = "preset" if names.is_document else names.family.replace("-", " ")
    return f'''[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{names.distribution}"
version = "0.1.0"
description = "The {what} {names.kind} for ganblocks"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["ganblocks"]

[project.optional-dependencies]
test = ["pytest>=8.3"]

[project.entry-points.ganblocks]
{names.distribution} = "{names.package}.plugin"

[tool.setuptools]
packages = ["{names.package}"]

[tool.setuptools.package-data]
{names.package} = ["py.typed"]

[tool.ruff]
line-length = 120

[tool.ruff.lint.isort]
known-first-party = ["assemblies", "blocks", "ganblocks", "registry", "{names.package}"]
'''


def _init(names: Names) -> str:
    if names.is_document:
        return f'"""The preset {names.kind} for ganblocks."""\n'
    return f'''"""The {names.family} `{names.kind}` for ganblocks."""

from {names.package}.{names.module} import {names.block}

__all__ = ["{names.block}"]
'''


def _plugin(names: Names, *, kernel: bool) -> str:
    if names.is_document:
        imported = [f"from {names.package}.presets import {names.function}"]
        hooks = [_hook("presets", "RegisterPreset", f'"{names.kind}", {names.function}')]
    else:
        imported = [f"from {names.package}.{names.module} import {names.block}"]
        hooks = [_hook("blocks", "Register", names.block)]
    if kernel:
        imported.append(f"from {names.package}.kernel import {names.block}Kernel")
        hooks.append(_hook("kernels", "RegisterKernel", f"{names.block}Kernel()"))
    types = ["RegisterPreset" if names.is_document else "Register", *["RegisterKernel"] * kernel]
    imported.append(f"from registry import {', '.join(sorted(types))}, hookimpl")
    header = '"""Registers what this package adds to ganblocks; an entry point in pyproject.toml names this file."""'
    imports = "\n".join(sorted(imported))
    return f"{header}\n\nfrom __future__ import annotations\n\n{imports}\n\n\n" + "\n\n".join(hooks)


def _hook(name: str, protocol: str, values: str) -> str:
    return f"@hookimpl\ndef register_{name}(register: {protocol}) -> None:\n    register({values})\n"


def _test(names: Names) -> str:
    if names.is_document:
        imported = ["from assemblies import check, read"]
        size = ", resolution=(16, 16)" if names.family == "discriminator" else ""
        name, code = "the_preset_fits_together", f'check(read("{names.kind}"){size})'
    else:
        imported = [f"from {names.package} import {names.block}", "from registry import catalogue"]
        name = "a_spec_names_the_block_by_its_kind"
        code = f'catalogue.get("{names.family}", "{names.kind}").block is {names.block}'
    imports = "\n".join(sorted([*imported, "from ganblocks.testing import plugin_checks"]))
    return f'''"""The package passes the conformance suite. Test here too that it computes what its paper says."""

from __future__ import annotations

import pytest

{imports}


@pytest.mark.parametrize("check", plugin_checks("{names.distribution}"), ids=str)
def test_the_plugin_conforms(check):
    check()


def test_{name}():
    assert {code}
'''


def _readme(names: Names, *, kernel: bool) -> str:
    if names.is_document:
        command, use = "ganblocks presets", f"Commands take the preset by its name: `ganblocks show {names.kind}`."
    else:
        command, use = f"ganblocks blocks {names.kind}", f"Documents take it by its kind: `{{kind: {names.kind}}}`."
    more = "; `kernel.py` is a kernel of the op attention" if kernel else ""
    return f"""# {names.distribution}

The {"preset" if names.is_document else names.family} `{names.kind}` for ganblocks. {use}

    pip install --editable ".[test]"
    {command}
    pytest

- `{names.package}/{names.module}.py` contains it{more}.
- `{names.package}/plugin.py` registers what the package has; an entry point in `pyproject.toml` names this file.
- The tests run the conformance suite of ganblocks, as does `pytest --ganblocks-plugin {names.distribution}`.
"""
