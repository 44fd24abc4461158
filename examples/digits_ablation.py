"""Ablations on digits: trains the variants of a study with several seeds, and compares their digit scores.

Studies:
  vitgan     mini-vitgan with each of its parts replaced (ViTGAN, https://arxiv.org/abs/2107.04589)
  r3gan      StyleGAN2's networks against R3GAN's, with three losses each (R3GAN, https://arxiv.org/abs/2501.05441)
  positions  mini-stylenat with relative position bias, rotary position embedding, both or neither in HydraNA

python examples/digits_ablation.py r3gan [--seeds 3] [--kimg 12] [--jobs 2] [--device cpu] [--out runs/ablation-r3gan]

Each run is one process on one thread. Runs that have a score are not repeated, so the command can be interrupted and
repeated, also with more seeds. It prints the table and writes table.md and ablation.png.
"""

import argparse
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from assemblies import GAN, parse, read
from assemblies.models.r3gan import architecture as r3gan
from assemblies.models.stylegan2 import architecture as stylegan2
from assemblies.models.vitgan.presets import mini_vitgan
from ganblocks import DigitScore, generate, save_grid, train
from registry import Spec
from registry.spec_file import write_atomically

VITGAN: dict[str, dict[str, Any]] = {  # options of the preset, by variant
    "whole": {},
    "dot-product attention": {"attention": "dense"},
    "no spectral norm": {"improved_spectral_norm": False},
    "no overlap": {"overlap": 0},
    "no bCR": {"consistency": False},
    "w added to tokens": {"styles": "add"},
    "linear patches": {"image_head": "linear"},
}
HYDRA = {  # options of the hydra-na blocks, by variant
    "bias": {"relative_position_bias": True, "rotary": False},
    "rotary": {"relative_position_bias": False, "rotary": True},
    "bias and rotary": {"relative_position_bias": True, "rotary": True},
    "no positions": {"relative_position_bias": False, "rotary": False},
}
R3GAN = {"BlocksPerStage": [2, 2, 2], "ExpansionFactor": 2, "KernelSize": 3, "ResamplingFilter": [1, 2, 1]}
R3GAN |= {"ConditionDimension": None, "NoiseDimension": 64}
NETWORKS: dict[str, dict[str, Any]] = {  # of 16 px, with similar numbers of weights
    "StyleGAN2": {
        "generator": stylegan2.generator(16, num_mapping_layers=2, channel_base=768, channel_max=96)
        | {"z_dim": 64, "image_channels": 1},
        "discriminator": stylegan2.discriminator(16, channel_base=768, channel_max=96),
    },
    "R3GAN": {
        "generator": r3gan.generator_spec(
            R3GAN | {"WidthPerStage": [96, 96, 48], "CardinalityPerStage": [6, 6, 3]}
        ).to_dict()
        | {"image_channels": 1},
        "discriminator": r3gan.discriminator_spec(
            R3GAN | {"WidthPerStage": [48, 96, 96], "CardinalityPerStage": [3, 6, 6]}
        ),
    },
}
TRAINING = {"StyleGAN2": (4e-3, 0.1), "R3GAN": (2e-3, 1.0)}  # learning rate and gamma
LOSSES = {  # loss and regularizers, by name
    "NS + R1": ("non-saturating", ["r1"]),
    "RP + R1 + R2": ("relativistic", ["r1", "r2"]),
    "RP + approximate R1 + R2": ("relativistic", ["approximate-r1", "approximate-r2"]),
}


def with_positions(*, kimg: float, **options: bool) -> Spec:
    """mini-stylenat with these options in its hydra-na blocks."""
    document = read("mini-stylenat").to_dict() | {"kimg": kimg}
    for step in document["generator"]["synthesis"]:
        if "attention" in step and step["attention"]["kind"] == "hydra-na":
            step["attention"] |= options
    return parse(document)


