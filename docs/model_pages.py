"""A page for each model: its presets and blocks from the registry, and its parts of models.md and ablations.md."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from assemblies import read
from assemblies.documents import specs_in
from ganblocks import describe
from registry import catalogue

TEXT = Path(__file__).with_name("models.md")
ABLATIONS = Path(__file__).with_name("ablations.md")
MODELS = {  # by package in assemblies.models: the names that models.md has for it
    "stylenat": ("StyleNAT", "StyleSwin"),
    "vitgan": ("ViTGAN",),
    "styleformer": ("Styleformer",),
    "stylegan2": ("StyleGAN2",),
    "stylegan_t": ("StyleGAN-T",),
    "r3gan": ("R3GAN",),
    "gat": ("GAT",),
}
PREFIX = "model-"
WHOLE = ("gan", "generator", "discriminator", "multi-stage")  # families that are no parts


def page_name(package: str) -> str:
    return f"{PREFIX}{package.replace('_', '-')}.md"


def model_page(package: str) -> str:
    """The page of a model.

    Raises:
        LookupError: models.md has no rows of a table, or no differences, of it.
    """
    names = MODELS[package]
    sections = _sections(TEXT.read_text("utf-8"))
    papers = (import_module(f"assemblies.models.{package}.architecture").__doc__ or "").split("\n\n")[1]
    parts = [
        f"# {' and '.join(names)}",
        re.sub(r"(.*https?://[\w./-]+\w).*", r"\1.", " ".join(papers.split())),
        "[Presets and what was verified](models.md) has all models side by side, and what holds for all of them.",
        "## Presets",
        _presets(package),
        "## Blocks",
        _table(sections["Which blocks make which model"], names),
        f"In the catalogue: {', '.join(_blocks(package))}.",
        "## What was tested",
        _tested(sections["What was tested"], names),
        "## Training values",
        _table(sections["Training values"], tuple(f"`{name.lower()}" for name in names)),
        "## Differences from the reference implementation",
        _differences(sections["Differences from the reference implementations"], names),
    ]
    if unverified := [item for item in _items(sections["Not verified"]) if item.startswith(tuple(names), 2)]:
        parts += ["## Not verified", "\n".join(unverified)]
    for heading, text in _sections(ABLATIONS.read_text("utf-8")).items():
        if set(heading.split(" and ")) & set(names):
            parts += ["## Ablations", "[How they are run, and those of other models](ablations.md).", text.strip()]
    return "\n\n".join(parts) + "\n"


def _sections(text: str) -> dict[str, str]:
    """The parts of a page by their headings."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _presets(package: str) -> str:
    names = _names_of_presets(package)
    rows = [
        f"| `{row['preset']}` | {html.escape(row['summary'], quote=False)} |"
        for row in describe.presets()
        if row["preset"] in names
    ]
    commands = f"    ganblocks show {names[0]}\n    ganblocks init {names[0]}"
    return "\n".join(["| preset | |", "|---|---|", *rows]) + f"\n\n{commands}"


def _names_of_presets(package: str) -> list[str]:
    module = f"assemblies.models.{package}.presets"
    return [name for name, function in catalogue.presets().items() if function.__module__ == module]


def _blocks(package: str) -> Iterator[str]:
    """Links to the blocks of a model's presets in the catalogue."""
    parts = [part for name in _names_of_presets(package) for _, part in specs_in(read(name))]
    kinds = {(part.block.family_name, part.kind) for part in parts}
    for family, kind in sorted(pair for pair in kinds if pair[0] not in WHOLE):
        yield f"[{kind}](catalogue.md#{family}-{kind.replace('/', '-')})"


def _table(section: str, beginnings: tuple[str, ...]) -> str:
    """The rows of a section's table whose first cell begins like that; "its" refers to the row before."""
    head, rule, *rows = [line for line in section.splitlines() if line.startswith("|")]
    selected: list[str] = []
    last = ""
    for row in rows:
        selected += [row] if row.startswith(beginnings, 2) or (row.startswith("its ", 2) and last in selected) else []
        last = row
    if not selected:
        raise LookupError(f"models.md: no row of the table {head!r} begins with {' or '.join(beginnings)}")
    return "\n".join([head, rule, *selected])


def _items(section: str) -> list[str]:
    """The items of the lists of a section, with the tables inside them."""
    return [item.rstrip() for item in re.findall(r"^- .*?(?=^- |^\S|\Z)", section, flags=re.MULTILINE | re.DOTALL)]


def _tested(section: str, names: tuple[str, ...]) -> str:
    """The number of recordings, and the items that name the model."""
    counts = [f"{number} of {name}" for name in names for number in re.findall(rf"\b{name} (\d+)\b", section)]
    errors = "[the largest errors](models.md#what-was-tested)"
    recordings = f"- Recordings of the reference implementation: {', '.join(counts)}; {errors}."
    items = [item for item in _items(section)[1:] if any(name in item.partition(".")[0] for name in names)]
    common = (
        "- Parameter counts and training values are compared with the reference's: [how](models.md#what-was-tested)."
    )
    return "\n".join([*([recordings] if counts else []), *items, common])


def _differences(section: str, names: tuple[str, ...]) -> str:
    parts = re.split(r"^(\S.*):$", section, flags=re.MULTILINE)
    for heading, text in zip(parts[1::2], parts[2::2], strict=True):
        if set(heading.split(" and ")) & set(names):
            common = "[those of all models](models.md#differences-from-the-reference-implementations)"
            return f"Beside {common}:\n\n{text.strip()}"
    raise LookupError(f"models.md: no differences of {' or '.join(names)}")
