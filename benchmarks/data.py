"""Images per second of the data loader beside torchvision with PyTorch's DataLoader and beside webdataset.

python -m benchmarks.data [--quick] prints a table and writes JSON into benchmarks/results. JPEG files of 256 and of
1024 px in a folder, a zip and a tar are decoded, resized to 256 px and delivered in shuffled batches of 32. All
candidates run in turns, with one thread:

- "per core": images per second of processor time, without worker processes. Other processes do not disturb it.
- "of a worker": images per second of a single worker process, from its start to the last batch.

torchvision and webdataset resize with Pillow's Lanczos filter as the loader does, so that all three deliver the same
pixels; "torchvision tensors" decodes and resizes (bicubic) without Pillow. webdataset reads tars only, in the order of
the file with a buffer for shuffling.
"""

from __future__ import annotations

import argparse
import io
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks import measure
from ganblocks.data.loader import Sampler, batches
from ganblocks.data.sources import open_data
from plugins.torchvision import import_beside_torchvision

BATCH, RESOLUTION = 32, 256
NUM_IMAGES = {256: 512, 1024: 64}  # of a side in pixels
STORES = ("folder", "zip", "tar")


class Source(NamedTuple):
    """A data set: its file or folder, whether it is a folder, a zip or a tar, and its number of images."""

    path: Path
    store: str
    num_images: int


