"""Opens the files that checkpoints come in: torch's two formats, plain pickles, and .safetensors. Runs none of them."""

from __future__ import annotations

import io
import mmap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from assemblies.model_file import CheckpointError
from assemblies.unpickling.pickles import read_pickle
from assemblies.unpickling.records import UnreadableError, fields
from assemblies.unpickling.reducers import INERT, REDUCERS, make_tensor, storage_dtype

ZIP = b"PK\x03\x04"
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # torch.save before 1.6, and with _use_new_zipfile_serialization=False
LEGACY = b"\x8a\x0a" + LEGACY_MAGIC.to_bytes(10, "little")
NOT_CHECKPOINTS = {
    b"<": "a web page: the download went to a page that asks something first; fetch the file itself",
    b"version https://git-lfs": "a Git LFS pointer, not the file it stands for: git lfs pull",
    b"\x1f\x8b": "packed with gzip: unpack it first",
    b"\x89PNG": "a picture",
    b"\xff\xd8": "a picture",
    b"GIF8": "a picture",
    b"\x89HDF": "an HDF5 file, of another library",
}


def read_file(path: str | Path) -> Any:
    """What a checkpoint file holds, as data: dictionaries, tensors, and records of what is no plain data.

    Raises:
        RefusedError: The file would run code.
        UnreadableError: It is cut short, damaged, or no checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise UnreadableError(f"{path} is {'a folder, not a file' if path.is_dir() else 'not a file'}")
    if not (size := path.stat().st_size):
        raise UnreadableError(f"{path} is empty: its download or copy failed")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = bytes(content[:64])
        for magic, what in NOT_CHECKPOINTS.items():
            if start.lstrip().startswith(magic):
                raise UnreadableError(f"{path} is {what}")
        if start.startswith(ZIP):
            return read_zip(file, str(path))
        if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < size:
            return read_safetensors(path)
        if LEGACY in start:
            return read_legacy(content, size, str(path))
        return read_pickle(content, REDUCERS | nested(str(path)), INERT, subject=str(path))  # type: ignore[arg-type]


def read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UnreadableError(f"{path} cannot be read as .safetensors ({error}): cut short?") from None


def read_zip(file: IO[bytes], subject: str) -> Any:
    """Torch's format since 1.6: a zip archive of one pickle and a file for each storage."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = {each.filename: each for each in archive.infolist()}
            [*found] = [name for name in names if name.endswith("/data.pkl") or name == "data.pkl"]
            if len(found) != 1:
                raise UnreadableError(f"{subject} is a zip archive, but not one of torch.save: it has no data.pkl")
            folder = found[0].removesuffix("data.pkl")
            if f"{folder}constants.pkl" in names:
                raise UnreadableError(f"{subject} is a TorchScript program, no checkpoint: get the weights themselves")
            packed = [name for name, each in names.items() if each.compress_type != zipfile.ZIP_STORED]
            if packed:
                raise UnreadableError(f"{subject} is a compressed zip archive ({packed[0]}); torch.save writes none")
            order = f"{folder}byteorder"
            if order in names and archive.read(order) != b"little":
                raise UnreadableError(f"{subject} was written on a big-endian machine: load and save it there again")
            storages: dict[str, Tensor] = {}

            def storage(reference: Any) -> Tensor:
                _, kind, key, _, count = reference[:5]
                if key not in storages:
                    content = bytearray(archive.read(f"{folder}data/{key}"))
                    storages[key] = torch.frombuffer(content, dtype=storage_dtype(kind)) if content else empty(kind)
                if len(storages[key]) < count:
                    raise ValueError(f"storage {key} has {len(storages[key])} numbers, not {count}")
                return storages[key]

            pickled = io.BytesIO(archive.read(found[0]))
            return read_pickle(pickled, REDUCERS | nested(subject), INERT, storage, subject)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise UnreadableError(f"{subject} is damaged or cut short ({error}): download or copy it again") from None


def read_legacy(content: Any, size: int, subject: str) -> Any:
    """Torch's format before 1.6: five pickles, then the storages' bytes, which the object refers to by key."""
    storages: dict[str, Tensor] = {}
    promised = 0

    def storage(reference: Any) -> Tensor:
        nonlocal promised
        if reference[0] == "module":  # a class of a network that was saved whole, with its source, which is left aside
            return reference[1]
        _, kind, key, _, count, *view = reference
        if key not in storages:
            promised += count * storage_dtype(kind).itemsize
            if count < 0 or promised > size:
                raise ValueError(f"storages of {promised} bytes in a file of {size}")
            storages[key] = torch.zeros(count, dtype=storage_dtype(kind))
        if view and view[0]:
            _, offset, length = view[0]
            return make_tensor(storages[key], offset, (length,), (1,))
        return storages[key]

    def part(**options: Any) -> Any:
        return read_pickle(content, REDUCERS | nested(subject), INERT, subject=subject, **options)

    if part() != LEGACY_MAGIC or part() != 1001:
        raise UnreadableError(f"{subject} is of a version of torch's format that is not known")
    if not fields(part()).get("little_endian"):
        raise UnreadableError(f"{subject} was written on a big-endian machine: load and save it there again")
    found, keys = part(persistent=storage), part()
    for key in keys if isinstance(keys, list) else ():
        count = int.from_bytes(content.read(8), "little")
        if not isinstance(key, str) or key not in storages or count != len(storages[key]):
            raise UnreadableError(f"{subject} is damaged: storage {key} is not the one its tensors speak of")
        raw = content.read(count * storages[key].itemsize)
        if len(raw) < count * storages[key].itemsize:
            raise UnreadableError(f"{subject} is cut short: storage {key} ends after {len(raw)} bytes")
        storages[key].view(torch.uint8).numpy()[:] = np.frombuffer(raw, np.uint8)
    return found


def nested(subject: str) -> dict[str, Callable[..., Any]]:
    """How a plain pickle holds a storage: as the bytes of a file of torch's own. Such bytes hold no further ones."""

    def storage(content: Any) -> Tensor:
        if not isinstance(content, bytes) or LEGACY not in content[:64]:
            raise ValueError("a storage that is not in torch's format")
        found = read_legacy(io.BytesIO(content), len(content), subject)
        if not isinstance(found, Tensor):
            raise ValueError("a storage that is none")
        return found

    return {"torch.storage._load_from_bytes": storage}


def empty(kind: Any) -> Tensor:
    return torch.zeros(0, dtype=storage_dtype(kind))


__all__ = ["CheckpointError", "read_file"]
