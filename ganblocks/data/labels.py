"""Classes and captions of the images of a data set, from a table, from subfolders or from files beside the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import takewhile
from typing import NamedTuple

from blocks.families.networks import ConditionInput
from ganblocks.data.archives import Sample
from ganblocks.data.captions import CAPTION_SUFFIXES, Captions, captions_beside
from ganblocks.data.label_tables import LabelTable, captions_of, classes_of, is_table
from ganblocks.data.locations import read_text
from ganblocks.data.skipped import UnreadableError
from ganblocks.errors import DataError
from registry import Location

CLASS_SUFFIX = ".cls"
LABEL_SUFFIXES = (*CAPTION_SUFFIXES, CLASS_SUFFIX)
SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"})
MAX_SHOWN = 8  # names in a sentence


class ClassLabels(NamedTuple):
    """The class of each image or why it cannot be read, the names of the classes, and where they come from."""

    classes: Sequence[int | UnreadableError]
    names: tuple[str, ...]
    source: str


def read_classes(
    samples: Sequence[Sample], names: Sequence[str], table: LabelTable | None, num_classes: int, source: str
) -> ClassLabels:
    """The class of each image: from the table, else from .cls files if there are any, else from subfolders.

    Args:
        samples: The images with the files that belong to each.
        names: The names of the images in the table.
        table: Labels of all images.
        num_classes: How many classes the generator has.
        source: What messages call the data set.

    Raises:
        DataError: An image has no class, or one that the generator does not have.
    """
    if table is not None:
        labels = ClassLabels(classes_of(table, names), table.class_names, table.source)
    elif any(CLASS_SUFFIX in sample.files for sample in samples):
        if without := [sample.image for sample in samples if CLASS_SUFFIX not in sample.files]:
            raise DataError(f"{source}: {len(without)} images have no .cls file with their class, such as {without[0]}")
        labels = ClassLabels([class_in(sample.files[CLASS_SUFFIX]) for sample in samples], (), ".cls files")
    else:
        labels = _classes_from_folders([sample.image.inner for sample in samples], num_classes, source)
    classes = labels.classes
    outside = [index for index, number in enumerate(classes) if isinstance(number, int) and number >= num_classes]
    if labels.names or not outside:
        highest = max((number for number in classes if isinstance(number, int)), default=-1)
        return labels if labels.names else labels._replace(names=tuple(map(str, range(highest + 1))))
    raise DataError(
        f"{source}: {len(outside)} of {len(names)} images have classes outside of the generator's 0 to "
        f"{num_classes - 1} (cond_dim {num_classes}), such as {names[outside[0]]}: class {classes[outside[0]]}"
    )


def read_captions(
    samples: Sequence[Sample], names: Sequence[str], table: LabelTable | None, source: str
) -> list[Captions | UnreadableError]:
    """The captions of each image or why they cannot be read: from the table, else from files that belong to images.

    Raises:
        DataError: An image has no caption.
    """
    if table is not None:
        return [*captions_of(table, names)]
    captions: list[Captions | UnreadableError] = []
    for sample in samples:
        try:
            captions.append(captions_beside(sample.files))
        except UnreadableError as error:
            captions.append(error)
    if without := [name for name, each in zip(names, captions, strict=True) if each == ()]:
        raise DataError(
            f"the generator takes captions, and {len(without)} of {len(samples)} images of {source} have none, such as "
            f"{without[0]}: put a .txt or .json beside each, or a dataset.json or metadata.jsonl above all"
        )
    return captions


def class_summary(names: Collection[str]) -> str:
    """How many classes there are, and their first names."""
    count = f"{len(names)} {'class' if len(names) == 1 else 'classes'}"
    return f"{count} ({_listed(names)})" if names else count


def split_hint(names: Collection[str], source: str) -> str:
    """What to do where the classes are rather the splits of a data set; empty for other classes."""
    if len(names) < 2 or not SPLITS.issuperset(name.lower() for name in names):
        return ""
    return f"; these are splits rather than classes: for one of them pass {source}/{max(names)}"


def unused_labels(
    samples: Sequence[Sample], others: Iterable[Location], condition_input: ConditionInput | None, used: str
) -> list[str]:
    """A sentence on the labels of a data set that are not used, or none.

    Args:
        samples: The images with the files that belong to each.
        others: The files of the data set that are no images and no table in use.
        condition_input: Which labels are needed.
        used: Where these come from.
    """
    names = [sample.image.inner for sample in samples]
    depth = _class_depth(names)
    folders = {name.split("/")[depth] for name in names if name.count("/") > depth}
    unused_folders = len(folders) > 1 and "subfolders" not in used
    present = [f"{len(folders)} subfolders ({_listed(sorted(folders))})"] if unused_folders else []
    present += [file.inner for file in others if is_table(file.inner)]
    beside = Counter(suffix for sample in samples for suffix in sample.files if suffix in LABEL_SUFFIXES)
    present += [f"{count} {suffix} files" for suffix, count in beside.items() if suffix not in used]
    if not present:
        return []
    takes = f"{condition_input} from {used}" if condition_input else "no classes or captions"
    splits = split_notes(folders) if unused_folders else []
    return [f"the generator takes {takes}; not used: {_listed(present)}", *splits]


def split_notes(names: Iterable[str]) -> list[str]:
    """A sentence where archives of several splits of a data set are used together, or none."""
    splits = {name.lower().replace("_", "-").partition("-")[0] for name in names} & SPLITS
    return [f"the splits {_listed(sorted(splits))} are used together"] if len(splits) > 1 else []


def class_in(location: Location) -> int | UnreadableError:
    try:
        text = read_text(location).strip()
    except UnreadableError as error:
        return UnreadableError(f"its .cls file {error}")
    if text.isdecimal() and len(text) < 10:
        return int(text)
    return UnreadableError(f"its .cls file has no class number: {text[:20]!r}")


def _classes_from_folders(names: Sequence[str], num_classes: int, source: str) -> ClassLabels:
    """Classes in alphabetical order of the folders in which images lie: the uppermost folders that differ."""
    if loose := [name for name in names if "/" not in name]:
        raise DataError(
            f"the generator takes classes, so each image of {source} has to lie in a subfolder named after its class, "
            f"or have a .cls file with its number; {len(loose)} do not, such as {loose[0]}"
        )
    depth = _class_depth(names) if num_classes > 1 else 0
    folders = [name.split("/")[depth] for name in names]
    class_names = tuple(sorted(set(folders)))
    numbers = {name: index for index, name in enumerate(class_names)}
    return ClassLabels([numbers[folder] for folder in folders], class_names, "subfolders")


def _class_depth(names: Sequence[str]) -> int:
    """How many folders lie around all images and around further folders."""
    folders = [name.split("/")[:-1] for name in names]
    first, last = min(folders), max(folders)
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    return max(0, min(common, min(map(len, folders)) - 1))


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:MAX_SHOWN])
    return shown if len(names) <= MAX_SHOWN else f"{shown}, ..."
