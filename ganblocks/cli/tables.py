"""Tables and JSON on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text as RichText

from registry.text import printable

if TYPE_CHECKING:
    from assemblies.document_paths import Difference

BARS = "▁▂▃▄▅▆▇█"
OUTPUTS = ("features", "image", "logits")
WIDE = 110  # columns for all shapes and whole numbers
PIPE_WIDTH = 160  # columns where standard output is not a terminal


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def console(pipe_width: int = PIPE_WIDTH) -> Console:
    return Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else pipe_width)


def print_families(families: Iterable[Mapping[str, Any]], *, paper: bool = False) -> None:
    """Kinds by family; with their papers in place of summaries if `paper`."""
    out = console()
    for family in families:
        packages = {entry["package"] for entry in family["kinds"]} - {"ganblocks"}
        table = _table("kind", "paper" if paper else "summary", *["package"] * bool(packages))
        for entry in family["kinds"]:
            origin = [f"{entry['package']} {entry['version']}"] if packages else []
            table.add_row(_strong(entry["kind"]), entry["paper" if paper else "summary"], *origin)
        out.print(_text(family["family"], style="bold magenta"), _text(f"  {family['summary']}", style="dim"), sep="")
        out.print(table if family["kinds"] else _text("  (no kinds installed)", style="dim"))
        out.print()


def print_block(entry: Mapping[str, Any]) -> None:
    out = console()
    out.print(_strong(entry["kind"]), _text(f" ({entry['family']})  {entry['summary']}"), sep="")
    out.print(_text(f"{entry['module']}.{entry['class']}, from {entry['package']} {entry['version']}", style="dim"))
    if entry["paper"]:
        out.print(_text(entry["paper"], style="dim"))
    for paragraph in entry["description"]:
        out.print()
        out.print(_text(paragraph))
    out.print()
    facts = _table("", "")
    facts.show_header = False
    facts.add_row(_strong("shapes"), entry["contract"])
    facts.add_row(_strong("2nd derivative"), "yes" if entry["twice_differentiable"] else "no")
    for op, kernels in entry["kernels"].items():
        names = [f"{each['kernel']}{'' if each['second_order'] else ' (no 2nd derivative)'}" for each in kernels]
        facts.add_row(_strong(f"op {op}"), f"kernels {', '.join(names)}")
    out.print(facts)
    for title, parameters in (
        ("options", entry["options"]),
        ("context (from the surrounding model)", entry["context"]),
    ):
        out.print()
        if not parameters:
            out.print(_text(f"{title}: none", style="bold"))
            continue
        out.print(_text(title, style="bold"))
        table = _table("name", "type", "default", "description")
        for each in parameters:
            default = "required" if each["required"] else _short(each["default"])
            table.add_row(_strong(each["name"]), each["type"], default, each["description"])
        out.print(table)
    out.print()


def print_doctor(report: Mapping[str, Any]) -> None:
    out = console(pipe_width=80)
    out.print(_text(report["verdict"], style="bold"))
    for name, reason in report["failures"].items():
        out.print(_text(f"- the plugin {name} failed to load: {reason}", style="red"))
    for problem in (*report["conflicts"], *report["problems"]):
        out.print(_text(f"- {problem}", style="red"))
    commands: dict[str, list[str]] = {}
    for op in report["ops"]:
        for kernel in op["kernels"]:
            if kernel.get("enable"):
                commands.setdefault(kernel["enable"], []).append(f"{kernel['kernel']} of {op['op']}")
    for command, kernels in commands.items():
        out.print(_text(f"- {', '.join(kernels)}: {command}"))
    out.print()
    table = _table("", "")
    table.show_header = False
    versions = [f"{name} {version or 'not installed'}" for name, version in report["versions"].items()]
    table.add_row(_strong("versions"), ", ".join(versions))
    table.add_row(_strong("devices"), f"{', '.join(report['devices'])} on {report['platform']}")
    packages: dict[str, list[str]] = {}
    for each in report["plugins"]:
        packages.setdefault(f"{each['package']} {each['version'] or ''}".strip(), []).append(
            f"{each['plugin']} ({each['blocks']} blocks)" if each["blocks"] else each["plugin"]
        )
    for package, names in packages.items():
        table.add_row(_strong("plugins"), f"{package}: {', '.join(names)}")
    out.print(table)
    out.print()
    out.print(_text("kernels of each op, the preferred first; those with * have second derivatives", style="bold"))
    table = _table("op", "kernels")
    for op in report["ops"]:
        here = [each["kernel"] + "*" * each["second_order"] for each in op["kernels"] if each["unavailable"] is None]
        table.add_row(_strong(op["op"]), ", ".join(here))
        reasons: dict[str, list[str]] = {}
        for each in op["kernels"]:
            if each["unavailable"] is not None:
                reasons.setdefault(each["unavailable"], []).append(each["kernel"])
        for reason, names in reasons.items():
            table.add_row("", _text(f"not here: {', '.join(names)}: {reason}", style="dim"))
    out.print(table)
    out.print()
    out.print(_text(f"probed {report['probed']}; `ganblocks doctor --refresh` probes again", style="dim"))


def print_steps(summary: Mapping[str, Any]) -> None:
    out = console()
    narrow = out.width < WIDE
    count = compact if narrow else "{:,}".format
    right = ("ws", "params", "mul-adds") if narrow else ("ws", "parameters", "multiply-adds")
    table = _table("step", "kind", *(("output",) if narrow else OUTPUTS), right=right)
    image = None
    for step in summary["steps"]:
        shapes = {name: "x".join(map(str, step[name] or ())) for name in OUTPUTS}
        shapes["image"] = shapes["image"] if step["image"] != image else ""  # steps that do not change the image
        image = step["image"]
        changed = next((f"{name} {shapes[name]}" for name in ("logits", "image") if shapes[name]), shapes["features"])
        numbers = (str(step["num_styles"] or ""), count(step["parameters"]), count(step["multiply_adds"]))
        table.add_row(step["path"], _strong(step["kind"]), *((changed,) if narrow else shapes.values()), *numbers)
    for name, total in summary["totals"].items():
        if isinstance(total, Mapping):
            sums = (_text(count(total[key]), style="bold") for key in ("parameters", "multiply_adds"))
            table.add_row(_strong(name), *[""] * (3 if narrow else 5), *sums)
    out.print(table)
    out.print(
        _text(
            "shapes are channels x height x width of one image; multiply-adds count matrix products and convolutions",
            "dim",
        )
    )
    if chosen := {step["path"]: step["options"] for step in summary["steps"] if step["options"]}:
        out.print()
        options = _table("step", "options that differ from their defaults")
        for path, text in chosen.items():
            options.add_row(_strong(path), text)
        out.print(options)
    if training := summary.get("training"):
        out.print()
        options = _table("training", "")
        for name, text in training.items():
            options.add_row(_strong(name), text)
        out.print(options)
    if schedules := summary.get("schedules"):
        out.print()
        curves = _table("schedule", "", "from start to end of the training", "")
        for name, values in schedules.items():
            curves.add_row(_strong(name), f"{values[0]:.4g}", sparkline(values), f"{values[-1]:.4g}")
        out.print(curves)


def compact(number: int) -> str:
    """A number in three digits: 99.5 k, 1.25 M."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def sparkline(values: Sequence[float]) -> str:
    """Values as a curve of one line of text."""
    low, high = min(values), max(values)
    steps = len(BARS) - 1
    return "".join(BARS[round((value - low) / (high - low) * steps) if high > low else steps // 2] for value in values)


def print_estimate(estimate: Mapping[str, Any], stage: str = "") -> None:
    out = console()
    table = _table(f"stage {stage}: memory of a process" if stage else "memory of a process", right=("GB",))
    for name, num_bytes in estimate["memory"].items():
        count = f" (G {estimate['parameters']['generator']:,}, D {estimate['parameters']['discriminator']:,})"
        table.add_row(_strong(name + (count if name == "parameters" else "")), f"{num_bytes / 1e9:.3f}")
    out.print(table)
    processes = (
        f"{estimate['processes']} processes, {estimate['strategy']}" if estimate["processes"] > 1 else "1 process"
    )
    lines = [f"{estimate['batch_size']} images in a step, {processes}, {estimate['precision']}"]
    lines.append(f"{estimate['flops'] / 1e12:.4g} TFLOP in a step of a process")
    if estimate["communication"]:
        lines.append(f"{estimate['communication'] / 1e9:.3g} GB sent by a process in a step; the time leaves this out")
    if estimate["kimg_per_hour"] is not None:
        rate = f"at {estimate['flops_per_second'] / 1e12:.3g} TFLOP/s: {estimate['kimg_per_hour']:.4g} kimg/hour"
        lines.append(f"{rate}, {estimate['hours']:.4g} hours in all, without time for data")
    if estimate["fits"] is not None:
        fits = "fits" if estimate["fits"] else "does not fit"
        instead = "; with one of these it does:" if estimate["changes"] else ":" if estimate["advice"] else ""
        lines.append(f"{fits} {estimate['gpu']} with {estimate['gpu_memory'] / 1e9:g} GB{instead}")
    for line in (*lines, *(f"  {advice}" for advice in estimate["advice"])):
        out.print(_text(line))


def print_differences(rows: Iterable[Difference], names: tuple[str, str]) -> None:
    table = _table("path", *names)
    for row in rows:
        table.add_row(_strong(row.path), _short(row.first), _short(row.second))
    console().print(table)


def print_presets(presets: Iterable[Mapping[str, str]]) -> None:
    table = _table("preset", "summary")
    for preset in presets:
        table.add_row(_strong(preset["preset"]), preset["summary"])
    console().print(table if table.row_count else "no presets are installed")


def print_comparison(metrics: Iterable[Mapping[str, Any]]) -> None:
    """A row per source of each metric; values that are not comparable with the others are in brackets."""
    for metric in metrics:
        names = list(dict.fromkeys(name for row in metric["rows"] for name in row["values"]))
        table = _table(metric["metric"], "kimg", "protocol", right=tuple(names))
        for row in metric["rows"]:
            kimg = f"{row['images'] / 1000:g}" if row.get("images") else ""
            cells = [f"{row['values'][name]:.6g}" if name in row["values"] else "" for name in names]
            if not row["comparable"]:
                cells = [f"({cell})" if cell else "" for cell in cells]
            changed = f" (other {', '.join(row['changed'])})" if row.get("changed") else ""
            table.add_row(_strong(row["source"]), kimg, f"{row.get('protocol') or ''}{changed}", *cells)
        console().print(table)


def _text(text: str, style: str = "") -> RichText:
    return RichText(printable(text), style)


class _Table(Table):
    def add_row(self, *cells: str | RichText) -> None:  # type: ignore[override]
        super().add_row(*(_text(cell) if isinstance(cell, str) else cell for cell in cells))


def _table(*columns: str, right: tuple[str, ...] = ()) -> _Table:
    table = _Table(box=None, padding=(0, 1), header_style="dim", show_edge=False)
    table.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, overflow="fold")
    for column in right:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _strong(text: Any) -> RichText:
    return _text(str(text), style="bold cyan")


def _short(value: Any) -> str:
    text = "null" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
