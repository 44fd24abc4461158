"""Mutations of the text of a spec: lost and doubled lines, malformed scalars, aliases of aliases."""

from __future__ import annotations

import random

SCALARS = ["!!int foo", "0x", "0b", "0b2", "1:30", "017", "9" * 5000, ".inf", "-.inf", ".nan", "1e999", "2020-13-45"]
SCALARS += ["!!python/object/apply:os.system [id]", "!!binary x", "!!timestamp x", "!!set {a}", "*missing", "&a [*a]"]
SCALARS += [
    "<<",
    "=",
    "? x",
    "- - -",
    "[",
    "{",
    "'",
    '"',
    '"\\UFFFFFFFF"',
    '"\\ud800"',
    "|",
    "> ",
    "%YAML 9.9",
    "@",
    "`",
]
SCALARS += ["---", "...", "\t", "\x00", "\x07", "\ufeff", "\u2028", "NaN", "Infinity", "-Infinity", "1_000", "~", "yes"]
SCALARS += ["[" * 5000, "{a: " * 5000, "&b [1, 2]", "!<tag:x> y", "! z", "!!null x", "!!bool maybe", "!!float x"]


def flip_character(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text) + 1)
    return text[:at] + chr(rng.choice((rng.randrange(128), rng.randrange(0xD000)))) + text[at + 1 :]


def delete_span(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text) + 1)
    return text[:at] + text[at + rng.choice((1, 5, 100)) :]


def truncate(rng: random.Random, text: str) -> str:
    return text[: rng.randrange(len(text) + 1)]


def copy_line(rng: random.Random, text: str) -> str:
    """A line twice: a duplicate key."""
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    return "\n".join([*lines[: at + 1], *[lines[at]] * rng.choice((1, 1, 2000)), *lines[at + 1 :]])


def move_line(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    lines.insert(rng.randrange(len(lines)), lines.pop(rng.randrange(len(lines))))
    return "\n".join(lines)


def indent_line(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    lines[at] = rng.choice((" ", "  ", "\t", " " * 5000)) + lines[at]
    return "\n".join(lines)


def replace_scalar(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    head, colon, _ = lines[at].partition(":")
    lines[at] = f"{head}{colon} {rng.choice(SCALARS)}" if colon else f"{lines[at]} {rng.choice(SCALARS)}"
    return "\n".join(lines)


def insert_line(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    bomb = ["z0: &z0 [x, y]", *(f"z{i}: &z{i} [{', '.join([f'*z{i - 1}'] * 9)}]" for i in range(1, 12))]
    inserted = rng.choice(
        ([rng.choice(SCALARS)], bomb, [f"k{i}: {i}" for i in range(3000)], ["<<: *z", "a: &a {<<: *a}"])
    )
    at = rng.randrange(len(lines) + 1)
    return "\n".join([*lines[:at], *inserted, *lines[at:]])


TEXT_MUTATIONS = [flip_character, delete_span, truncate, copy_line, move_line, indent_line, replace_scalar, insert_line]
