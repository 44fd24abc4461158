"""Every code block of the pages in docs runs, in order, in a folder of the page.

Python blocks of a page share a namespace; commands run as tests/docs/commands.py says; documents are validated, parts
of documents within a small one. A block that cannot run here has a comment before it, such as
`<!-- not run: needs 8 GPUs -->`; its commands are parsed all the same, and its Python is compiled. README's blocks run
in tests/docs/test_readme.py, CONTRIBUTING's in tests/test_contributing.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from assemblies import parse
from ganblocks.metrics.protocols import PROTOCOLS
from registry import catalogue
from tests import tiny
from tests.docs import commands
from tests.docs.files import train_run, write_files
from tests.docs.markdown import COMMANDS, INLINE, LANGUAGES, PAGES, README, Fenced, fenced, outside_blocks
from tests.docs.markdown import commands as commands_of

NOT_RUN = 40  # blocks; a new one needs a reason that a reader accepts
PRESET = re.compile(r"`((?:mini|stylenat|styleswin|vitgan|styleformer|stylegan-t|stylegan2|emoji)-[\w-]*\w)`")
PROGRAMS = re.compile(r"^(?:\$ )?(?:ganblocks|torchrun|python|pip|make) \S", re.MULTILINE)
RUN = [page for page in PAGES if page.parent.name == "docs" and any(b.reason is None for b in fenced(page.read_text()))]
SLOW = {"data.md", "emoji.md", "importing.md", "metrics.md", "models.md", "publishing.md", "training.md", "vitgan.md"}


def all_blocks() -> Iterator[tuple[Path, Fenced]]:
    for page in PAGES:
        for block in fenced(page.read_text(encoding="utf-8")):
            yield page, block


def place(value: Any) -> str:
    return value.name if isinstance(value, Path) else f"{value[0].name}:{value[1].line}"


@pytest.fixture(scope="module")
def a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_run(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.slow] * (page.name in SLOW), id=page.name) for page in RUN]
)
def test_every_block_of_a_page_runs(page: Path, a_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = fenced(page.read_text(encoding="utf-8"))
    write_files(tmp_path, "\n".join(block.code for block in blocks if block.reason is None), a_run)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks:
        with commands.naming(page, block):
            if block.reason is None:
                commands.run_block(page, block, namespace)


@pytest.mark.parametrize("page", PAGES, ids=place)
def test_every_block_of_a_page_is_valid(page: Path) -> None:
    for block in fenced(page.read_text(encoding="utf-8")):
        with commands.naming(page, block):
            check(block)


def check(block: Fenced) -> None:
    """Parse its commands, compile its Python, validate its document."""
    assert block.language in LANGUAGES, f"blocks of language {block.language} are not run"
    if block.language == "python":
        compile(block.code, "block", "exec", dont_inherit=True)
    elif block.language in COMMANDS:
        for command in commands_of(block.code):
            commands.check(command.words)
    elif block.language in ("yaml", "json"):
        validate(yaml.safe_load(block.code))
    else:
        assert not PROGRAMS.search(block.code), "commands are blocks of the language bash"


def validate(data: dict[str, Any]) -> None:
    """Validate a document, a part of a GAN's document, or a block; `...` stands for values of a small document."""
    small = parse(tiny.gan()).to_dict()
    if "kind" not in data:
        parse(small | completed(data, small))
    elif data["kind"] in ("gan", "stages"):
        parse(completed(data, small))
    else:
        (entry,) = (entry for entry in catalogue.entries() if entry.block.kind == data["kind"])
        entry.block.Spec.model_validate(data)


def completed(value: Any, base: Any) -> Any:
    """The value with what `...` leaves out taken from `base`."""
    if isinstance(value, dict):
        if value.get("kind") == "gan":
            base = tiny.gan()
        known = base if isinstance(base, dict) else {}
        values = {key: completed(each, known.get(key)) for key, each in value.items() if key != "..."}
        return known | values if "..." in value else values
    if isinstance(value, list):
        items = [completed(each, None) for each in value if each != "..."]
        return items or (base if "..." in value else [])
    return value


@pytest.mark.parametrize("page", PAGES, ids=place)
def test_commands_and_presets_in_the_text_of_a_page_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for line in INLINE.findall(outside_blocks(text)):
        words = line.split()
        if words[0] == "ganblocks" and re.match(r"\w", words[1]):
            command, rest = commands.known(), words[1:]
            while hasattr(command, "commands") and rest:
                assert rest[0] in command.commands, f"there is no command `{line}`"
                command, rest = command.commands[rest[0]], rest[1:]
            options = {
                option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
            }
            unknown = {word.partition("=")[0] for word in rest if word.startswith("--")} - options
            assert not unknown, f"`{line}`: no {unknown}"
    assert set(PRESET.findall(text)) <= {*catalogue.presets(), *PROTOCOLS}


@pytest.mark.parametrize("page", PAGES, ids=place)
def test_commands_are_in_fenced_blocks(page: Path) -> None:
    indented = re.findall(r"\n\n {4}\S[^\n]*", outside_blocks(page.read_text(encoding="utf-8")))
    assert not [line for line in indented if not line.strip().startswith(("-", "1."))]


def test_blocks_that_are_not_run_say_why() -> None:
    reasons = [(page.name, block) for page, block in all_blocks() if block.reason is not None]
    assert all(len(block.reason.split()) >= 2 for _, block in reasons)
    assert all(block.language in (*COMMANDS, "python") for _, block in reasons), "all others are not run anyway"
    assert len(reasons) <= NOT_RUN, "\n".join(f"{page}:{block.line} {block.reason}" for page, block in reasons)


def test_every_command_is_in_the_readme() -> None:
    lines = [
        each for block in fenced(README.read_text()) if block.language in COMMANDS for each in commands_of(block.code)
    ]
    named = {command.words[1] for command in lines if command.words[0] == "ganblocks"}
    assert set(commands.known().commands) <= named
