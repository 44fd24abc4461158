"""Cached lists: used while they are valid, and made anew when plugins, their files or other states change."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ganblocks import json_cache
from registry import Origin, Register, hookimpl
from registry.catalogue import Catalogue


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The calls of `describe`; the catalogue is not loaded, and the cache is empty."""
    monkeypatch.setenv("GANBLOCKS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(json_cache, "catalogue", Catalogue())
    return []


def described(calls: list[int], **options: Any) -> dict[str, Any]:
    def describe() -> dict[str, Any]:
        calls.append(len(calls))
        return {"blocks": [len(calls)]}

    return json_cache.cached("catalogue", describe, **options)


def test_the_catalogue_is_described_once(calls: list[int], tmp_path: Path) -> None:
    assert described(calls) == described(calls) == {"blocks": [1]}
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["catalogue.json"]


@pytest.mark.parametrize("content", ["", "[" * 100_000, "{}", '{"key": 3}', "[]"])
def test_a_damaged_file_is_replaced(calls: list[int], tmp_path: Path, content: str) -> None:
    described(calls)
    (tmp_path / "cache" / "catalogue.json").write_text(content)
    assert described(calls) == described(calls) == {"blocks": [2]}


def test_other_plugins_and_changed_files_make_it_anew(
    calls: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described(calls)
    site = tmp_path / "site"
    about = site / "their_package-1.5.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.5\n")
    (about / "entry_points.txt").write_text("[ganblocks]\ntheirs = their_listed_plugin\n")
    (site / "their_listed_plugin.py").write_text("")
    monkeypatch.syspath_prepend(site)
    assert described(calls) == described(calls) == {"blocks": [2]}
    (site / "their_listed_plugin.py").write_text("# changed")
    assert described(calls) == {"blocks": [3]}
    monkeypatch.setenv("GANBLOCKS_PLUGINS", "")
    assert described(calls) == {"blocks": [4]}


def test_another_state_and_a_refresh_describe_anew(calls: list[int]) -> None:
    assert described(calls, state=["2 GPUs"]) == described(calls, state=["2 GPUs"]) == {"blocks": [1]}
    assert described(calls, state=["1 GPU"]) == {"blocks": [2]}
    assert described(calls, state=["1 GPU"], refresh=True) == {"blocks": [3]}
    assert described(calls, state=["1 GPU"]) == {"blocks": [3]}


def test_what_is_not_worth_a_file_is_described_each_time(calls: list[int]) -> None:
    described(calls, keep=lambda data: False)
    assert described(calls) == {"blocks": [2]}


def test_failures_and_a_loaded_catalogue_are_not_cached(calls: list[int], tmp_path: Path) -> None:
    json_cache.catalogue.failures["broken (broken 1.0)"] = "ImportError"
    described(calls)
    assert not (tmp_path / "cache").exists()
    json_cache.catalogue.failures.clear()
    described(calls)

    class Plugin:
        @hookimpl
        def register_blocks(self, register: Register) -> None:
            assert register is not None

    json_cache.catalogue.add_plugin(Plugin(), Origin("blocks", "ganblocks", "1"))
    assert described(calls) == {"blocks": [3]}


def test_without_a_folder_that_can_be_written_it_is_described_each_time(
    calls: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GANBLOCKS_CACHE", str(tmp_path / "file"))
    assert described(calls) == {"blocks": [1]}
    assert described(calls) == {"blocks": [2]}


def test_the_file_is_json_of_the_key_and_the_data(calls: list[int], tmp_path: Path) -> None:
    described(calls)
    path = tmp_path / "cache" / "catalogue.json"
    assert json.loads(path.read_text())["data"] == {"blocks": [1]}
    assert not os.stat(path).st_mode & 0o022
