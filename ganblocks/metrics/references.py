"""The real images that metrics compare with: from a data set, from a file of statistics, or from the cache.

The cache is a folder of files as `--save-reference` writes them, named by a hash over the data set, its subset, its
resizing, and the extractor with its weights.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor

from blocks.families import FeatureExtractor, FeatureSet
from blocks.metric.frechet import gaussian_of
from ganblocks.data.dataset import Images
from ganblocks.data.skipped import UnreadableError
from ganblocks.data.sources import data_name
from ganblocks.errors import DataError
from ganblocks.metrics.generated import to_rgb
from ganblocks.metrics.processes import Processes
from ganblocks.metrics.statistics_files import StatisticsFile, read_statistics, write_statistics
from ganblocks.precision import apply_precision
from registry.cache_folder import folder

SPLITS = ("train", "training", "val", "valid", "validation", "test", "held-out")  # names of folders


class Reference(NamedTuple):
    """The features of real images, and the description of these images for records."""

    features: FeatureSet
    record: dict[str, Any]


class RealImages:
    """A data set as a reference.

    Args:
        images: The data set, of the model's resolution.
        resolution: That resolution.
        resize_filter: Filter by which images of another size were resized.
        num: Number of images, drawn at random; None for all.
        seed: Random seed of the drawing.

    Raises:
        DataError: The data set has fewer images.
    """

    def __init__(
        self,
        images: Images,
        resolution: tuple[int, int],
        resize_filter: str,
        num: int | None = None,
        seed: int = 0,
    ) -> None:
        self.images = images
        total = len(images)
        if num is not None and num > total:
            raise DataError(
                f"{images.name} has {total:,} images; the protocol draws {num:,} of them: give more images, or "
                f"--reference-num {total}"
            )
        self.indices: Sequence[int] = range(total)
        if num is not None and num < total:
            self.indices = images.subset(num, seed)
        self.record = {
            "name": images.name,
            "split": _split(images.name),
            "count": len(self.indices),
            "of": total,
            "subset_seed": seed if len(self.indices) < total else None,
            "hash": images.fingerprint,
            "resolution": list(resolution),
            "resize_filter": resize_filter,
        }

    def batches(self, part: range, batch_size: int) -> Iterator[UInt8[Tensor, "b 3 h w"]]:
        """The images of some of the reference's positions."""
        with ThreadPoolExecutor() as pool:
            for first in range(0, len(part), batch_size):
                indices = [self.indices[position] for position in part[first : first + batch_size]]
                yield to_rgb(torch.stack(list(pool.map(self.read, indices))))

    def read(self, index: int) -> UInt8[Tensor, "c h w"]:
        try:
            return self.images.read(index)
        except UnreadableError as error:
            raise DataError(
                f"{self.images.name_of(index)} {error}; remove it, so that everybody compares with the same images"
            ) from None


