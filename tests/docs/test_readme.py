"""Every code block of the README runs: Python in one namespace, commands in a shell, specs through validation.

A block after "Save it as `NAME`" is saved under that name for the blocks below it. A command that is shown with output
must print these lines; one that is shown alone must succeed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from assemblies import read
from tests.docs import commands
from tests.docs.files import OF_THE_PROJECT
from tests.docs.markdown import README, ROOT, Command, Fenced, fenced
from tests.docs.markdown import commands as commands_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of all blocks, with links to the project's examples and docs as in a clone."""
    for name in OF_THE_PROJECT:
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "broken.yaml").write_bytes(Path(__file__).with_name("broken.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def test_every_block_of_the_readme_runs(folder: Path) -> None:
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in fenced(README.read_text(encoding="utf-8")):
        with commands.naming(README, block):
            if block.reason is None:
                perform(block, folder, namespace)


def perform(block: Fenced, folder: Path, namespace: dict[str, object]) -> None:
    if block.name is not None:
        (folder / block.name).write_text(block.code)
    commands.run_block(README, block, namespace, short=False)
    if block.language in ("yaml", "json"):
        path = folder / (block.name or f"block.{block.language}")
        path.write_text(block.code)
        read(path)


def test_blocks_and_commands_are_parsed() -> None:
    page = "Save it as `a.yaml`:\n\n```yaml\nkind: x\n```\n\n"
    page += (
        "```console\n$ make demo\nbuilding\n$ ganblocks \\\n  show\nshown\n```\n1. Or\n   ```python\n   x = 1\n   ```\n"
    )
    saved, console, python = fenced(page)
    assert (saved.line, saved.language, saved.name, console.name) == (3, "yaml", "a.yaml", None)
    assert commands_of(console.code) == [Command("make demo", ["building"]), Command("ganblocks    show", ["shown"])]
    assert commands_of("# make it\n\nganblocks doctor  # look\n") == [Command("ganblocks doctor  # look", [])]
    assert python.code == "x = 1\n"
