"""What each of ViTGAN's ideas does for a small one: it is trained with and without them, and its digits are judged.

ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589: L2 attention, improved spectral norm, overlapping patches and
balanced consistency on the discriminator's side, self-modulated LayerNorm and implicit patches on the generator's.

python examples/vitgan_ablation.py [--seeds 3] [--kimg 24] [--jobs 2] [--out runs/vitgan-ablation]

Each run is one process on one thread. A run that has its score is not repeated, so the command can be stopped and given
again, with more seeds too. Prints the table and writes table.md and ablation.png.
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
from registry.spec_file import write_whole

WHOLE = "whole"
VARIANTS = {  # what is changed, and the preset's options for it
    WHOLE: {},
    "dot-product attention": {"attention": "dense"},
    "no spectral norm": {"improved_spectral_norm": False},
    "no overlap": {"overlap": 0},
    "no bCR": {"consistency": False},
    "w added to tokens": {"styles": "add"},
    "linear patches": {"image-head": "linear"},
}


@dataclass(frozen=True)
class Result:
    """A run that ended: the distance of its digits from the real ones, and that of an untrained generator's."""

    variant: str
    seed: int
    kimg: float
    score: float
    untrained: float


def place(out: Path, variant: str, seed: int, kimg: float) -> Path:
    return out / f"{variant.replace(' ', '-')}-{seed}-{kimg:g}kimg"


def finished(folder: Path) -> Result | None:
    """What a run in this folder came to, if it did come to its end."""
    file = folder / "result.json"
    return Result(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None


def measure(out: Path, variant: str, seed: int, kimg: float) -> Result:
    """Train a variant, or go on where it was stopped, and judge what it draws."""
    torch.set_num_threads(1)
    folder = place(out, variant, seed, kimg)
    begun = (folder / "checkpoint.safetensors").exists()
    spec = mini_vitgan(kimg=kimg, **VARIANTS[variant])
    trained = train(spec, data="digits", out=folder, seed=seed, resume=begun, device="cpu", quiet=True).generator
    score = DigitScore(16)
    result = Result(variant, seed, kimg, score.score(trained), score.ceiling(trained, seed))
    save_grid(generate(trained, range(40)), folder / "grid.png", columns=20, scale=2)
    write_whole(folder / "result.json", json.dumps(asdict(result), indent=2).encode())
    return result


def measure_all(out: Path, seeds: int, kimg: float, jobs: int) -> list[Result]:
    """The results of all variants and seeds; seed by seed, so that a stopped command leaves whole comparisons."""
    wanted = [(variant, seed) for seed in range(seeds) for variant in VARIANTS]
    results = {run: finished(place(out, *run, kimg)) for run in wanted}
    missing = [run for run, result in results.items() if result is None]
    print(f"{len(wanted)} runs of {kimg:g} thousand images, {len(missing)} to do", flush=True)
    for number, result in enumerate(measured(out, missing, kimg, jobs), start=1):
        results[result.variant, result.seed] = result
        print(f"{number}/{len(missing)}  {result.variant}, seed {result.seed}: {result.score:.1f}", flush=True)
    return [result for result in results.values() if result is not None]


def measured(out: Path, runs: Sequence[tuple[str, int]], kimg: float, jobs: int) -> Iterator[Result]:
    """Results as they come, of so many runs at once."""
    if jobs == 1:
        yield from (measure(out, *run, kimg) for run in runs)
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from (future.result() for future in as_completed([pool.submit(measure, out, *run, kimg) for run in runs]))


def grouped(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The results of each variant, the whole network first."""
    return {name: found for name in VARIANTS if (found := [each for each in results if each.variant == name])}


def table(results: Sequence[Result]) -> str:
    """Markdown: the mean score, its standard deviation over seeds, each score, and its part of the untrained score."""
    lines = [
        "| variant | digit score, mean ± sd | single runs | of the untrained score |",
        "|---|---|---|---|",
    ]
    for name, found in grouped(results).items():
        scores = [each.score for each in found]
        spread = f" ± {stdev(scores):.0f}" if len(scores) > 1 else ""
        part = fmean(each.score / each.untrained for each in found)
        lines.append(f"| {name} | {fmean(scores):.0f}{spread} | {', '.join(f'{s:.0f}' for s in scores)} | {part:.0%} |")
    return "\n".join(lines)


def save_plot(results: Sequence[Result], path: Path, marks: Mapping[str, float]) -> None:
    """A dot for each run, a bar at each variant's mean, and a band over the range of the whole network's runs.

    Args:
        results: What to show.
        path: Where to.
        marks: Names and scores of lines to compare with, such as held-out digits.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here, because it takes half a second to import
    from matplotlib.figure import Figure

    groups = grouped(results)
    rows = list(reversed(groups))  # the first is on top
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
        axes.legend(loc="upper right", fontsize=8)  # good scores are on the left
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant, seeds 0, 1, ...")
    parser.add_argument("--kimg", type=float, default=24.0, help="length of a run in thousands of images")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, each on one thread")
    parser.add_argument("--out", type=Path, default=Path("runs/vitgan-ablation"))
    out, seeds, kimg, jobs = (getattr(parser.parse_args(), name) for name in ("out", "seeds", "kimg", "jobs"))
    results = measure_all(out, seeds, kimg, jobs)
    said = table(results)
    print(said)
    write_whole(out / "table.md", (said + "\n").encode())
    save_plot(results, out / "ablation.png", {"held-out digits": DigitScore(16).floor})
    print(f"picture: {out / 'ablation.png'}")


if __name__ == "__main__":
    main()
