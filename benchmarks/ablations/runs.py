"""Trains and measures the variants of a study; complete runs are stored and not repeated."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from assemblies import Generator, parse
from benchmarks.ablations.variants import Study, changed
from ganblocks import DigitScore, generate, open_data, save_grid, train
from ganblocks.metrics.classifier.emoji import EmojiScore
from ganblocks.metrics.classifier.score import ClassifierScore
from ganblocks.pixels import from_bytes, to_symmetric
from ganblocks.sampling.nearest import beside_nearest
from registry.spec_file import write_atomically

NUM_IMAGES = 2000
NUM_SAMPLES = 16  # images of a run that are kept for the picture
CLIP_STEPS = 800
HELD_OUT = "emoji?split=held-out"


@dataclass(frozen=True)
class Protocol:
    """What the runs of a study share.

    Args:
        out: Folder of the runs.
        kimg: Length, in thousands of images; a run's learning rate falls over it.
        batch_size: Images per step; None for the document's.
        device: Device of the runs.
    """

    out: Path
    kimg: float
    batch_size: int | None = None
    device: str = "cpu"

    def folder(self, variant: str, seed: int) -> Path:
        words = "".join(each if each.isalnum() else " " for each in variant).split()
        batch = "" if self.batch_size is None else f"-batch{self.batch_size}"
        return self.out / f"{'-'.join(words)}-{seed}-{self.kimg:g}kimg{batch}"


@dataclass(frozen=True)
class Result:
    """A completed run.

    Args:
        variant: Name of the variant.
        seed: Random seed.
        kimg: Length, in thousands of images.
        batch_size: Images per step.
        device: Where it was trained.
        seconds: Time of the training, since it was resumed if it was.
        cpu_seconds: Its processor time.
        score: Score of the generator: the Fréchet distance from the training images in a classifier's features.
        untrained: Score of an untrained generator; None for a generator of captions.
        others: Other numbers by name: precision, recall, and accuracy of captions.
    """

    variant: str
    seed: int
    kimg: float
    batch_size: int
    device: str
    seconds: float
    cpu_seconds: float
    score: float
    untrained: float | None
    others: Mapping[str, float]


@cache
def score_of(data: str) -> ClassifierScore:
    return DigitScore(16) if data == "digits" else EmojiScore(32)


def stored_result(folder: Path) -> Result | None:
    """The result of the run in this folder, if it is complete."""
    file = folder / "result.json"
    return Result(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None


def measure(study: Study, protocol: Protocol, variant: str, seed: int) -> Result:
    """Train a variant, from the last checkpoint if there is one, and compute its score."""
    torch.set_num_threads(1)
    folder = protocol.folder(variant, seed)
    document = study.variants[variant](kimg=protocol.kimg).to_dict()
    document["batch_size"] = protocol.batch_size or document["batch_size"]
    if study.clip:
        weights = str(clip_file(protocol))
        document = changed(document, {f"{kind}.weights": weights for kind in ("open-clip-text", "clip-guidance")})
    graphs = torch.device(protocol.device).type == "cuda"
    options = {"device": protocol.device, "cuda_graphs": graphs, "workers": 0, "quiet": True, "resume": "auto"}
    start, cpu_start = time.monotonic(), time.process_time()
    generator = train(parse(document), data=study.data, out=folder, seed=seed, **options).generator
    seconds, cpu_seconds = time.monotonic() - start, time.process_time() - cpu_start
    score = score_of(study.data)
    images = generate(generator, range(NUM_IMAGES), c=conditions(generator, study, "emoji", NUM_IMAGES))
    distance, others = score.distance(images, generator.value_range), {}
    if isinstance(score, EmojiScore):
        values = score.values(score.features(images, generator.value_range), distance)
        others = {name: values[f"emoji_{name}"] for name in ("kernel", "precision", "recall", "recall_held_out")}
    if study.clip:
        from examples.text_to_emoji import group_accuracy  # here, because open_clip's import takes seconds

        others["captions"], _ = group_accuracy(score, generator, HELD_OUT)
    result = Result(
        variant=variant,
        seed=seed,
        kimg=protocol.kimg,
        batch_size=document["batch_size"],
        device=protocol.device,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        score=distance,
        untrained=None if study.clip else score.ceiling(generator, seed),
        others=others,
    )
    samples = generate(generator, range(NUM_SAMPLES), c=conditions(generator, study, "emoji", NUM_SAMPLES))
    samples = to_symmetric(samples, generator.value_range).contiguous()
    save_file({"images": samples}, folder / "samples.safetensors")
    data = open_data(study.data, resolution=generator.resolution, image_channels=generator.image_channels)
    nearest = beside_nearest(samples, from_bytes(data.pixels, "symmetric"))
    save_grid(nearest, folder / "nearest.png", columns=NUM_SAMPLES)
    write_atomically(folder / "result.json", json.dumps(asdict(result), indent=2).encode())
    return result


def conditions(generator: Generator, study: Study, source: str, number: int) -> Float[Tensor, "n d"] | None:
    """Captions of images evenly spaced in the data, encoded; None for a generator without captions."""
    if not study.clip:
        return None
    data = open_data(source, resolution=32, captions=True)
    return generator.condition_of([data.caption(index * len(data) // number, 0.0) for index in range(number)])


def clip_file(protocol: Protocol) -> Path:
    return protocol.out / "clip.safetensors"


def train_clip(protocol: Protocol) -> None:
    """Train the small CLIP of examples/text_to_emoji.py, whose text tower all variants share."""
    from examples.text_to_emoji import EmojiClip  # here, because open_clip's import takes seconds

    if not (file := clip_file(protocol)).exists():
        data = open_data("emoji", resolution=32, captions=True)
        clip = EmojiClip(data, 0, protocol.device, CLIP_STEPS)
        file.parent.mkdir(parents=True, exist_ok=True)
        clip.save(file)


def measure_all(study: Study, protocol: Protocol, seeds: int, processes: int) -> list[Result]:
    """The results of all variants and seeds. Seeds are the outer loop, so that an interrupted command leaves complete
    comparisons.
    """
    runs = [(variant, seed) for seed in range(seeds) for variant in study.variants]
    results = {each: stored_result(protocol.folder(*each)) for each in runs}
    missing = [each for each, result in results.items() if result is None]
    print(f"{len(runs)} runs of {protocol.kimg:g} thousand images, {len(missing)} to do", flush=True)
    if missing and study.clip:
        train_clip(protocol)
    if missing:
        score_of(study.data)  # trains the classifier once; the processes read it from the cache
    for number, result in enumerate(run_missing(partial(measure, study, protocol), missing, processes), start=1):
        results[result.variant, result.seed] = result
        rate = f"{1000 * result.kimg / result.seconds:.0f} images/s"
        print(f"{number}/{len(missing)}  {result.variant}, seed {result.seed}: {result.score:.3g}, {rate}", flush=True)
    return [result for result in results.values() if result is not None]


def run_missing(
    train_one: Callable[[str, int], Result], runs: Sequence[tuple[str, int]], processes: int
) -> Iterator[Result]:
    """The results of these runs in the order of completion; `processes` of them run in parallel."""
    if processes == 1:
        yield from (train_one(*run) for run in runs)
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from (future.result() for future in as_completed([pool.submit(train_one, *run) for run in runs]))


def grouped(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The results by variant, in the order of their first run."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.variant, []).append(result)
    return groups
