"""The table and the pictures of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

import torch
from safetensors.torch import load_file

from benchmarks.ablations.runs import NUM_SAMPLES, Protocol, Result, grouped
from ganblocks import save_grid

MAX_COLUMNS = 24  # of the picture of samples, shared evenly by the seeds


def table(results: Sequence[Result]) -> str:
    """A Markdown table: mean score, standard deviation over seeds, single scores, and means of the other numbers.

    The third column compares a variant's runs with those of the first variant: whether all have a lower score
    ("better"), all a higher one ("worse"), or neither, so that the runs do not separate the two ("overlap"). Single
    runs are not compared.
    """
    groups = grouped(results)
    reference = [result.score for result in groups[results[0].variant]]
    others = list(results[0].others)
    untrained = all(result.untrained is not None for result in results)
    header = ["variant", "score, mean ± sd", "all runs against the first row's", "single runs"]
    header += [name.replace("_", " ") for name in others] + ["of the untrained score"] * untrained
    lines = [header, ["---"] * 4 + ["--:"] * (len(header) - 4)]
    for name, group in groups.items():
        scores = [result.score for result in group]
        deviation = f" ± {stdev(scores):.3g}" if len(scores) > 1 else ""
        row = [name, f"{fmean(scores):.3g}{deviation}", compared(scores, reference) if lines[2:] else ""]
        row += [", ".join(f"{score:.3g}" for score in scores)]
        row += [f"{fmean(result.others[other] for result in group):.2f}" for other in others]
        row += [f"{fmean(result.score / (result.untrained or 1) for result in group):.1%}"] * untrained
        lines.append(row)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def compared(scores: Sequence[float], reference: Sequence[float]) -> str:
    if min(len(scores), len(reference)) == 1:
        return ""
    if max(scores) < min(reference):
        return "better"
    return "worse" if min(scores) > max(reference) else "overlap"


def save_plot(results: Sequence[Result], path: Path, marks: Mapping[str, float]) -> None:
    """Plot a dot per run, a bar at each variant's mean, and a band over the range of the first variant's runs.

    Args:
        results: The results.
        path: Picture file.
        marks: Scores of reference lines by name, such as held-out images.
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
        f"score after {kimg:g} thousand images\n(Fréchet distance, no unit; lower is better)\n"
        "a dot for each seed, a bar at the mean"
    )
    axes.grid(axis="x", alpha=0.25)
    axes.legend(loc="upper right", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def save_samples(results: Sequence[Result], protocol: Protocol, path: Path) -> None:
    """A row of samples for each variant: the same latents, and captions if there are any, of each of its runs."""
    groups = grouped(results)
    seeds = max(map(len, groups.values()))
    number = min(NUM_SAMPLES, MAX_COLUMNS // seeds)
    rows: list[torch.Tensor | None] = []
    for name, group in groups.items():
        files = [protocol.folder(name, result.seed) / "samples.safetensors" for result in group]
        rows += [image for file in files for image in load_file(file)["images"][:number]]
        rows += [None] * (number * (seeds - len(group)))
    save_grid(rows, path, columns=number * seeds, row_labels=list(groups))
