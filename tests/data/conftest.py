"""Data sets that several tests read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.data.files import SHADES, png, write_files


@pytest.fixture
def class_folder(tmp_path: Path) -> Path:
    """Twelve images of as many shades in two subfolders."""
    for index in range(12):
        path = tmp_path / "images" / "ab"[index % 2] / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 16), (index * 20,) * 3).save(path)
    return tmp_path / "images"


@pytest.fixture
def caption_folder(tmp_path: Path) -> Path:
    """Five images: with a caption, with two, with one in JSON of each form, with a .caption file."""
    captions = {
        "0.txt": "black\n",
        "1.txt": "dark\n\nvery dark\n",
        "2.json": json.dumps({"caption": "grey", "width": 10}),
        "3.json": json.dumps(["light", "bright"]),
        "4.caption": "white",
    }
    images = {f"{index}.png": png(shade) for index, shade in enumerate(SHADES)}
    write_files(tmp_path / "images" / "deep", captions | images)
    return tmp_path / "images"
