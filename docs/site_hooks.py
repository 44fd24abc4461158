"""mkdocs hooks: pages that other files of the project hold, and pages made from the registry.

README, CONTRIBUTING and other files of the top folder become pages, so that their text exists once. The catalogue and
the table of kernels are made from the installed packages, a page for each model from them and models.md. Links to files
outside `docs` lead to copies of these.
"""

from __future__ import annotations

import html
import json
import posixpath
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from ganblocks import describe, diagnosis
from registry import catalogue

sys.path.insert(0, str(Path(__file__).parent))  # mkdocs imports this file by its path
from model_pages import MODELS, PREFIX, model_page, page_name

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
}
SOURCES = {page: path for path, page in PAGES.items()}
LINK = re.compile(r"(?P<before>\]\(|src=\")(?P<path>[^)#\":]+)(?P<anchor>#[^)\"]*)?(?P<after>\)|\")")
FENCE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here, and the files to which pages link."""
    for path, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text("utf-8")))
    files.append(File.generated(config, "catalogue.md", content=catalogue_page()))
    files.append(File.generated(config, "kernels.md", content=kernels_page()))
    for package in MODELS:
        files.append(File.generated(config, page_name(package), content=model_page(package)))
    linked = [target for file in files.documentation_pages() for target in _linked(file)]
    for target in dict.fromkeys(linked):
        name = _in_site(target)
        if files.get_file_from_path(name) is None:
            source = ROOT / target
            if source.is_dir():
                files.append(File.generated(config, name, content=_folder_page(source)))
            else:
                files.append(File.generated(config, name, abs_src_path=str(source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to files of the project lead to their copies in the site."""
    folder = posixpath.dirname(_in_project(page.file.src_uri))

    def replaced(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match["path"]))
        if not (ROOT / target).exists():
            return match[0]  # mkdocs reports it
        start = posixpath.dirname(page.file.src_uri) or "."
        path = posixpath.relpath(_in_site(target), start)
        return f"{match['before']}{path}{match['anchor'] or ''}{match['after']}"

    return _outside_code(markdown, lambda text: LINK.sub(replaced, text))


def catalogue_page() -> str:
    """All blocks with their papers and options, by family."""
    parts = [
        "# Blocks",
        "Made from the registry. `ganblocks blocks` lists what is installed on your machine, other people's blocks "
        "included; `ganblocks blocks KIND` shows one.",
    ]
    for family in describe.families():
        parts += [f"## {family['family']}", _escaped(family["summary"])]
        for entry in catalogue.entries(family["family"]):
            parts.append(_block(describe.details_of(entry)))
    return "\n\n".join(parts) + "\n"


def _block(block: dict[str, Any]) -> str:
    options = [
        f"| `{option['name']}` | {_escaped(option['type'])} | {_default(option)} | {_escaped(option['description'])} |"
        for option in block["options"]
    ]
    table = "\n".join(["| Option | Type | Default | |", "| --- | --- | --- | --- |", *options]) if options else ""
    heading = f"### {block['kind']} {{ #{block['family']}-{block['kind'].replace('/', '-')} }}"
    origin = f"`{block['module']}.{block['class']}`, {block['package']} {block['version']}"
    return "\n\n".join(filter(None, [heading, _escaped(block["summary"]), _escaped(block["paper"]), origin, table]))


def _default(option: dict[str, Any]) -> str:
    return "required" if option["required"] else f"`{json.dumps(option['default'])}`"


def kernels_page() -> str:
    """The kernels of each op, in the order of choice."""
    parts = [
        "# Kernels",
        "The kernels of each op in the order of choice: the first that is available and supports a call serves it. "
        "`ganblocks doctor` shows what your machine has, and why a kernel is not available there. "
        "[Architecture](architecture.md) says how a kernel is chosen.",
    ]
    for op in diagnosis.diagnose()["ops"]:
        kernels = sorted(op["kernels"], key=lambda kernel: -kernel["priority"])
        cells = [(f"`{each['kernel']}`", *map(_yes, (each["second_order"], each["forward_ad"]))) for each in kernels]
        rows = [f"| {' | '.join(row)} | {each['package']} |" for row, each in zip(cells, kernels, strict=True)]
        head = ["| Kernel | Second derivative | Forward mode | Package |", "| --- | --- | --- | --- |"]
        parts += [f"## {op['op']}", "\n".join([*head, *rows])]
    return "\n\n".join(parts) + "\n"


def _folder_page(folder: Path) -> str:
    """A folder as one page: its README, then its files."""
    name = folder.relative_to(ROOT).as_posix()
    readme = folder / "README.md"
    parts = [readme.read_text("utf-8") if readme.exists() else f"# {name}"]
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != readme and path.suffix in (".py", ".toml", ".yaml"):
            parts.append(
                f"## {path.relative_to(folder).as_posix()}\n\n```{path.suffix[1:]}\n{path.read_text('utf-8')}```"
            )
    return "\n\n".join(parts) + "\n"


def _linked(file: File) -> list[str]:
    """Paths inside the project, outside `docs`, to which a page links."""
    source = _in_project(file.src_uri)
    targets: list[str] = []

    def note(text: str) -> str:
        paths = (
            posixpath.normpath(posixpath.join(posixpath.dirname(source), match["path"]))
            for match in LINK.finditer(text)
        )
        targets.extend(path for path in paths if not path.startswith(("..", "docs/")) and (ROOT / path).exists())
        return text

    _outside_code(file.content_string, note)
    return targets


def _in_project(page: str) -> str:
    """The path inside the project of a page of the site."""
    is_doc = (ROOT / "docs" / page).exists() or page.startswith(PREFIX)
    return SOURCES.get(page) or (f"docs/{page}" if is_doc else page)


def _in_site(path: str) -> str:
    """The path inside the site of a file of the project."""
    if (ROOT / path).is_dir():
        return f"{path}/index.md"
    return PAGES.get(path) or path.removeprefix("docs/")


def _outside_code(markdown: str, change: Callable[[str], str]) -> str:
    return "".join(part if part.startswith("```") else change(part) for part in FENCE.split(markdown))


def _escaped(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "\\|").replace("*", "\\*").replace("[", "\\[")


def _yes(value: bool) -> str:
    return "yes" if value else "no"
