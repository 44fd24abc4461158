"""`pytest tests/golden --golden DIR`: every fixture folder below DIR becomes a test named model/name."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden", type=Path, default=HERE / "data", help="a folder of golden fixtures (default: tests/golden/data)"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden_folder" not in metafunc.fixturenames:
        return
    chosen = metafunc.config.getoption("--golden")
    folders = sorted(path.parent for path in chosen.rglob("fixture.json"))
    if not folders:
        raise pytest.UsageError(f"no golden fixtures below {chosen}: no fixture.json in any folder there")
    metafunc.parametrize("golden_folder", folders, ids=[f"{folder.parent.name}/{folder.name}" for folder in folders])
