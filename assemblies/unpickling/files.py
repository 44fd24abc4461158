"""Reads checkpoint files: both formats of torch.save, plain pickles and .safetensors. Nothing in them is run."""

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
    b"<": "a web page: the download link leads to a page with a question; download the file itself",
    b"version https://git-lfs": "a Git LFS pointer instead of the file: run git lfs pull",
    b"\x1f\x8b": "compressed with gzip: decompress it first",
    b"\x89PNG": "an image",
    b"\xff\xd8": "an image",
    b"GIF8": "an image",
    b"\x89HDF": "an HDF5 file of another library",
}


def read_file(path: str | Path) -> Any:
    """The object in a checkpoint file, as data: dictionaries, tensors, and records of other objects.

    Raises:
        RefusedError: The file would run code.
        UnreadableError: It is truncated, damaged or not a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise UnreadableError(f"{path} {'is a folder, not a file' if path.is_dir() else 'does not exist'}")
    if not (size := path.stat().st_size):
        raise UnreadableError(f"{path} is empty: download or copy it again")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = bytes(content[:64])
        for magic, description in NOT_CHECKPOINTS.items():
            if start.lstrip().startswith(magic):
                raise UnreadableError(f"{path} is {description}")
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
        raise UnreadableError(f"{path} cannot be read as .safetensors ({error}): truncated?") from None


def read_zip(file: IO[bytes], subject: str) -> Any:
    """torch.save's format since 1.6: a zip archive of one pickle and a file per storage."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = {member.filename: member for member in archive.infolist()}
            pickles = [name for name in members if name.endswith("/data.pkl") or name == "data.pkl"]
            if len(pickles) != 1:
                raise UnreadableError(f"{subject} is a zip archive, but not of torch.save: it has no data.pkl")
            folder = pickles[0].removesuffix("data.pkl")
            if f"{folder}constants.pkl" in members:
                raise UnreadableError(f"{subject} is a TorchScript program, not a checkpoint: save its state_dict")
            compressed = [name for name, member in members.items() if member.compress_type != zipfile.ZIP_STORED]
            if compressed:
                raise UnreadableError(f"{subject} is a compressed zip archive ({compressed[0]}), not of torch.save")
            order = f"{folder}byteorder"
            if order in members and archive.read(order) != b"little":
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

            pickled = io.BytesIO(archive.read(pickles[0]))
            return read_pickle(pickled, REDUCERS | nested(subject), INERT, storage, subject)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise UnreadableError(f"{subject} is damaged or truncated ({error}): download or copy it again") from None


def read_legacy(content: Any, size: int, subject: str) -> Any:
    """torch.save's format before 1.6: five pickles, then the bytes of the storages, which they refer to by key."""
    storages: dict[str, Tensor] = {}
    total = 0

    def storage(reference: Any) -> Tensor:
        nonlocal total
        if reference[0] == "module":  # the class of a network that was saved whole, with its source code
            return reference[1]
        _, kind, key, _, count, *view = reference
        if key not in storages:
            total += count * storage_dtype(kind).itemsize
            if count < 0 or total > size:
                raise ValueError(f"storages of {total} bytes in a file of {size}")
            storages[key] = torch.zeros(count, dtype=storage_dtype(kind))
        if view and view[0]:
            _, offset, length = view[0]
            return make_tensor(storages[key], offset, (length,), (1,))
        return storages[key]

    def part(**options: Any) -> Any:
        return read_pickle(content, REDUCERS | nested(subject), INERT, subject=subject, **options)

    if part() != LEGACY_MAGIC or part() != 1001:
        raise UnreadableError(f"{subject} is of an unknown version of torch's format")
    if not fields(part()).get("little_endian"):
        raise UnreadableError(f"{subject} was written on a big-endian machine: load and save it there again")
    checkpoint, keys = part(load_persistent=storage), part()
    for key in keys if isinstance(keys, list) else ():
        count = int.from_bytes(content.read(8), "little")
        if not isinstance(key, str) or key not in storages or count != len(storages[key]):
            raise UnreadableError(f"{subject} is damaged: storage {key} is not among those of its tensors")
        raw = content.read(count * storages[key].itemsize)
        if len(raw) < count * storages[key].itemsize:
            raise UnreadableError(f"{subject} is truncated: storage {key} ends after {len(raw)} bytes")
        storages[key].view(torch.uint8).numpy()[:] = np.frombuffer(raw, np.uint8)
    return checkpoint


def nested(subject: str) -> dict[str, Callable[..., Any]]:
    """The reducer of storages in a plain pickle, which contains them as the bytes of a torch file."""

    def load_storage(content: Any) -> Tensor:
        if not isinstance(content, bytes) or LEGACY not in content[:64]:
            raise ValueError("a storage is not in torch's format")
        storage = read_legacy(io.BytesIO(content), len(content), subject)
        if not isinstance(storage, Tensor):
            raise ValueError("the file of a storage contains something else")
        return storage

    return {"torch.storage._load_from_bytes": load_storage}


def empty(kind: Any) -> Tensor:
    return torch.zeros(0, dtype=storage_dtype(kind))


__all__ = ["CheckpointError", "read_file"]
