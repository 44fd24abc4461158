"""Hostile data sets are opened or refused: tables of labels, names, folders, and damaged archives."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ganblocks.data.sources import open_data
from tests.budget import FULL, SEED, number_of_cases
from tests.data.files import labelled_zip, png, shards
from tests.data.test_parquet import images_column, write
from tests.reliability.mutations import mutated
from tests.reliability.sandbox import failures, run_sandboxed, summary


def _files(**contents: str | bytes) -> Callable[[Path], None]:
    """Writes pictures in two folders, and these files beside them; `__` in a name stands for `.`."""

    def write(folder: Path) -> None:
        for name in ("a/1.png", "b/2.png"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(png(0))
        for name, content in contents.items():
            path = folder / name.replace("__", ".")
            path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))

    return write


def _labels(label: Any) -> str:
    return json.dumps({"labels": [["a/1.png", 0], ["b/2.png", label]]})


def _many_empty(folder: Path) -> None:
    for index in range(100_000 if FULL else 5_000):
        (folder / f"{index}.png").touch()


def _deep_folders(folder: Path) -> None:
    path = folder
    for _ in range(200):
        path /= "x"
    path.mkdir(parents=True)
    (path / "1.png").write_bytes(png(0))


def _strange_names(folder: Path) -> None:
    for index, name in enumerate((b"\x1b]0;x\x07.png", b"\xff\xfe.png", b"\n\r.png", b"x" * 250 + b".png")):
        Path(str(folder) + "/" + name.decode("utf-8", "surrogateescape")).write_bytes(png(index))


DATA_SETS: dict[str, Callable[[Path], None]] = {
    "a class of 100,000,000": _files(dataset__json=_labels(100_000_000)),
    "a class of 2^63": _files(dataset__json=_labels(2**63)),
    "a negative class": _files(dataset__json=_labels(-1)),
    "a class that is infinite": _files(dataset__json=_labels(float("inf"))),
    "a class that is a list": _files(dataset__json=_labels([1])),
    "classes of 5,000 digits": _files(dataset__json='{"labels": [["a/1.png", ' + "9" * 5000 + "]]}"),
    "deep JSON": _files(dataset__json="[" * 10**6),
    "a deep label": _files(dataset__json='{"labels": [["a/1.png", ' + "[" * 10**5 + "]" * 10**5 + "]]}"),
    "labels without rows": _files(dataset__json='{"labels": 3}'),
    "labels by name": _files(dataset__json='{"labels": {"a/1.png": 0, "b/2.png": 1}}'),
    "JSON that is not text": _files(dataset__json=b"\xff\xfe\x00\xd8"),
    "an empty table": _files(dataset__json=""),
    "metadata with a class name of a megabyte": _files(metadata__csv="file_name,label\na/1.png," + "x" * 10**6 + "\n"),
    "metadata of one line": _files(metadata__jsonl='{"file_name": {}, "label": 1}'),
    "deep metadata": _files(metadata__jsonl='{"file_name": ' + "[" * 10**5),
    "metadata with zeros": _files(metadata__csv="file_name,label\n\0\n"),
    "metadata with many columns": _files(metadata__csv="file_name," + "label," * 10**5 + "\n" + "a/1.png," * 10**5),
    "an escape sequence as a class": _files(metadata__csv="file_name,label\na/1.png,\x1b[31m\nb/2.png,b\n"),
    "many empty files": _many_empty,
    "deep folders": _deep_folders,
    "strange names": _strange_names,
    "no files": lambda folder: None,
}


@pytest.mark.slow
def test_hostile_data_sets_are_opened_or_refused(tmp_path: Path) -> None:
    def open_one(case: tuple[str, int, bool]) -> None:
        name, cond_dim, captions = case
        folder = tmp_path / "".join(filter(str.isalnum, name))
        if not folder.exists():
            folder.mkdir()
            DATA_SETS[name](folder)
        images = open_data(folder, resolution=8, cond_dim=cond_dim, captions=captions, progress=False)
        assert len(images) == len(images.pixels)  # type: ignore[attr-defined]

    cases = [
        (f"{name}, cond_dim {cond_dim}{', captions' * captions}", (name, cond_dim, captions))
        for name in DATA_SETS
        for cond_dim, captions in ((0, False), (2, False), (2, True))
    ]
    outcomes = run_sandboxed(open_one, cases)
    print(summary(outcomes))
    assert failures(outcomes) == []


def _archives(folder: Path) -> dict[str, bytes]:
    shards(folder, "cls")
    columns = {"image": images_column(), "label": [0, 1, 0, 1, 0], "text": list("abcde")}
    labelled_zip(folder / "a.zip", [[f"{index:05d}.png", index % 2] for index in range(5)])
    write(folder / "a.parquet", columns, row_group_size=2)
    return {name: (folder / name).read_bytes() for name in ("a.zip", "00000.tar", "a.parquet")}


@pytest.mark.slow
def test_damaged_archives_are_read_or_refused(tmp_path: Path) -> None:
    def open_one(case: tuple[str, bytes]) -> None:
        name, content = case
        path = tmp_path / name
        path.write_bytes(content)
        for options in ({}, {"cond_dim": 2}):
            images = open_data(path, resolution=8, in_memory=0, progress=False, **options)
            for index in range(len(images)):
                images.read(index)

    chance, archives = random.Random(SEED), _archives(tmp_path / "whole")
    cases = []
    for number in range(number_of_cases(90, 900)):
        name = [*archives][number % 3]
        cases.append((f"{number} {name}", partial(_damaged, name, archives[name], random.Random(chance.random()))))
    outcomes = run_sandboxed(open_one, cases)
    print(summary(outcomes))
    assert failures(outcomes) == []


def _damaged(name: str, content: bytes, draw: random.Random) -> tuple[str, bytes]:
    return name, mutated(content, draw)
