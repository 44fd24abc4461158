"""Files with the statistics of real images: pytorch-fid's and ADM's layouts, and our own, which extends the former.

pytorch-fid, https://github.com/mseitzer/pytorch-fid: arrays `mu` and `sigma`. ADM, Dhariwal and Nichol 2021,
https://arxiv.org/abs/2105.05233: the same and `mu_s`, `sigma_s`, and images as `arr_0` [N,H,W,3], with or without
statistics. Ours: `mu`, `sigma`, `features` if there are any, and `record`, which is JSON.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from blocks.common.pretrained.hashes import sha256_of
from blocks.families import FeatureSet
from ganblocks.errors import DataError
from registry.spec_file import write_atomically

UNKNOWN = -1  # number of images that a file does not say


class StatisticsFile(NamedTuple):
    """What a file of statistics holds.

    Args:
        path: The file.
        layout: pytorch-fid, adm or ganblocks.
        statistics: Mean and covariance, and features if the file has them; None for a file of images alone.
        images: Images; None for a file without.
        record: What our own files say about the images and the extractor.
    """

    path: Path
    layout: str
    statistics: FeatureSet | None
    images: UInt8[Tensor, "n 3 h w"] | None
    record: dict[str, Any]

    def describe(self) -> dict[str, Any]:
        """The reference of a metric's record."""
        if self.record:
            return dict(self.record["reference"])
        count = None if self.images is None else len(self.images)
        return {"name": self.path.name, "layout": self.layout, "count": count, "hash": sha256_of(self.path)}


def read_statistics(path: Path) -> StatisticsFile:
    """Read a file of statistics; nothing in it is run.

    Raises:
        DataError: There is no such file, it is damaged, or it has another layout.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist; give an .npz file with statistics, or --data with images")
    try:
        with np.load(path, allow_pickle=False) as file:
            names = set(file.files)
            arrays = {name: file[name] for name in names & {"mu", "sigma", "arr_0", "features", "record"}}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise DataError(
            f"{path} cannot be read as .npz ({type(error).__name__}); it may be cut short or have another format"
        ) from None
    images = _images(path, arrays["arr_0"]) if "arr_0" in arrays else None
    if not {"mu", "sigma"} <= set(arrays) and images is None:
        present = ", ".join(sorted(names)) or "no arrays"
        raise DataError(f"{path} has {present}; a reference has mu and sigma, or images as arr_0")
    record: dict[str, Any] = {}
    if "record" in arrays:
        try:
            record = json.loads(str(arrays["record"]))
            record["reference"], record["extractor"]
        except (ValueError, KeyError, TypeError):
            raise DataError(
                f"{path} is damaged: its record cannot be read; write it again with --save-reference"
            ) from None
    statistics = _statistics(path, arrays, record) if "mu" in arrays else None
    layout = "ganblocks" if record else "adm" if images is not None or "mu_s" in names else "pytorch-fid"
    return StatisticsFile(path, layout, statistics, images, record)


def write_statistics(path: Path, statistics: FeatureSet, record: dict[str, Any]) -> None:
    """Write a file that `read_statistics` and pytorch-fid read; an interrupted write leaves no partial file."""
    arrays = {"mu": statistics.mean.numpy(), "sigma": statistics.covariance.numpy()}
    if statistics.features is not None:
        arrays["features"] = statistics.features.numpy()
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, record=np.array(json.dumps(record)), **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue())


def _statistics(path: Path, arrays: dict[str, Any], record: dict[str, Any]) -> FeatureSet:
    mean, covariance = arrays["mu"], arrays.get("sigma", np.empty(0))
    if mean.ndim != 1 or covariance.shape != (*mean.shape, *mean.shape) or mean.dtype.kind != "f":
        raise DataError(f"{path}: mu has shape {mean.shape} and sigma {covariance.shape}, not (F,) and (F, F)")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise DataError(f"{path}: mu or sigma has values that are not finite; write the file again")
    features = torch.from_numpy(arrays["features"]) if "features" in arrays else None
    if features is not None and (features.ndim != 2 or features.shape[1] != len(mean)):
        raise DataError(f"{path}: features has shape {tuple(features.shape)}, not (N, {len(mean)})")
    count = record.get("reference", {}).get("count") or UNKNOWN
    mean64, covariance64 = (torch.from_numpy(np.asarray(each, np.float64)) for each in (mean, covariance))
    return FeatureSet(count if features is None else len(features), mean64, covariance64, features)


def _images(path: Path, images: Any) -> UInt8[Tensor, "n 3 h w"]:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise DataError(f"{path}: arr_0 is {images.dtype} of shape {images.shape}, not bytes of shape (N, H, W, 3)")
    return torch.from_numpy(images).permute(0, 3, 1, 2)
