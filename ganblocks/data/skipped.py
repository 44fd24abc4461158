"""Files of a data set that are skipped, with the reasons."""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from PIL import UnidentifiedImageError
from PIL.Image import DecompressionBombError

from registry.text import counted

MAX_REASONS = 6  # listed in a summary; the log has all
MAX_REASON = 200  # characters of a reason
# whose messages say by themselves what is wrong with a file
CLEAR_ERRORS = (ValueError, SyntaxError, OSError, EOFError, tarfile.TarError, zipfile.BadZipFile)


class UnreadableError(Exception):
    """A file of a data set cannot be read; the message is the reason, without the name of the file."""


class Skipped(NamedTuple):
    """A file of a data set that is not used, and the reason."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def reason_for(error: Exception) -> str:
    """Why a file cannot be read, without its path, in one line."""
    if isinstance(error, UnidentifiedImageError):
        return "is not an image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, DecompressionBombError):
        return f"is too large: {error}"
    text = " ".join(str(error).split())[:MAX_REASON]
    if isinstance(error, (UnreadableError, *CLEAR_ERRORS)) and text:
        return text
    return f"{text} ({type(error).__name__})" if text else type(error).__name__


def summarize_skipped(skipped: Sequence[Skipped], total: int) -> str:
    """One line that counts skipped files by reason, such as `2 of 9 files skipped: 1 x is not an image, ...`.

    Reasons that differ only in numbers, or in details after a bracket or a colon, are counted together.
    """
    kinds = Counter(re.sub(r"(?<![\w-])\d[\d,]*", "N", re.split(r" *[(:;]", reason)[0]) for _, reason in skipped)
    counts = [f"{count:,} x {kind}" for kind, count in kinds.most_common(MAX_REASONS)]
    if len(kinds) > MAX_REASONS:
        counts.append(f"{len(kinds) - MAX_REASONS} other reasons")
    return f"{len(skipped):,} of {counted(total, 'file')} skipped: {', '.join(counts)}"
