"""The floors of the house: imports go down only, and the ground floor needs no torch."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "registry": set(),
    "blocks": {"registry"},
    "assemblies": {"registry", "blocks"},
    "ganblocks": {"registry", "blocks", "assemblies"},
    "plugins": {"registry", "blocks"},  # and nobody imports plugins
}
FILES = [path for floor in MAY_IMPORT for path in sorted((ROOT / floor).rglob("*.py"))]
SUITE = ROOT / "registry" / "testing"  # the conformance suite runs blocks; nothing of the registry imports it
NAMES = [str(path.relative_to(ROOT)) for path in FILES]


def imports(nodes: Iterator[ast.AST] | list[ast.stmt]) -> Iterator[str]:
    """The modules that import statements among some nodes name, absolutely."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that a reader sees where from"
            assert node.module is not None
            yield node.module


def at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported: not those inside functions or `if TYPE_CHECKING`."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from at_import(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in ("body", "orelse", "finalbody", "handlers"):
                yield from at_import(getattr(node, part, []))


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_imports_go_down_only(path: Path) -> None:
    floor = path.relative_to(ROOT).parts[0]
    named = {name.partition(".")[0] for name in imports(ast.walk(ast.parse(path.read_text())))}
    above = (named & {*MAY_IMPORT, "tests", "examples", "benchmarks"}) - MAY_IMPORT[floor] - {floor}
    assert not above, f"{floor} imports {', '.join(sorted(above))}"


def test_the_registry_imports_no_torch() -> None:
    allowed = {"registry", "pluggy", "pydantic", "pydantic_core", "yaml"} | sys.stdlib_module_names
    for path in FILES:
        if path.is_relative_to(ROOT / "registry") and not path.is_relative_to(SUITE):
            tree = ast.parse(path.read_text())
            named = {name.partition(".")[0] for name in imports(at_import(tree.body))}
            assert named <= allowed, f"{path} imports {named - allowed}"
            assert not any(name.startswith("registry.testing") for name in imports(ast.walk(tree)))


def test_what_the_code_imports_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = {Requirement(line).name for line in [*project["dependencies"], *extras["natten"], *extras["xformers"]]}
    known = {name.replace("_", "-").lower() for name in declared} | {"pydantic-core"}  # it comes with pydantic
    distributions = metadata.packages_distributions()
    for path in FILES:
        if path.is_relative_to(SUITE):
            continue
        for name in {name.partition(".")[0] for name in imports(ast.walk(ast.parse(path.read_text())))}:
            givers = {giver.replace("_", "-").lower() for giver in distributions.get(name, [name])}
            assert name in sys.stdlib_module_names or name in MAY_IMPORT or givers & known, f"{path} imports {name}"


def test_every_top_level_package_has_its_floor() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages - {"tests", "benchmarks", "examples"} == set(MAY_IMPORT)
