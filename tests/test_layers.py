"""The layers: which package and which folder may import which, what needs torch, and how large files may be."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
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
    "plugins": {"registry", "blocks", "assemblies"},  # and no package imports plugins
}
FOLDERS = (
    "",
    "data",
    "sampling",
    "latents",
    "metrics",
    "training",
    "testing",
    "plugin_templates",
    "publishing",
    "cli",
)  # a folder imports from those before it
API = {"ganblocks/__init__.py", "ganblocks/__main__.py"}  # above all folders
FILES = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]
NAMES = [str(path.relative_to(ROOT)) for path in FILES]
SUITE = ROOT / "registry" / "testing"  # the conformance suite imports torch; nothing else in registry imports the suite
MAX_LINES = 300
MAX_FILES = 16


def imports(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The modules that import statements name, with the imported name: `from a import b` gives `a.b`."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported: not those inside functions or `if TYPE_CHECKING`."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from at_import(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in ("body", "orelse", "finalbody", "handlers"):
                yield from at_import(getattr(node, part, []))


def packages(names: Iterable[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def folder_of(module: str) -> str:
    """The folder of ganblocks that a module belongs to; empty for the modules directly in ganblocks."""
    part = module.split(".")[1]
    return part if part in FOLDERS else ""


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_packages_import_in_one_direction(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    imported = packages(imports(ast.walk(ast.parse(path.read_text()))))
    above = (imported & {*MAY_IMPORT, "tests", "examples", "benchmarks"}) - MAY_IMPORT[package] - {package}
    assert not above, f"{package} imports {', '.join(sorted(above))}"


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("ganblocks/") and name not in API])
def test_folders_of_ganblocks_import_in_one_direction(name: str) -> None:
    folder = folder_of(name.removesuffix(".py").replace("/", "."))
    imported = {each for each in imports(ast.walk(ast.parse((ROOT / name).read_text()))) if each[:10] == "ganblocks."}
    above = [each for each in imported if FOLDERS.index(folder_of(each)) > FOLDERS.index(folder)]
    assert not above, f"{name} imports {', '.join(sorted(above))}; the order of the folders is {', '.join(FOLDERS[1:])}"


def test_every_folder_of_ganblocks_has_its_layer() -> None:
    folders = {path.parent.name for path in (ROOT / "ganblocks").glob("*/__init__.py")}
    assert folders == set(FOLDERS[1:])


def test_the_registry_imports_no_torch() -> None:
    allowed = {"registry", "pluggy", "pydantic", "pydantic_core", "yaml"} | sys.stdlib_module_names
    for path in FILES:
        if path.is_relative_to(ROOT / "registry") and not path.is_relative_to(SUITE):
            tree = ast.parse(path.read_text())
            imported = packages(imports(at_import(tree.body)))
            assert imported <= allowed, f"{path} imports {imported - allowed}"
            assert not any(name.startswith("registry.testing") for name in imports(ast.walk(tree)))


@pytest.mark.parametrize("statement", ["import ganblocks", "import registry", "import ganblocks.cli.app"])
def test_imports_without_torch(statement: str) -> None:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"torch", "numpy"} & set(done.stdout.split())


def test_what_the_code_imports_is_declared_and_what_is_required_is_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    optional = [line for name, lines in extras.items() if name != "dev" for line in lines]
    declared = {Requirement(line).name for line in [*project["dependencies"], *optional]}
    known = {name.replace("_", "-").lower() for name in declared}
    known |= {"pydantic-core", "annotated-types", "triton"}  # dependencies of pydantic, and of torch for CUDA
    known |= {"pytest"}  # it imports ganblocks/testing/pytest_plugin.py itself
    distributions = metadata.packages_distributions()
    used = {"timm", "open-clip-torch", "torch-fidelity"}  # plugins import these by names that are strings
    for path in FILES:
        if path.is_relative_to(SUITE):
            continue
        for name in packages(imports(ast.walk(ast.parse(path.read_text())))):
            providers = {provider.replace("_", "-").lower() for provider in distributions.get(name, [name])}
            assert name in sys.stdlib_module_names or name in MAY_IMPORT or providers & known, f"{path} imports {name}"
            used |= providers
    required = {Requirement(line).name.replace("_", "-").lower() for line in project["dependencies"]}
    assert required <= used, f"nothing imports {', '.join(required - used)}"


def test_every_package_has_its_layer() -> None:
    names = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert names - {"tests", "benchmarks", "examples"} == set(MAY_IMPORT)


def test_files_are_short() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in zip(NAMES, FILES, strict=True)}
    long = [f"{name} ({length})" for name, length in lengths.items() if length > MAX_LINES]
    assert not long, f"more than {MAX_LINES} lines: {', '.join(long)}"


def test_folders_are_small() -> None:
    counts = Counter(path.parent.relative_to(ROOT) for path in FILES)
    large = [f"{folder} ({count})" for folder, count in counts.items() if count > MAX_FILES]
    assert not large, f"more than {MAX_FILES} files: {', '.join(large)}"
