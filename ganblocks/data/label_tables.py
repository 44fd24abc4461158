"""Tables that label all images of a data set: a dataset.json, or metadata.jsonl or metadata.csv beside the images.

The dataset.json of StyleGAN2-ADA's data tools, Karras et al. 2020, https://arxiv.org/abs/2006.06676; text in it as in
StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515. The metadata files of Hugging Face's imagefolder,
https://huggingface.co/docs/datasets/image_dataset.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from blocks.families.networks import ConditionInput
from ganblocks.data.captions import CAPTION_KEYS, Captions, as_strings, parse_json
from ganblocks.data.locations import parents, read_text
from ganblocks.data.skipped import UnreadableError
from ganblocks.errors import DataError
from registry import Location

DATASET_JSON = "dataset.json"
METADATA = ("metadata.jsonl", "metadata.csv")
MAX_TABLE = 2**28  # bytes
# columns of labels, of which the first that is there is used
COLUMNS = {"captions": CAPTION_KEYS, "classes": ("label", "labels", "class")}
MAX_SOURCES = 3  # tables in a message
MAX_SHOWN = 60  # characters of a label in a message


class LabelTable(NamedTuple):
    """Classes or captions of images.

    Args:
        source: Where they come from, for messages.
        labels: A class number or captions for each image, by its name.
        class_names: Names of the classes, if the table has them.
        files: Paths of the files inside the data set that it was read from.
    """

    source: str
    labels: dict[str, Any]
    class_names: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


def find_table(others: Iterable[Location], images: Sequence[str], condition_input: ConditionInput) -> LabelTable | None:
    """The table that labels the images; None if there is none, or none with the labels that are needed.

    Args:
        others: The files of the data set that are no images.
        images: Paths of the images inside the data set.
        condition_input: Which labels are needed.

    Raises:
        DataError: A table is damaged.
    """
    tables: list[LabelTable] = []
    for location in sorted((file for file in others if is_table(file.inner)), key=lambda file: file.inner.count("/")):
        folder = next(parents(location.inner))
        if location.inner == folder + DATASET_JSON:
            covers_all = all(image.startswith(folder) for image in images)
            if covers_all and (table := read_dataset_json(location, condition_input)) is not None:
                return table
        elif (table := read_metadata(location, condition_input)) is not None:
            tables.append(table)
    if not tables:
        return None
    source = ", ".join(table.source for table in tables[:MAX_SOURCES]) + ", ..." * (len(tables) > MAX_SOURCES)
    rows = (row for table in tables for row in table.labels.items())
    files = tuple(file for table in tables for file in table.files)
    joined = LabelTable(source, _joined(rows, source, condition_input), files=files)
    return numbered(joined) if condition_input == "classes" else joined


def is_table(inner: str) -> bool:
    """Whether a file labels many images, by its path."""
    return inner.rpartition("/")[2] in (DATASET_JSON, *METADATA)


def read_dataset_json(location: Location, condition_input: ConditionInput) -> LabelTable | None:
    """The labels of a dataset.json; None where they are null, as StyleGAN's tools write it for data without labels.

    Raises:
        DataError: The file has another form, or two labels for one image.
    """
    folder = next(parents(location.inner))
    form = '{"labels": [[NAME, CLASS or CAPTION], ...]}'
    try:
        content = parse_json(read_text(location, MAX_TABLE))
        if isinstance(content, Mapping) and "labels" in content and content["labels"] is None:
            return None
        listed = content["labels"]
        rows = list(listed.items() if isinstance(listed, Mapping) else listed)
        if not all(isinstance(row, list | tuple) and len(row) == 2 and isinstance(row[0], str) for row in rows):
            raise TypeError("each row must be a name and a label")
    except UnreadableError as error:
        raise DataError(f"{location} {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{location} is no dataset.json, {form}: {error}") from None
    labels = _joined(((folder + name, label) for name, label in rows), str(location), condition_input)
    return LabelTable(str(location), labels, files=(location.inner,))


def read_metadata(location: Location, condition_input: ConditionInput) -> LabelTable | None:
    """One column of a metadata.jsonl or metadata.csv, the first of `COLUMNS` that it has; None if it has none of them.

    Raises:
        DataError: The file cannot be read, a row has no `file_name`, or an image has two classes.
    """
    folder = next(parents(location.inner))
    rows = list(_metadata_rows(location))
    column = next((column for column in COLUMNS[condition_input] if any(column in row for row in rows)), None)
    if column is None:
        return None
    labels = []
    for number, row in enumerate(rows, 1):
        name = row.get("file_name")
        if not isinstance(name, str):
            raise DataError(f"{location}: row {number} has no file_name; its columns are {', '.join(map(str, row))}")
        labels.append((folder + name.removeprefix("./"), row.get(column)))
    return LabelTable(
        f"{location} (column {column})", _joined(labels, str(location), condition_input), files=(location.inner,)
    )


def captions_of(table: LabelTable, names: Iterable[str]) -> list[Captions]:
    """The captions that a table has for images.

    Raises:
        DataError: An image has none.
    """
    captions = []
    for name in names:
        strings = as_strings(table.labels.get(name))
        if not strings:
            raise DataError(
                f"{table.source} has no caption for {name}, but {_shown(table.labels.get(name))}; the generator takes "
                "captions"
            )
        captions.append(strings)
    return captions


def classes_of(table: LabelTable, names: Iterable[str]) -> list[int]:
    """The class numbers that a table has for images.

    Raises:
        DataError: An image has none.
    """
    classes = []
    for name in names:
        label = table.labels.get(name)
        if not isinstance(label, int) or isinstance(label, bool) or label < 0:
            raise DataError(
                f"{table.source} has no class for {name}, but {_shown(label)}; the generator takes classes, 0 and up"
            )
        classes.append(label)
    return classes


def numbered(table: LabelTable) -> LabelTable:
    """A table with class numbers instead of class names, which are numbered in alphabetical order.

    A CSV file has class numbers as text; these stay numbers. Other labels stay as they are.
    """
    labels = table.labels
    if not labels or not all(isinstance(label, str) for label in labels.values()):
        return table
    if all(label.isdecimal() and len(label) < 10 for label in labels.values()):
        return table._replace(labels={name: int(label) for name, label in labels.items()})
    class_names = tuple(sorted(set(labels.values())))
    numbers = {name: index for index, name in enumerate(class_names)}
    return table._replace(labels={name: numbers[label] for name, label in labels.items()}, class_names=class_names)


def _metadata_rows(location: Location) -> Iterator[Mapping[str, Any]]:
    try:
        text = read_text(location, MAX_TABLE)
        if location.inner.endswith(".csv"):
            yield from csv.DictReader(io.StringIO(text, newline=""))
            return
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                row = parse_json(line)
                if not isinstance(row, Mapping):
                    raise UnreadableError(f"line {number} is not a JSON object")
                yield row
    except (UnreadableError, csv.Error) as error:
        raise DataError(f"{location}: {error}") from None


def _joined(rows: Iterable[tuple[str, Any]], source: str, condition_input: ConditionInput) -> dict[str, Any]:
    """Labels by name. An image that is listed again may have further captions, but not another class."""
    labels: dict[str, Any] = {}
    for name, label in rows:
        if name not in labels or labels[name] == label:
            labels[name] = label
        elif condition_input == "captions" and as_strings(labels[name]) and as_strings(label):
            labels[name] = tuple(dict.fromkeys((*as_strings(labels[name]), *as_strings(label))))
        else:
            raise DataError(
                f"{source} lists {name} twice, with the labels {_shown(labels[name])} and {_shown(label)}; remove one"
            )
    return labels


def _shown(label: Any) -> str:
    text = repr(label)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."
