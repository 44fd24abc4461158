"""Where the images of a data set lie, in a folder, a zip or tar shards, and the class or captions told of each."""

from __future__ import annotations

import zipfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Literal, NamedTuple

from ganblocks.data.archives import Member, is_image, members, sample_of
from ganblocks.data.captions import Captions, as_captions, as_classes, beside, from_json, from_text, labels_of
from ganblocks.data.decode import image_files
from ganblocks.errors import DataError

ConditionInput = Literal["classes", "captions"]
Location = Path | Member
SHOWN = 3


class DatasetIndex(NamedTuple):
    """The images of a data set, and what is told of them where that was asked for."""

    locations: list[Location]
    classes: list[int] | None = None
    class_names: tuple[str, ...] = ()
    captions: list[Captions] | None = None
    broken: tuple[tuple[str, str], ...] = ()  # archives that end too early, and why


def scan(source: Path, condition_input: ConditionInput | None) -> DatasetIndex:
    """The images of a folder, a zip or a tar, with their classes or captions if `takes` says so.

    Raises:
        DataError: There are none, or what is told of them is not complete.
    """
    if not source.exists():
        raise DataError(f"there is no folder {source}; --data takes a folder of images, a .zip or .tar, or `digits`")
    if source.is_dir():
        return _folder(source, condition_input)
    if source.suffix == ".zip":
        return _zip(source, condition_input)
    if source.suffix == ".tar":
        return _shards([source], source, condition_input)
    raise DataError(f"{source} is a file; --data takes the folder that the images lie in, a .zip or .tar, or `digits`")


def _folder(folder: Path, condition_input: ConditionInput | None) -> DatasetIndex:
    paths = image_files(folder)
    if not paths:
        if shards := sorted(folder.rglob("*.tar")):
            return _shards(shards, folder, condition_input)
        seen = Counter(path.suffix or "no suffix" for path in folder.rglob("*") if path.is_file())
        others = ", ".join(f"{count} x {suffix}" for suffix, count in seen.most_common(SHOWN)) or "it is empty"
        raise DataError(f"{folder} has no image files (PNG, JPEG, WebP, BMP, ...): {others}")
    locations: list[Location] = list(paths)
    names = [path.relative_to(folder).as_posix() for path in paths]
    table = folder / "dataset.json"
    if condition_input and table.is_file():
        return _by_table(locations, names, table.read_text(encoding="utf-8"), str(table), condition_input)
    if condition_input == "captions":

        def read(name: str) -> str | None:
            path = Path(name)
            return path.read_text(encoding="utf-8") if path.is_file() else None

        captions = [beside(str(path.with_suffix("")), read) for path in paths]
        return DatasetIndex(locations, captions=_complete(captions, names, str(folder)))
    return _by_folders(locations, names, str(folder)) if condition_input else DatasetIndex(locations)


def _zip(path: Path, condition_input: ConditionInput | None) -> DatasetIndex:
    try:
        inside = members(path)[0]
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} cannot be read as a zip: {error}; cut short, or another format?") from None
    locations: list[Location] = [member for member in inside if is_image(member.inner)]
    if not locations:
        raise DataError(f"{path} has no image files (PNG, JPEG, WebP, BMP, ...), but {len(inside)} others")
    names = [member.inner for member in locations if isinstance(member, Member)]
    files = {member.inner: member for member in inside}
    if condition_input and "dataset.json" in files:
        text = files["dataset.json"].read().decode()
        return _by_table(locations, names, text, f"{path}/dataset.json", condition_input)
    if condition_input == "captions":

        def read(name: str) -> str | None:
            return files[name].read().decode() if name in files else None

        captions = [beside(name.rpartition(".")[0], read) for name in names]
        return DatasetIndex(locations, captions=_complete(captions, names, str(path)))
    return _by_folders(locations, names, str(path)) if condition_input else DatasetIndex(locations)


def _shards(shards: list[Path], source: Path, condition_input: ConditionInput | None) -> DatasetIndex:
    """Samples in the order of the shards and of what they hold."""
    locations: list[Location] = []
    told: list[dict[str, Member]] = []
    broken = []
    for shard in shards:
        inside, wrong = members(shard)
        broken += [(str(shard), wrong)] if wrong else []
        samples: dict[str, dict[str, Member]] = defaultdict(dict)
        for member in inside:
            samples[sample_of(member)][member.suffix.lower()] = member
        for parts in samples.values():
            if (image := next((each for each in parts.values() if is_image(each.inner)), None)) is not None:
                locations.append(image)
                told.append(parts)
    if not locations:
        wrong = f"; the first: {broken[0][0]} {broken[0][1]}" if broken else ""
        raise DataError(f"{source}: {len(shards)} shards hold no samples with an image{wrong}")
    names = [str(place) for place in locations]
    if condition_input == "captions":
        captions = [_of_sample(parts) for parts in told]
        return DatasetIndex(locations, captions=_complete(captions, names, str(source)), broken=tuple(broken))
    if condition_input == "classes":
        if without := [name for name, parts in zip(names, told, strict=True) if ".cls" not in parts]:
            raise DataError(f"{source}: {len(without)} samples have no .cls with their class, such as {without[0]}")
        classes = [int(parts[".cls"].read()) for parts in told]
        return DatasetIndex(locations, classes, tuple(map(str, range(max(classes) + 1))), broken=tuple(broken))
    return DatasetIndex(locations, broken=tuple(broken))


def _of_sample(parts: dict[str, Member]) -> Captions:
    for suffix in (".txt", ".caption"):
        if suffix in parts:
            return from_text(parts[suffix].read().decode())
    return from_json(parts[".json"].read().decode(), str(parts[".json"])) if ".json" in parts else ()


def _by_table(
    locations: list[Location], names: list[str], text: str, where: str, condition_input: ConditionInput
) -> DatasetIndex:
    labels = labels_of(text, where)
    if condition_input == "captions":
        return DatasetIndex(locations, captions=as_captions(labels, names, where))
    classes = as_classes(labels, names, where)
    return DatasetIndex(locations, classes, tuple(map(str, range(max(classes) + 1))))


def _by_folders(locations: list[Location], names: list[str], source: str) -> DatasetIndex:
    loose = [name for name in names if "/" not in name]
    if loose:
        raise DataError(
            f"the generator wants classes, so each image of {source} has to lie in a subfolder named after its class; "
            f"{len(loose)} do not, such as {loose[0]}"
        )
    tops = [name.partition("/")[0] for name in names]
    class_names = sorted(set(tops))
    number = {name: index for index, name in enumerate(class_names)}
    return DatasetIndex(locations, [number[top] for top in tops], tuple(class_names))


def _complete(captions: list[Captions], names: list[str], source: str) -> list[Captions]:
    if without := [name for name, each in zip(names, captions, strict=True) if not each]:
        raise DataError(
            f"the generator wants captions, and {len(without)} of {len(names)} images of {source} have none, such as "
            f"{without[0]}: put a .txt or .json beside each, or a dataset.json above all"
        )
    return captions