def with_networks_and_loss(*, kimg: float, networks: str, loss: str) -> Spec:
    """StyleGAN2's or R3GAN's networks of 16 px with a loss. Learning rate and gamma depend on the networks alone.

    Args:
        kimg: Length, in thousands of images.
        networks: Key of `NETWORKS`.
        loss: Key of `LOSSES`.
    """
    kind, penalties = LOSSES[loss]
    rate, gamma = TRAINING[networks]
    optimizer = {"lr": {"kind": "cosine", "init": rate, "final": rate / 4, "kimg": kimg}, "betas": [0.0, 0.99]}
    return GAN.Spec(
        **NETWORKS[networks],
        loss=kind,
        regularizers=[{"kind": penalty, "gamma": gamma} for penalty in penalties],
        generator_optimizer=optimizer,
        discriminator_optimizer=optimizer,
        ema={"half_life_kimg": 1.0},
        batch_size=32,
        kimg=kimg,
    )


@dataclass(frozen=True)
class Study:
    """Variants that are compared.

    Args:
        variants: Functions of kimg that make a document; the first variant is the reference.
        kimg: Default length of a run, in thousands of images.
    """

    variants: Mapping[str, Callable[..., Spec]]
    kimg: float


STUDIES = {
    "vitgan": Study({name: partial(mini_vitgan, **options) for name, options in VITGAN.items()}, kimg=24.0),
    "r3gan": Study(
        {
            f"{networks}, {loss}": partial(with_networks_and_loss, networks=networks, loss=loss)
            for networks in NETWORKS
            for loss in LOSSES
        },
        kimg=12.0,
    ),
    "positions": Study({name: partial(with_positions, **options) for name, options in HYDRA.items()}, kimg=12.0),
}


@dataclass(frozen=True)
class Result:
    """A completed run.

    Args:
        variant: Name of the variant.
        seed: Random seed.
        kimg: Length, in thousands of images.
        score: Digit score of the generator.
        untrained: Digit score of an untrained generator.
    """

    variant: str
    seed: int
    kimg: float
    score: float
    untrained: float


def run_folder(out: Path, variant: str, seed: int, kimg: float) -> Path:
    words = "".join(each if each.isalnum() else " " for each in variant).split()
    return out / f"{'-'.join(words)}-{seed}-{kimg:g}kimg"


@cache
def digit_score() -> DigitScore:
    return DigitScore(16)


