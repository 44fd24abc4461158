"""Hashes of weights, for records."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from blocks.common.pretrained.frozen_module import FrozenModule


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hashed_source(network: nn.Module, source: Mapping[str, str]) -> dict[str, str]:
    """The source of a network's weights with the SHA-256 of its tensors, as model files have them."""
    frozen = network if isinstance(network, FrozenModule) else FrozenModule(network, source)
    return {**source, "sha256": frozen.fingerprint()}
