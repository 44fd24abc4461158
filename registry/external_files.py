"""Files outside a model file that its blocks want, such as pretrained weights, and whether they may be used.

A model file from somebody else could make a program open any local file or contact any server. While one is loaded,
blocks check here before they do so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from registry.errors import incompatible

_allowed: ContextVar[bool] = ContextVar("allowed", default=True)
_downloads: ContextVar[bool] = ContextVar("downloads", default=False)


@contextmanager
def external_files(*, allowed: bool) -> Iterator[None]:
    """While open, blocks may open files and contact servers that their specs name only if `allowed`.

    Where it is not open, they may; large downloads, see `downloads_allowed`, only inside of it.
    """
    tokens = _allowed.set(allowed), _downloads.set(allowed)
    try:
        yield
    finally:
        _allowed.reset(tokens[0])
        _downloads.reset(tokens[1])


def external_files_allowed() -> bool:
    return _allowed.get()


def downloads_allowed() -> bool:
    """Whether downloads were asked for, by `--allow-external`."""
    return _downloads.get()


def check_external(parameter: str, wanted: str) -> None:
    """Raise an error unless external files are allowed.

    Args:
        parameter: The option that names the file.
        wanted: What would be opened or downloaded, such as "to open weights.pt".

    Raises:
        IncompatibleError: They are not allowed.
    """
    if not _allowed.get():
        cure = "if you trust the model file, pass --allow-external (allow_external=True in Python)"
        raise incompatible(parameter, f"the model file wants {wanted}; {cure}")