def stored_result(folder: Path) -> Result | None:
    """The result of the run in this folder, if it is complete."""
    file = folder / "result.json"
    return Result(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None


def measure(study: str, out: Path, device: str, variant: str, seed: int, kimg: float) -> Result:
    """Train a variant, from the last checkpoint if there is one, and compute its score."""
    torch.set_num_threads(1)
    folder = run_folder(out, variant, seed, kimg)
    resume = (folder / "checkpoint.safetensors").exists()
    spec = STUDIES[study].variants[variant](kimg=kimg)
    on_gpu = torch.device(device).type == "cuda"
    options = {"seed": seed, "resume": resume, "device": device, "cuda_graphs": on_gpu, "workers": 0, "quiet": True}
    generator = train(spec, data="digits", out=folder, **options).generator
    score = digit_score()
    result = Result(variant, seed, kimg, score.score(generator), score.ceiling(generator, seed))
    save_grid(generate(generator, range(40)), folder / "grid.png", columns=20, scale=2)
    write_atomically(folder / "result.json", json.dumps(asdict(result), indent=2).encode())
    return result


def measure_all(study: str, out: Path, seeds: int, kimg: float, jobs: int, device: str = "cpu") -> list[Result]:
    """The results of all variants and seeds. Seeds are the outer loop, so that an interrupted command leaves complete
    comparisons.
    """
    wanted = [(variant, seed) for seed in range(seeds) for variant in STUDIES[study].variants]
    results = {run: stored_result(run_folder(out, *run, kimg)) for run in wanted}
    missing = [run for run, result in results.items() if result is None]
    print(f"{len(wanted)} runs of {kimg:g} thousand images, {len(missing)} to do", flush=True)
    train_one = partial(measure, study, out, device, kimg=kimg)
    for number, result in enumerate(run_missing(train_one, missing, jobs), start=1):
        results[result.variant, result.seed] = result
        print(f"{number}/{len(missing)}  {result.variant}, seed {result.seed}: {result.score:.1f}", flush=True)
    return [result for result in results.values() if result is not None]


def run_missing(
    train_one: Callable[[str, int], Result], runs: Sequence[tuple[str, int]], jobs: int
) -> Iterator[Result]:
    """The results of these runs in the order of completion; `jobs` of them run in parallel."""
    if jobs == 1:
        yield from (train_one(*run) for run in runs)
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from (future.result() for future in as_completed([pool.submit(train_one, *run) for run in runs]))


def grouped(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The results by variant, in the order of their first run."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.variant, []).append(result)
    return groups


def table(results: Sequence[Result]) -> str:
    """A Markdown table: mean score, standard deviation over seeds, single scores, fraction of the untrained score."""
    lines = [
        "| variant | digit score, mean ± sd | single runs | of the untrained score |",
        "|---|---|---|---|",
    ]
    for name, group in grouped(results).items():
        scores = [result.score for result in group]
        deviation = f" ± {stdev(scores):.0f}" if len(scores) > 1 else ""
        single = ", ".join(f"{score:.0f}" for score in scores)
        fraction = fmean(result.score / result.untrained for result in group)
        lines.append(f"| {name} | {fmean(scores):.0f}{deviation} | {single} | {fraction:.0%} |")
    return "\n".join(lines)


def save_plot(results: Sequence[Result], path: Path, marks: Mapping[str, float]) -> None:
    """Plot a dot per run, a bar at each variant's mean, and a band over the range of the first variant's runs.

    Args:
        results: The results.
        path: Picture file.
        marks: Scores of reference lines by name, such as held-out digits.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here, because its import takes half a second
    from matplotlib.figure import Figure

    groups = grouped(results)
    reference, rows = next(iter(groups)), list(reversed(groups))  # the first variant is at the top
    figure = Figure(figsize=(8, 1.6 + 0.42 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, score in marks.items():
        axes.axvline(score, color="grey", linestyle=":", linewidth=1)
        axes.annotate(f" {name}", (score, -0.5), fontsize=8, color="dimgrey")
    scores = [each.score for each in groups[reference]]
    axes.axvspan(min(scores), max(scores), color="tab:blue", alpha=0.12, linewidth=0, label=f"range of: {reference}")
    for row, name in enumerate(rows):
        scores = [each.score for each in groups[name]]
        colour = "tab:blue" if name == reference else "tab:orange"
        axes.plot(scores, [row] * len(scores), "o", color=colour, alpha=0.8, markersize=6)
        axes.plot([fmean(scores)] * 2, [row - 0.3, row + 0.3], color=colour, linewidth=2)
    axes.set_xlim(0, 1.05 * max(each.score for each in results))
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    kimg = next(iter(results)).kimg
    axes.set_xlabel(
        f"digit score after {kimg:g} thousand images\n(Fréchet distance, no unit; lower is better)\n"
        "a dot for each seed, a bar at the mean"
    )
    axes.grid(axis="x", alpha=0.25)
    axes.legend(loc="upper right", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES, help="variants to compare")
    parser.add_argument("--seeds", type=int, default=3, help="runs per variant, with seeds 0, 1, ...")
    parser.add_argument("--kimg", type=float, help="length of a run, in thousands of images; default: the study's")
    parser.add_argument("--jobs", type=int, default=2, help="parallel runs, each on one thread")
    parser.add_argument("--device", default="cpu", help="device of the runs")
    parser.add_argument("--out", type=Path, help="folder of the runs; default: runs/ablation-STUDY")
    args = parser.parse_args()
    out = args.out or Path(f"runs/ablation-{args.study}")
    results = measure_all(args.study, out, args.seeds, args.kimg or STUDIES[args.study].kimg, args.jobs, args.device)
    markdown = table(results)
    print(markdown)
    write_atomically(out / "table.md", (markdown + "\n").encode())
    save_plot(results, out / "ablation.png", {"held-out digits": digit_score().floor})
    print(f"picture: {out / 'ablation.png'}")


if __name__ == "__main__":
    main()