def jpeg(side: int, seed: int) -> bytes:
    """A JPEG of quality 90 with as much detail as a photograph: noise of all scales."""
    rng = np.random.default_rng([side, seed])
    pixels = np.full((side, side, 3), 128.0)
    for cells in (4, 16, 64, side):
        noise = rng.normal(0, 255, (cells, cells, 3)).clip(-128, 127) + 128
        scale = Image.fromarray(noise.astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
        pixels += (np.asarray(scale, dtype=np.float64) - 128) * (0.04 if cells == side else 0.3)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write(folder: Path, side: int, num_images: int) -> list[Source]:
    """The same JPEG files in a folder, a zip and a tar."""
    files = {f"{index:06d}.jpg": jpeg(side, index) for index in range(num_images)}
    (folder / "folder" / "images").mkdir(parents=True)
    for name, content in files.items():
        (folder / "folder" / "images" / name).write_bytes(content)
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    with tarfile.open(folder / "images.tar", "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    names = ("folder", "images.zip", "images.tar")
    return [Source(folder / name, store, num_images) for name, store in zip(names, STORES, strict=True)]


def ganblocks(source: Source, workers: int) -> Iterator[Tensor]:
    """Batches of this project's loader."""
    images = open_data(source.path, resolution=RESOLUTION, in_memory=0, progress=False)
    stream = batches(images, Sampler(len(images), seed=0), position=0, batch_size=BATCH, workers=workers)
    return (batch.images for batch in islice(stream, source.num_images // BATCH))


class Members(Dataset[Any]):
    """The images of a zip or a tar by number, as one writes it for torchvision's transforms."""

    def __init__(self, source: Source, transform: Callable[[bytes], Tensor]) -> None:
        self.source, self.transform = source, transform
        self.file: Any = None
        if source.store == "zip":
            self.members: list[Any] = zipfile.ZipFile(source.path).namelist()
        elif source.store == "tar":
            self.members = [(each.offset_data, each.size) for each in tarfile.open(source.path)]
        else:
            self.members = sorted(source.path.rglob("*.jpg"))

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, index: int) -> Tensor:
        if self.source.store == "folder":
            return self.transform(self.members[index].read_bytes())
        if self.file is None:  # each worker has its own
            self.file = zipfile.ZipFile(self.source.path) if self.source.store == "zip" else self.source.path.open("rb")
        if self.source.store == "zip":
            return self.transform(self.file.read(self.members[index]))
        offset, size = self.members[index]
        self.file.seek(offset)
        return self.transform(self.file.read(size))


def with_pillow() -> Callable[[Any], Tensor]:
    """torchvision's transforms of an image of Pillow."""
    transforms = import_beside_torchvision("torchvision.transforms.v2")
    lanczos = transforms.Resize(RESOLUTION, transforms.InterpolationMode.LANCZOS)
    return transforms.Compose([lanczos, transforms.CenterCrop(RESOLUTION), transforms.PILToTensor()])


def torchvision(source: Source, workers: int) -> Iterator[Tensor]:
    """Batches of torchvision's transforms, with its ImageFolder where the files are in a folder."""
    transform = with_pillow()
    if source.store == "folder":
        folder = import_beside_torchvision("torchvision.datasets").ImageFolder(str(source.path), transform)
        loader = DataLoader(folder, BATCH, shuffle=True, num_workers=workers, drop_last=True)
        return (images for images, _ in loader)
    members = Members(source, lambda data: transform(Image.open(io.BytesIO(data)).convert("RGB")))
    return iter(DataLoader(members, BATCH, shuffle=True, num_workers=workers, drop_last=True))


def torchvision_tensors(source: Source, workers: int) -> Iterator[Tensor]:
    """Batches of torchvision's own JPEG decoder and its resizing of tensors, which has no Lanczos filter."""
    names = ("torchvision.transforms.v2", "torchvision.io")
    transforms, image_files = map(import_beside_torchvision, names)
    bicubic = transforms.Resize(RESOLUTION, transforms.InterpolationMode.BICUBIC, antialias=True)
    transform = transforms.Compose([bicubic, transforms.CenterCrop(RESOLUTION)])

    def read(data: bytes) -> Tensor:
        encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        decoded: Tensor = transform(image_files.decode_jpeg(encoded, mode=image_files.ImageReadMode.RGB))
        return decoded

    return iter(DataLoader(Members(source, read), BATCH, shuffle=True, num_workers=workers, drop_last=True))


def webdataset(source: Source, workers: int) -> Iterator[Tensor]:
    """Batches of webdataset's pipeline of a tar."""
    library = import_module("webdataset")
    stream = library.WebDataset(str(source.path), shardshuffle=False, workersplitter=None).shuffle(1000)
    samples = stream.decode("pilrgb").to_tuple("jpg").map_tuple(with_pillow())
    return (images for (images,) in DataLoader(samples.batched(BATCH), None, num_workers=workers))


CANDIDATES: dict[str, Callable[[Source, int], Iterator[Tensor]]] = {
    "ganblocks": ganblocks,
    "torchvision": torchvision,
    "torchvision tensors": torchvision_tensors,
    "webdataset": webdataset,
}


def seconds(read: Callable[[Source, int], Iterator[Tensor]], source: Source, workers: int) -> float:
    """Processor seconds of all batches without workers, or seconds with these.

    Raises:
        RuntimeError: There were fewer images, or of another size.
    """
    clock = time.perf_counter if workers else time.process_time
    start, count = clock(), 0
    stream = read(source, workers)
    for images in stream:
        count += len(images)
        if images.shape[1:] != (3, RESOLUTION, RESOLUTION) or images.dtype != torch.uint8:
            raise RuntimeError(f"{images.dtype} {tuple(images.shape)}")
        if count == source.num_images:
            elapsed = clock() - start
            del stream  # ends the workers
            return elapsed
    raise RuntimeError(f"{count} of {source.num_images} images")


def measured(source: Source, side: int, rounds: int) -> Iterator[dict[str, Any]]:
    """A row for each candidate and clock; all candidates run once in each round."""
    makers = {name: partial(seconds, read, source) for name, read in CANDIDATES.items()}
    makers = {name: run for name, run in makers.items() if name != "webdataset" or source.store == "tar"}
    candidates, reasons = measure.runnable({name: partial(partial, run, 0) for name, run in makers.items()})
    for name, reason in reasons.items():
        yield {"side": side, "store": source.store, "loader": name, "skipped": reason.partition(".")[0]}
    for workers, column in ((0, "per core"), (1, "of a worker")):
        times: dict[str, list[float]] = {name: [] for name in candidates}
        for turn in range(rounds + 1):
            for name in candidates:
                elapsed = makers[name](workers)
                times[name] += [elapsed] if turn else []  # the first round fills caches
        medians = measure.medians(times)
        for name, taken in times.items():
            ratio = measure.ratio(taken, times["ganblocks"])
            row = {"side": side, "store": source.store, "loader": name, "images/s": column}
            row |= {"rate": source.num_images / medians[name], "times ganblocks": ratio["ratio"]}
            yield row | {"quartiles": ratio["quartiles"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few small images, one round, and no file")
    parser.add_argument("--rounds", type=int, default=5, help="timed turns [5]")
    parser.add_argument("--output", type=Path, default=measure.RESULTS / "data-cpu.json", help="JSON file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    description, rows = measure.machine(), []
    for side, num_images in {64: BATCH}.items() if options.quick else NUM_IMAGES.items():
        with TemporaryDirectory() as folder:
            for source in write(Path(folder), side, num_images):
                for row in measured(source, side, 1 if options.quick else options.rounds):
                    rows.append(row)
                    print(measure.table([row], list(row)).splitlines()[-1], flush=True)
    print(measure.table(rows))
    measure.save(None if options.quick else options.output, description, rows)


if __name__ == "__main__":
    main()
