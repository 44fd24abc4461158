"""The data set `clusters`: another one without classes, in which similar images get the same class.

`--data 'clusters?data=photos&num=64'`. A GAN that takes the classes is unsupervised, and learns faster than one without
classes: Lucic et al. 2019, https://arxiv.org/abs/1903.02271, section 3.1, who cluster learned features of the images.
Here they are the pixels of small copies, which need no network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import Field, NonNegativeInt

from ganblocks.data.dataset import ImagesInFiles, read_all
from ganblocks.data.skipped import Skipped
from ganblocks.data.sources import data_name, list_source
from registry import DataSet, DataSetOptions, RegisterDataSet, cache_folder, hookimpl
from registry.spec_file import write_atomically

SIDE = 16  # pixels of the copies
FEATURES = 48  # principal components of their pixels
FITTED = 20_000  # images, evenly spaced, from which components and centres are computed
RESTARTS = 4  # of k-means, of which the best is kept
CHUNK = 4096
REVISION = 1  # of the classes; those of another revision in the cache are not used


class Options(DataSetOptions):
    """What `--data clusters?name=value&name=value` accepts.

    Args:
        data: Folder, archive, URL or name of the images; a name's own options begin with %3F in place of ?, and are
            joined by %26 in place of &.
        num: Number of clusters, the generator's classes.
        seed: Random seed of the clusters' first centres.
    """

    data: str
    num: int = Field(default=64, ge=2, le=65536)
    seed: NonNegativeInt = 0


def prepare_clusters(resolution: int, image_channels: int, options: Mapping[str, str]) -> DataSet:
    """The images of a data set with their clusters as classes, which are kept in the cache.

    Args:
        resolution: Pixels of a side, for data sets that are rendered.
        image_channels: 1 for grey, 3 for RGB, 4 for RGBA. Clusters are those of the images in RGB.
        options: See `Options`.

    Raises:
        ValueError: An option is unknown or has an invalid value, or there are fewer different images than clusters.
        DataError: The data set cannot be opened.
        OSError: The cache cannot be written.
    """
    chosen = Options.chosen(options)
    listing, license = list_source(chosen.data, (resolution, resolution), image_channels)
    small = listing  # a named data set may be rendered: then alike for each resolution
    if data_name(chosen.data) is not None:
        small, _ = list_source(chosen.data, (SIDE, SIDE))
    copies = ImagesInFiles([sample.image for sample in small.samples], (SIDE, SIDE), 3, "box")
    names = tuple(f"cluster-{number:0{len(str(chosen.num - 1))}d}" for number in range(chosen.num))
    images = [sample.image for sample in listing.samples]
    return DataSet(Path(chosen.data), license, images, _cached(copies, chosen), names)


def _cached(copies: ImagesInFiles, options: Options) -> list[int]:
    settings = [REVISION, copies.fingerprint, options.num, options.seed, SIDE, FEATURES, FITTED, RESTARTS]
    name = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
    file = cache_folder.folder() / "data" / f"clusters-{name}.json"
    if file.exists():
        cached: list[int] = json.loads(file.read_bytes())
        return cached
    classes = cluster(rows_of(copies), options.num, options.seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(classes).encode())
    return classes


def rows_of(copies: ImagesInFiles) -> npt.NDArray[np.uint8]:
    """The pixels of each image as a row of bytes; black where one cannot be read, which its reader skips."""
    rows = np.zeros((len(copies), 3 * SIDE * SIDE), dtype=np.uint8)
    for row, image in zip(rows, read_all(copies, "clustering images"), strict=True):
        if not isinstance(image, Skipped):
            row[:] = image.flatten().numpy()
    return rows


def cluster(rows: npt.NDArray[np.uint8], num: int, seed: int) -> list[int]:
    """The cluster of each row, by k-means in the space of the first principal components.

    Args:
        rows: Features of each image, 0 to 255.
        num: Number of clusters.
        seed: Random seed.

    Raises:
        ValueError: There are fewer different rows than clusters.
    """
    from sklearn.cluster import KMeans  # here, because they take a second to import
    from sklearn.decomposition import PCA

    fitted = rows[np.linspace(0, len(rows) - 1, min(len(rows), max(FITTED, num))).astype(int)] / 255
    if (different := len(np.unique(fitted, axis=0))) < num:
        raise ValueError(f"{different} different images do not make {num} clusters; choose a smaller num")
    components = PCA(min(FEATURES, *fitted.shape), random_state=seed).fit(fitted)
    centres = KMeans(num, n_init=RESTARTS, random_state=seed).fit(components.transform(fitted))
    classes: list[int] = []
    for first in range(0, len(rows), CHUNK):
        classes += centres.predict(components.transform(rows[first : first + CHUNK] / 255)).tolist()
    return classes


@hookimpl
def register_data_sets(register: RegisterDataSet) -> None:
    register("clusters", prepare_clusters)
