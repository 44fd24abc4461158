"""`pytest tests/golden --golden DIR` runs each fixture folder below DIR as a test named model/name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.fixtures import DATA


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", type=Path, default=DATA, help="folder of golden fixtures (default: tests/golden/data)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden_folder" not in metafunc.fixturenames:
        return
    root = metafunc.config.getoption("--golden")
    folders = sorted(path.parent for path in root.rglob("fixture.json"))
    if not folders:
        raise pytest.UsageError(f"no golden fixtures below {root}: no folder there has a fixture.json")
    metafunc.parametrize("golden_folder", folders, ids=[f"{folder.parent.name}/{folder.name}" for folder in folders])
