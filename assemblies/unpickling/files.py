"""Reads checkpoint files: both formats of torch.save, plain pickles and .safetensors. Nothing in them is run."""

from __future__ import annotations

import io
import mmap
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from assemblies.model_file import FORMAT, CheckpointError
from assemblies.unpickling.limits import Limits, check_name
from assemblies.unpickling.pickles import read_pickle
from assemblies.unpickling.records import UnreadableError, fields
from assemblies.unpickling.reducers import INERT, REDUCERS, make_tensor, storage_dtype
from registry.text import excerpt

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
        UnreadableError: It is truncated, damaged or not a checkpoint, or exceeds the limits.
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
            return read_zip(file, size, str(path))
        if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < size:
            return read_safetensors(path)
        limits = Limits(size)
        reducers = REDUCERS | nested(str(path), limits)
        if LEGACY in start:
            return LegacyFile(content, size, str(path), reducers, limits).read()
        return read_pickle(content, limits, reducers, INERT, subject=str(path))  # type: ignore[arg-type]


def read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            form = str((file.metadata() or {}).get("format", ""))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except Exception as error:  # SafetensorError, or what a damaged header leads to
        reason = excerpt(error, 300)
        raise UnreadableError(f"{path} cannot be read as .safetensors ({reason}): truncated?") from None
    if form == FORMAT:
        cure = "pass it as MODEL to `ganblocks sample`, `evaluate`, `export`, `push` or `demo`"
        raise UnreadableError(f"{path} is a ganblocks model already: {cure}")
    if form.startswith("ganblocks-"):
        raise UnreadableError(f"{path} is a file of ganblocks ({excerpt(form)}), not a checkpoint of another library")
    return tensors


def read_zip(file: IO[bytes], size: int, subject: str) -> Any:
    """torch.save's format since 1.6: a zip archive of one pickle and a file per storage."""
    try:
        with zipfile.ZipFile(file) as archive:
            return ZipFile(archive, size, subject).read()
    except CheckpointError:
        raise
    except Exception as error:  # zipfile raises many kinds of errors for damaged archives
        reason = excerpt(error, 300) or type(error).__name__
        raise UnreadableError(f"{subject} is damaged or truncated ({reason}): download or copy it again") from None


class ZipFile:
    """A file of torch.save since 1.6; see `read_zip`."""

    def __init__(self, archive: zipfile.ZipFile, size: int, subject: str) -> None:
        self.archive, self.size, self.subject = archive, size, subject
        self.members = {member.filename: member for member in archive.infolist()}
        self.storages: dict[str, Tensor] = {}
        self.read_bytes = 0

    def read(self) -> Any:
        pickles = [name for name in self.members if name.endswith("/data.pkl") or name == "data.pkl"]
        if len(pickles) != 1:
            raise UnreadableError(f"{self.subject} is a zip archive, but not of torch.save: it has no data.pkl")
        self.folder = pickles[0].removesuffix("data.pkl")
        if f"{self.folder}constants.pkl" in self.members:
            raise UnreadableError(f"{self.subject} is a TorchScript program, not a checkpoint: save its state_dict")
        for name, member in self.members.items():
            if member.flag_bits & 1:
                raise UnreadableError(f"{self.subject} is an encrypted zip archive: decrypt it first")
            if member.compress_type != zipfile.ZIP_STORED:
                fact = f"a compressed zip archive ({excerpt(name)}), not of torch.save"
                raise UnreadableError(f"{self.subject} is {fact}")
        order = f"{self.folder}byteorder"
        if order in self.members and self.member(order) != b"little":
            raise UnreadableError(f"{self.subject} was written on a big-endian machine: load and save it there again")
        pickled = self.member(pickles[0])
        limits = Limits(len(pickled))
        reducers = REDUCERS | nested(self.subject, limits)
        return read_pickle(io.BytesIO(pickled), limits, reducers, INERT, self.storage, self.subject)

    def member(self, name: str) -> bytes:
        """A member; members that overlap in the file are counted once each."""
        self.read_bytes += self.members[name].file_size
        if self.read_bytes > self.size:
            raise UnreadableError(f"{self.subject} is damaged: its members are larger than the file")
        return self.archive.read(name)

    def storage(self, reference: Any) -> Tensor:
        _, kind, key, _, count = reference[:5]
        check_name(key)
        if key not in self.storages:
            content = bytearray(self.member(f"{self.folder}data/{key}"))
            dtype = storage_dtype(kind)
            self.storages[key] = torch.frombuffer(content, dtype=dtype) if content else torch.zeros(0, dtype=dtype)
        if len(self.storages[key]) < count:
            raise ValueError(f"storage {key} has {len(self.storages[key])} numbers, not {count}")
        return self.storages[key]


