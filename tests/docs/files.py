"""Small files with the names that pages mention: documents, runs, models, images, checkpoints of other libraries."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

import ganblocks
from assemblies import parse, save_model
from assemblies.conversion.read import import_network
from plugins.clip_towers import TINY
from tests import tiny
from tests.assemblies import checkpoint_files as checkpoints
from tests.assemblies.checkpoint_files import fixture, state_of
from tests.docs.markdown import ROOT
from tests.extractors import save_extractor

GAN = tiny.gan(generator=tiny.GENERATOR | {"z_dim": 16})
OF_THE_PROJECT = ("examples", "docs")  # links to these, as in a clone
STYLENAT = {"relative_position_index": (16, 16), "_float_tensor": (1,), "kernel": (4, 4), ".ll": (2, 2)}


def write_files(folder: Path, text: str, run: Path) -> None:
    """Write the files that a page mentions, and copies of `run`, a short training, under the names of its runs."""
    for name in OF_THE_PROJECT:
        (folder / name).symlink_to(ROOT / name)
    (folder / "broken.yaml").write_bytes(Path(__file__).with_name("broken.yaml").read_bytes())
    for name, write in FILES.items():
        if re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w-])", text):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(run, folder / name) if write is None else write(folder / name)
    save_extractor(folder / "pooled.pt")


def train_run(folder: Path) -> Path:
    """A run of a few steps, on images in a folder beside it; it is measured."""
    images(folder / "images")
    extractor = {
        "settings": ["fid.extractor=torchscript"],
        "extractor_weights": [f"torchscript={folder / 'pooled.pt'}"],
    }
    save_extractor(folder / "pooled.pt")
    options: dict[str, Any] = {"kimg": 0.032, "log_every_kimg": 0.016, "workers": 0, "quiet": True}
    ganblocks.train(GAN, folder / "images", folder / "run", **options)
    ganblocks.evaluate(folder / "run", ["fid"], num=48, **extractor)
    return folder / "run"


def images(path: Path, size: tuple[int, int] = (20, 16), number: int = 48) -> None:
    """A folder of images of noise, in two subfolders."""
    random = np.random.default_rng(0)
    for index in range(number):
        (path / f"class{index % 2}").mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / f"class{index % 2}" / f"{index:03}.png")


def zipped_images(path: Path) -> None:
    images(path.with_suffix(""))
    with zipfile.ZipFile(path, "w") as file:
        for image in sorted(path.with_suffix("").rglob("*.png")):
            file.write(image, image.relative_to(path.with_suffix("")))


def document(path: Path) -> None:
    path.write_text(yaml.safe_dump(GAN))


def model(path: Path, **changes: Any) -> None:
    torch.manual_seed(0)
    save_model(path, parse(tiny.GENERATOR | changes).build())


def text_run(path: Path) -> None:
    path.mkdir()
    condition = {"kind": "open-clip-text", "model": TINY, "weights": None, "embed_weights": True}
    model(path / "model.safetensors", condition=condition)


def hub_folder(path: Path) -> None:
    ganblocks.save_pretrained(parse(tiny.GENERATOR).build().eval(), path)


def image(path: Path) -> None:
    Image.new("RGB", (16, 16), (200, 80, 40)).save(path)


def stylenat(path: Path) -> None:
    recorded = fixture("stylenat/generator-16-legacy")
    state = state_of(recorded, **STYLENAT)
    judge = state_of(fixture("stylenat/discriminator-16-equal"), **STYLENAT)
    checkpoints.write_old_stylenat(path, {"g": state, "g_ema": state, "d": judge}, recorded.config["args"])


def stylenat_state(path: Path) -> None:
    torch.save(state_of(fixture("stylenat/generator-32"), **STYLENAT), path)


def vitgan_state(path: Path) -> None:
    torch.save(state_of(fixture("vitgan/off-generator-inr-64")), path)


def styleformer(path: Path) -> None:
    generator, judge = fixture("styleformer/gen16"), fixture("styleformer/disc16_resnet")
    average, options = state_of(generator), generator.config["kwargs"]
    networks = {"G": (average, options), "D": (state_of(judge), judge.config["kwargs"]), "G_ema": (average, options)}
    checkpoints.write_persistent(path, networks, "raise SystemExit('was run')")


def document_of_checkpoint(path: Path) -> None:
    """A document of the networks in ffhq.pkl."""
    styleformer(path.with_name("ffhq.pkl"))
    networks = {"generator": "G_ema", "discriminator": "D"}
    specs = {name: import_network(path.with_name("ffhq.pkl"), role=role).spec for name, role in networks.items()}
    changes = {name: spec.to_dict() for name, spec in specs.items()}
    path.write_text(yaml.safe_dump(tiny.gan(**changes)))


FILES: dict[str, Callable[[Path], None] | None] = {  # None: a run
    "SPEC": lambda path: document(path.with_suffix(".yaml")),
    "DATA": images,
    "OTHER": None,
    "runs/mine": None,
    "runs/other": None,
    "runs/digits": None,
    "RUN": None,
    "photos": lambda path: images(path, number=160),
    "faces": images,
    "image.png": image,
    "ffhq256.zip": zipped_images,
    "runs/text": text_run,
    "me/digits": hub_folder,
    "FFHQ256_940k_flip.pt": stylenat,
    "g_ema.pt": stylenat_state,
    "gen_ema.pt": vitgan_state,
    "ffhq.pkl": styleformer,
    "mine.yaml": document_of_checkpoint,
    "network-snapshot-025000.pkl": styleformer,
}
