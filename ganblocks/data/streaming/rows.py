"""Shards of a plugin's data set, whose images are written one after the other into one file on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from blocks.families.networks import ConditionInput
from ganblocks.data.streaming.store import Row, ShardIndex, Stopped
from registry import DataShard
from registry.spec_file import replacing


class RowShard(NamedTuple):
    """A shard.

    Args:
        rows: What the plugin reads.
        labels: Which labels are kept.
    """

    rows: DataShard
    labels: ConditionInput | None

    @property
    def name(self) -> str:
        return self.rows.name

    def fetch(self, copy: Path, stopped: Callable[[], bool]) -> ShardIndex:
        rows: list[Row] = []
        digest = hashlib.sha256()
        with replacing(copy) as temporary, open(temporary, "wb") as file:
            for image in self.rows.read():
                if stopped():
                    raise Stopped
                row = Row(image.name, file.tell(), len(image.data))
                if not image.data:
                    row = row._replace(problem="the row has no image")
                elif self.labels == "classes":
                    row = row._replace(label=image.label, problem=None if image.label is not None else "has no class")
                elif self.labels == "captions":
                    row = row._replace(captions=image.captions, problem=None if image.captions else "has no caption")
                rows.append(row)
                file.write(image.data)
                digest.update(image.data)
        return ShardIndex(str(copy), rows, digest=digest.hexdigest())