class LegacyFile:
    """A file of torch.save before 1.6: five pickles, then the bytes of the storages, to which they refer by key."""

    def __init__(
        self, content: Any, size: int, subject: str, reducers: Mapping[str, Callable[..., Any]], limits: Limits
    ) -> None:
        self.content, self.size, self.subject = content, size, subject
        self.reducers, self.limits = reducers, limits
        self.storages: dict[str, Tensor] = {}
        self.total = 0

    def read(self) -> Any:
        if self.pickle() != LEGACY_MAGIC or self.pickle() != 1001:
            raise UnreadableError(f"{self.subject} is of an unknown version of torch's format")
        if not fields(self.pickle()).get("little_endian"):
            raise UnreadableError(f"{self.subject} was written on a big-endian machine: load and save it there again")
        checkpoint, keys = self.pickle(load_persistent=self.storage), self.pickle()
        if not isinstance(keys, list) or {check_name(key) for key in keys} != set(self.storages):
            raise UnreadableError(f"{self.subject} is damaged: its list of storages is not that of its tensors")
        for key in keys:
            self.fill(key)
        return checkpoint

    def pickle(self, **options: Any) -> Any:
        return read_pickle(self.content, self.limits, self.reducers, INERT, subject=self.subject, **options)

    def storage(self, reference: Any) -> Tensor:
        if reference[0] == "module":  # the class of a network that was saved whole, with its source code
            module: Any = reference[1]
            return module
        _, kind, key, _, count, *view = reference
        check_name(key)
        if key not in self.storages:
            self.total += count * storage_dtype(kind).itemsize
            if count < 0 or self.total > self.size:
                raise ValueError(f"storages of {self.total} bytes in a file of {self.size}")
            self.storages[key] = torch.zeros(count, dtype=storage_dtype(kind))
        if view and view[0]:
            _, offset, length = view[0]
            return make_tensor(self.storages[key], offset, (length,), (1,))
        return self.storages[key]

    def fill(self, key: str) -> None:
        """Read the bytes of a storage."""
        storage = self.storages[key]
        count = self.content.read(8)
        raw = self.content.read(storage.nbytes)
        if len(count) < 8 or len(raw) < storage.nbytes:
            raise UnreadableError(f"{self.subject} is truncated: storage {excerpt(key)} ends after {len(raw)} bytes")
        if int.from_bytes(count, "little") != len(storage):
            raise UnreadableError(f"{self.subject} is damaged: storage {excerpt(key)} has another size")
        storage.view(torch.uint8).numpy()[:] = np.frombuffer(raw, np.uint8)


def nested(subject: str, limits: Limits) -> dict[str, Callable[..., Any]]:
    """The reducer of storages in a plain pickle, which contains them as the bytes of a torch file of their own."""

    def load_storage(content: Any) -> Tensor:
        if not isinstance(content, bytes) or LEGACY not in content[:64]:
            raise ValueError("a storage is not in torch's format")
        storage = LegacyFile(io.BytesIO(content), len(content), subject, REDUCERS, limits).read()
        if not isinstance(storage, Tensor):
            raise ValueError("the file of a storage contains something else")
        return storage

    return {"torch.storage._load_from_bytes": load_storage}


__all__ = ["CheckpointError", "read_file"]
