"""What is told of images: captions or classes, from files beside them or from a dataset.json for all.

The dataset.json of StyleGAN2-ADA's data tools, Karras et al. 2020, https://arxiv.org/abs/2006.06676; text in it as
StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515, has it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ganblocks.errors import DataError

Captions = tuple[str, ...]  # one image may have several; a pass over the data set takes one of them
KEYS = ("caption", "captions", "text", "prompt")


def from_text(text: str) -> Captions:
    """The captions of a .txt file: one a line."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def from_json(text: str, where: str) -> Captions:
    """The captions of a .json file: a string, a list of them, or a mapping with `caption`, `text` or `prompt`."""
    try:
        told: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{where} is not JSON: {error}") from None
    if isinstance(told, Mapping):
        told = next((told[key] for key in KEYS if key in told), None)
    found = (told,) if isinstance(told, str) else tuple(told) if isinstance(told, list) else ()
    if not found or not all(isinstance(each, str) for each in found):
        raise DataError(f"{where} has no caption: a string, a list of strings, or a mapping with {', '.join(KEYS)}")
    return tuple(each.strip() for each in found)


def beside(stem: str, read: Callable[[str], str | None]) -> Captions:
    """The captions of the image of that name without suffix, by a function that reads files beside it."""
    for suffix in (".txt", ".caption"):
        if (text := read(stem + suffix)) is not None:
            return from_text(text)
    if (text := read(stem + ".json")) is not None:
        return from_json(text, stem + ".json")
    return ()


def labels_of(text: str, where: str) -> dict[str, Any]:
    """What a dataset.json tells of each image: a class or a caption, or several captions."""
    try:
        told = json.loads(text)
        found = dict(told["labels"])
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f'{where} is no dataset.json, {{"labels": [[NAME, CLASS or CAPTION], ...]}}: {error}') from None
    return found


def as_captions(labels: Mapping[str, Any], names: Iterable[str], where: str) -> list[Captions]:
    """The captions that a dataset.json has for these images."""
    found = []
    for name in names:
        told = labels.get(name)
        captions = (told,) if isinstance(told, str) else tuple(told) if isinstance(told, list) else ()
        if not captions or not all(isinstance(each, str) for each in captions):
            raise DataError(f"{where} has no caption for {name}, but {told!r}; the generator takes captions")
        found.append(captions)
    return found


def as_classes(labels: Mapping[str, Any], names: Iterable[str], where: str) -> list[int]:
    """The classes that a dataset.json has for these images."""
    found = []
    for name in names:
        told = labels.get(name)
        if not isinstance(told, int) or isinstance(told, bool) or told < 0:
            raise DataError(f"{where} has no class for {name}, but {told!r}; the generator takes classes, 0 and up")
        found.append(told)
    return found
