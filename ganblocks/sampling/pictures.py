"""Writes pictures, animations and videos, with the command and the spec that made them in their metadata.

Metadata are text chunks in PNG, a comment in GIF and MP4, and EXIF in JPEG, WebP and TIFF, where the description is a
JSON object. Files are written whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from importlib import import_module, metadata
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin

from assemblies import Generator
from ganblocks.errors import UsageError
from registry.spec_file import write_atomically
from registry.text import excerpt

STILLS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tiff")
VIDEO = ".mp4"
ANIMATIONS = {".gif": "GIF", ".apng": "PNG", ".webp": "WEBP", VIDEO: "MP4"}
MOST_COMMAND, MOST_SPEC = 4_000, 40_000  # characters; a JPEG has room for 65,533 bytes of EXIF
LONG = 1_000  # characters of a text that PNG compresses

Metadata = Mapping[str, str]


def made_by(generator: Generator, command: str = "") -> dict[str, str]:
    """The metadata of a generator's images.

    Args:
        generator: The generator.
        command: The command line; "" for none.
    """
    spec = json.dumps(generator.spec.to_dict(), separators=(",", ":"))
    if len(spec) > MOST_SPEC:
        spec = f"{generator.spec.kind}, {len(spec):,} characters, which are too many for a picture"
    texts = {"Software": f"ganblocks {metadata.version('ganblocks')}", "spec": spec}
    return texts | ({"command": excerpt(command, MOST_COMMAND)} if command else {})


def save_picture(picture: Image.Image, path: str | Path, metadata: Metadata | None = None) -> None:
    """Write a picture in the format of its suffix; PNG for unknown suffixes."""
    path, content = Path(path), BytesIO()
    form = Image.registered_extensions().get(path.suffix.lower(), "PNG")
    picture = picture.convert("RGB") if form == "JPEG" else picture
    picture.save(content, format=form, **_fields(form, metadata or {}))
    write_atomically(path, content.getvalue())


def save_animation(
    frames: Sequence[Image.Image], path: str | Path, fps: float = 24, metadata: Metadata | None = None
) -> None:
    """Write frames of one size as an endless .gif, .apng or .webp, or as an .mp4; .gif reduces colours to 256.

    Raises:
        UsageError: The package av, which writes .mp4, is not installed.
    """
    path, content = Path(path), BytesIO()
    suffix = path.suffix.lower()
    if suffix == VIDEO:
        _write_video(frames, content, path, fps, metadata or {})
    else:
        form = ANIMATIONS[suffix]
        options: dict[str, Any] = {"lossless": True} if form == "WEBP" else {}
        hundredths = 10 * round(100 / fps)  # which GIF counts
        frames[0].save(
            content,
            format=form,
            save_all=True,
            append_images=frames[1:],
            duration=hundredths if form == "GIF" else 1000 / fps,
            loop=0,
            **options,
            **_fields(form, metadata or {}),
        )
    write_atomically(path, content.getvalue())


def save_figure(figure: Any, path: str | Path, metadata: Metadata | None = None) -> None:
    """Write a figure of `new_figure` as a picture."""
    content = BytesIO()
    figure.savefig(content, format="png", dpi=100)
    with Image.open(content) as picture:
        save_picture(picture.convert("RGB"), path, metadata)


def new_figure(width: float, height: float) -> Any:
    """An empty figure of matplotlib, in units of 100 px, that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here, because it takes half a second to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def check_picture(out: Path, option: str = "--out") -> None:
    """Refuse what is not the file of a single picture.

    Raises:
        UsageError: `out` is a folder, or has another suffix than `STILLS`.
    """
    if out.is_dir() or out.suffix.lower() not in STILLS:
        raise UsageError(f"{option} {out}: is one picture; give a suffix such as {', '.join(STILLS)}")


def destination(out: Path, suffixes: Sequence[str] = STILLS) -> str:
    """The suffix of the file to write, or "" where `out` is a folder.

    Raises:
        UsageError: The suffix is none of `suffixes`, or needs a package that is not installed.
    """
    suffix = out.suffix.lower()
    if out.is_dir() or not suffix:
        return ""
    if suffix not in suffixes:
        raise UsageError(
            f"--out {out}: {suffix} files cannot be written; use {', '.join(suffixes)}, or no suffix for a folder"
        )
    if suffix == VIDEO and not writes_video():
        raise UsageError(f"--out {out}: {VIDEO} needs the package av: pip install 'ganblocks[video]'; or write a .gif")
    return suffix


def writes_video() -> bool:
    """Whether the package that writes videos is installed."""
    return find_spec("av") is not None


def _fields(form: str, metadata: Metadata) -> dict[str, Any]:
    """The arguments of Pillow's `save` for metadata in a format."""
    if not metadata:
        return {}
    if form == "PNG":
        chunks = PngImagePlugin.PngInfo()
        for name, text in metadata.items():
            chunks.add_text(name, text, zip=len(text) > LONG)
        return {"pnginfo": chunks}
    if form == "GIF":
        return {"comment": json.dumps(dict(metadata))}
    if form in ("JPEG", "WEBP", "TIFF"):
        exif = Image.Exif()
        exif[ExifTags.Base.Software] = metadata.get("Software", "")
        exif[ExifTags.Base.ImageDescription] = json.dumps(dict(metadata))
        return {"exif": exif}
    return {}


def _write_video(frames: Sequence[Image.Image], content: BytesIO, path: Path, fps: float, metadata: Metadata) -> None:
    """Write frames as H.264, whose sides are even: an odd last row or column is repeated."""
    destination(path, (VIDEO,))
    av: Any = import_module("av")
    width, height = frames[0].size
    with av.open(content, "w", format="mp4") as container:
        container.metadata["comment"] = json.dumps(dict(metadata))
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000), options={"crf": "14"})
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        for frame in frames:
            pixels = np.pad(np.asarray(frame.convert("RGB")), ((0, height % 2), (0, width % 2), (0, 0)), "edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
