"""Ablation of ViTGAN on digits: trains mini-vitgan with each of its parts replaced, and compares digit scores.

ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589. Parts of the discriminator: L2 attention, improved spectral
norm, overlapping patches, balanced consistency; of the generator: self-modulated LayerNorm, implicit patches.

python examples/vitgan_ablation.py [--seeds 3] [--kimg 24] [--jobs 2] [--out runs/vitgan-ablation]

Each run is one process on one thread. Runs that have a score are not repeated, so the command can be interrupted and
repeated, also with more seeds. It prints the table and writes table.md and ablation.png.
"""

import argparse
import json
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev

import torch

from assemblies.models.vitgan.presets import mini_vitgan
from ganblocks import DigitScore, generate, save_grid, train
from registry.spec_file import write_atomically

WHOLE = "whole"
VARIANTS = {  # options of the preset, by variant
    WHOLE: {},
    "dot-product attention": {"attention": "dense"},
    "no spectral norm": {"improved_spectral_norm": False},
    "no overlap": {"overlap": 0},
    "no bCR": {"consistency": False},
    "w added to tokens": {"styles": "add"},
    "linear patches": {"image_head": "linear"},
}


@dataclass(frozen=True)
class Result:
    """A completed run.

    Args:
        variant: Key of `VARIANTS`.
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
    return out / f"{variant.replace(' ', '-')}-{seed}-{kimg:g}kimg"


def stored_result(folder: Path) -> Result | None:
    """The result of the run in this folder, if it is complete."""
    file = folder / "result.json"
    return Result(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None


def measure(out: Path, variant: str, seed: int, kimg: float) -> Result:
    """Train a variant, from the last checkpoint if there is one, and compute its score."""
    torch.set_num_threads(1)
    folder = run_folder(out, variant, seed, kimg)
    resume = (folder / "checkpoint.safetensors").exists()
    spec = mini_vitgan(kimg=kimg, **VARIANTS[variant])
    generator = train(spec, data="digits", out=folder, seed=seed, resume=resume, device="cpu", quiet=True).generator
    score = DigitScore(16)
    result = Result(variant, seed, kimg, score.score(generator), score.ceiling(generator, seed))
    save_grid(generate(generator, range(40)), folder / "grid.png", columns=20, scale=2)
    write_atomically(folder / "result.json", json.dumps(asdict(result), indent=2).encode())
    return result


def measure_all(out: Path, seeds: int, kimg: float, jobs: int) -> list[Result]:
    """The results of all variants and seeds. Seeds are the outer loop, so that an interrupted command leaves complete
    comparisons.
    """
    wanted = [(variant, seed) for seed in range(seeds) for variant in VARIANTS]
    results = {run: stored_result(run_folder(out, *run, kimg)) for run in wanted}
    missing = [run for run, result in results.items() if result is None]
    print(f"{len(wanted)} runs of {kimg:g} thousand images, {len(missing)} to do", flush=True)
    for number, result in enumerate(run_missing(out, missing, kimg, jobs), start=1):
        results[result.variant, result.seed] = result
        print(f"{number}/{len(missing)}  {result.variant}, seed {result.seed}: {result.score:.1f}", flush=True)
    return [result for result in results.values() if result is not None]


def run_missing(out: Path, runs: Sequence[tuple[str, int]], kimg: float, jobs: int) -> Iterator[Result]:
    """The results of these runs in the order of completion; `jobs` of them run in parallel."""
    if jobs == 1:
        yield from (measure(out, *run, kimg) for run in runs)
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from (future.result() for future in as_completed([pool.submit(measure, out, *run, kimg) for run in runs]))


def grouped(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The results by variant, in the order of `VARIANTS`."""
    groups = {name: [result for result in results if result.variant == name] for name in VARIANTS}
    return {name: group for name, group in groups.items() if group}


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
    """Plot a dot per run, a bar at each variant's mean, and a band over the range of the unchanged model's runs.

    Args:
        results: The results.
        path: Picture file.
        marks: Scores of reference lines by name, such as held-out digits.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here, because its import takes half a second
    from matplotlib.figure import Figure

    groups = grouped(results)
    rows = list(reversed(groups))  # the first variant is at the top
    figure = Figure(figsize=(8, 1.6 + 0.42 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, score in marks.items():
        axes.axvline(score, color="grey", linestyle=":", linewidth=1)
        axes.annotate(f" {name}", (score, -0.5), fontsize=8, color="dimgrey")
    if WHOLE in groups:
        scores = [each.score for each in groups[WHOLE]]
        axes.axvspan(min(scores), max(scores), color="tab:blue", alpha=0.12, linewidth=0, label="range of the whole")
    for row, name in enumerate(rows):
        scores = [each.score for each in groups[name]]
        colour = "tab:blue" if name == WHOLE else "tab:orange"
        axes.plot(scores, [row] * len(scores), "o", color=colour, alpha=0.8, markersize=6)
        axes.plot([fmean(scores)] * 2, [row - 0.3, row + 0.3], color=colour, linewidth=2)
    axes.set_xlim(0, 1.05 * max(each.score for each in results))
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    kimg = next(iter(results)).kimg
    axes.set_xlabel(
        f"digit score after {kimg:g} thousand images (Fréchet distance, no unit; lower is better)\n"
        "a dot for each seed, a bar at the mean"
    )
    axes.grid(axis="x", alpha=0.25)
    if WHOLE in groups:
        axes.legend(loc="upper right", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="runs per variant, with seeds 0, 1, ...")
    parser.add_argument("--kimg", type=float, default=24.0, help="length of a run, in thousands of images")
    parser.add_argument("--jobs", type=int, default=2, help="parallel runs, each on one thread")
    parser.add_argument("--out", type=Path, default=Path("runs/vitgan-ablation"), help="folder of the runs")
    out, seeds, kimg, jobs = (getattr(parser.parse_args(), name) for name in ("out", "seeds", "kimg", "jobs"))
    results = measure_all(out, seeds, kimg, jobs)
    markdown = table(results)
    print(markdown)
    write_atomically(out / "table.md", (markdown + "\n").encode())
    save_plot(results, out / "ablation.png", {"held-out digits": DigitScore(16).floor})
    print(f"picture: {out / 'ablation.png'}")


if __name__ == "__main__":
    main()
