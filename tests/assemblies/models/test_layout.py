"""Each model has one folder, whose files import each other in one direction only."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from assemblies import models
from registry import catalogue

ROOT = Path(models.__file__).parent
FOLDERS = sorted(path for path in ROOT.iterdir() if (path / "__init__.py").is_file())
FILES = sorted(path for folder in FOLDERS for path in folder.rglob("*.py"))
FORBIDDEN = {
    "architecture": ("presets", "checkpoint", "training"),
    "presets": ("checkpoint", "weight_rules"),
    "checkpoint": ("presets", "training"),
    "training": ("presets", "checkpoint"),
}


def imported_modules(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_model_has_its_three_files(folder: Path) -> None:
    for name in ("architecture.py", "presets.py", "checkpoint.py"):
        assert (folder / name).is_file(), f"{folder.name} has no {name}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_architecture_presets_and_checkpoint_import_in_one_direction(file: Path) -> None:
    forbidden = FORBIDDEN.get(file.stem, ())
    wrong = [
        name for name in imported_modules(file) if name.startswith("assemblies.models.") and name.endswith(forbidden)
    ]
    assert not forbidden or wrong == []


def test_presets_are_registered_from_the_folders_and_need_no_arguments() -> None:
    presets = models.presets()
    assert set(presets) <= set(catalogue.presets())
    assert len(presets) >= 29
    for name, function in presets.items():
        required = [
            parameter.name
            for parameter in inspect.signature(function).parameters.values()
            if parameter.default is parameter.empty
        ]
        assert required == [], f"the preset {name} needs arguments"


def test_importers_are_collected_from_the_folders() -> None:
    forms = [importer.form for importer in models.importers()]
    assert len(forms) == len(set(forms)) == 15
