"""Captions of single images: from a .txt, .caption or .json file beside each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ganblocks.data.locations import read_text
from ganblocks.data.skipped import UnreadableError
from ganblocks.errors import DataError
from registry import Location

Captions = tuple[str, ...]  # an image may have several; each pass over the data set uses one of them
CAPTION_KEYS = ("caption", "captions", "text", "prompt")
CAPTION_SUFFIXES = (".txt", ".caption", ".json")  # the first that is there is read


def captions_beside(files: Mapping[str, Location]) -> Captions:
    """The captions of an image, from the files that belong to it, by suffix; empty without such files.

    Raises:
        UnreadableError: The file is not text, or not JSON.
        DataError: The JSON has no caption.
    """
    for suffix in CAPTION_SUFFIXES:
        if (location := files.get(suffix)) is not None:
            try:
                text = read_text(location)
                return from_json(text, str(location)) if suffix == ".json" else from_text(text)
            except UnreadableError as error:
                raise UnreadableError(f"its {suffix} file {error}") from None
    return ()


def from_text(text: str) -> Captions:
    """The captions of a .txt file: one a line."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def from_json(text: str, source: str) -> Captions:
    """The captions of a .json file: a string, a list of them, or an object with one of `CAPTION_KEYS`.

    Raises:
        UnreadableError: The text is not JSON.
        DataError: The JSON has no caption.
    """
    value = parse_json(text)
    if isinstance(value, Mapping):
        value = next((value[key] for key in CAPTION_KEYS if key in value), None)
    captions = as_strings(value)
    if not captions:
        keys = ", ".join(CAPTION_KEYS)
        raise DataError(f"{source} has no caption: a string, a list of strings, or an object with one of {keys}")
    return captions


def parse_json(text: str) -> Any:
    """A JSON value.

    Raises:
        UnreadableError: The text is not JSON, or nested too deep.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"is not JSON: {error}") from None


def as_strings(value: Any) -> Captions:
    """A string or a list of strings as captions without surrounding spaces; empty for anything else."""
    values = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else ()
    if not all(isinstance(each, str) and each.strip() for each in values):
        return ()
    return tuple(each.strip() for each in values)