class ReferenceSource:
    """Where references come from.

    Args:
        processes: The processes that share the work.
        real: A data set; None without one.
        file: A file of statistics, which is preferred; None without one.
        resolution: Height and width of generated images.
        batch_size: Images per batch.
        use_cache: Whether the statistics of data sets are cached.

    Raises:
        DataError: The file has images of another resolution.
    """

    def __init__(
        self,
        processes: Processes,
        real: RealImages | None,
        file: StatisticsFile | None,
        *,
        resolution: tuple[int, int],
        batch_size: int,
        use_cache: bool = True,
    ) -> None:
        self.processes, self.real, self.file = processes, real, file
        self.batch_size, self.use_cache = batch_size, use_cache
        self.kept: dict[tuple[str, bool], Reference] = {}
        if file is not None:
            described = file.record.get("reference", {}).get("resolution")
            size = tuple(file.images.shape[2:]) if file.images is not None else described and tuple(described)
            if size and size != resolution:
                raise DataError(
                    f"{file.path} is of images of {size[0]} x {size[1]} pixels, the model's have {resolution[0]} x "
                    f"{resolution[1]}; give a reference of that size"
                )

    def get(self, extractor: FeatureExtractor, *, needs_features: bool) -> Reference:
        """The reference in the features of an extractor.

        Raises:
            DataError: There is none, or the file is of another extractor or lacks features.
        """
        key = json.dumps(extractor.record(), sort_keys=True), needs_features
        if key not in self.kept:
            from_file = self.file is not None
            self.kept[key] = (self._from_file if from_file else self._from_data)(extractor, needs_features)
        return self.kept[key]

    def _from_data(self, extractor: FeatureExtractor, needs_features: bool) -> Reference:
        if self.real is None:
            raise DataError("there are no real images to compare with; give --data, or --reference with statistics")
        record = {"reference": self.real.record, "extractor": extractor.record()}
        path = self._cache_path(record)
        cached = _read_cached(path) if path is not None and path.is_file() else None
        if cached is not None and needs_features and cached.features is None:
            cached = None
        if self.processes.all(cached is not None) and cached is not None:
            return Reference(cached, self.real.record)
        count = len(self.real.indices)
        batches = self.real.batches(self.processes.share(count), self.batch_size)
        features = self._features(extractor, batches, count, keep=needs_features)
        if path is not None and self.processes.is_main:
            try:
                write_statistics(path, features, record)
            except OSError as error:
                warnings.warn(f"the statistics of real images are not cached: {error}", stacklevel=2)
        return Reference(features, self.real.record)

    def _from_file(self, extractor: FeatureExtractor, needs_features: bool) -> Reference:
        file = self.file
        assert file is not None
        if file.record and (differences := _differences(file.record["extractor"], extractor.record())):
            raise DataError(
                f"{file.path} is of another extractor: {'; '.join(differences)}; use that one, or another reference"
            )
        statistics = file.statistics
        if statistics is None or (needs_features and statistics.features is None):
            if file.images is None:
                raise DataError(
                    f"{file.path} has mean and covariance only, which is enough for fid and fd; give --data for the "
                    "other metrics"
                )
            count, images = len(file.images), file.images
            part = self.processes.share(count)
            batches = (
                images[list(part[first : first + self.batch_size])] for first in range(0, len(part), self.batch_size)
            )
            statistics = self._features(extractor, batches, count, keep=True)
        return Reference(statistics, file.describe())

    @torch.no_grad()
    def _features(
        self, extractor: FeatureExtractor, batches: Iterator[Tensor], count: int, *, keep: bool
    ) -> FeatureSet:
        with apply_precision("fp32", self.processes.device):
            parts = [extractor(batch.to(self.processes.device)).cpu() for batch in batches]
        features = self.processes.gather(torch.cat(parts), count)
        return FeatureSet(count, *gaussian_of(features), features if keep else None)

    def _cache_path(self, record: dict[str, Any]) -> Path | None:
        if not self.use_cache:
            return None
        described = {name: value for name, value in record["reference"].items() if name not in ("name", "split")}
        key = json.dumps([described, record["extractor"]], sort_keys=True)
        try:
            return folder() / "metrics" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
        except OSError:  # there is no home folder
            return None


def check_width(features: FeatureSet, extractor: FeatureExtractor, width: int, name: str) -> None:
    """Refuse a reference of another number of features.

    Raises:
        DataError: The numbers differ.
    """
    if len(features.mean) != width:
        raise DataError(
            f"{name} has statistics of {len(features.mean)} features, {extractor.kind} has {width}; give a reference "
            "of that extractor"
        )


def _read_cached(path: Path) -> FeatureSet | None:
    try:
        return read_statistics(path).statistics
    except DataError:  # damaged: it is computed and written again
        return None


def _differences(saved: dict[str, Any], current: dict[str, Any]) -> list[str]:
    names = sorted({*saved, *current} - {"weights", "backbone_weights"})  # names of files
    return [
        f"{name} {saved.get(name)} there, {current.get(name)} here"
        for name in names
        if json.dumps(saved.get(name)) != json.dumps(current.get(name))
    ]


def _split(name: str) -> str | None:
    """The split that a data set's path or option names; one without a path is by default the part to train with."""
    if named := data_name(name):
        if "split" in named.options or "path" not in named.options:
            return named.options.get("split", "train")
        name = named.options["path"]
    return next((part for part in reversed(Path(name).parts) if Path(part).stem.lower() in SPLITS), None)
