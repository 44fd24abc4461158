"""A page about a run: samples through time, curves, metrics, health and settings in one HTML file without network."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from assemblies import read
from ganblocks.errors import RunError
from ganblocks.metrics.records import FILE, read_records
from ganblocks.publishing.curves import line_chart
from ganblocks.sampling.load import run_of
from ganblocks.training.run.folder import RunFolder
from registry.spec_file import write_atomically
from registry.text import printable

MAX_SAMPLES = 40  # pictures in a page, evenly spaced over the run
PANELS = {
    "": "Losses and regularizers",
    "logits": "Mean logits of the discriminator",
    "gradient": "Gradient norms",
    "sign": "Overfitting: mean sign of the logits of real images",
    "augment": "Augmentation probability",
    "collapse": "Collapse: share of steps with separated logits, diversity of samples relative to real images",
    "rate": "Learning rates and other schedules",
}  # by the part of a scalar's name before the slash
SHOWN_ELSEWHERE = ("started", "resumed", "kernels", "tick", "finished", "metric")  # events of the log
NOTES = ("data", "interrupted")  # events that are no warnings
SLIDER = """
<script>
const pictures = JSON.parse(document.getElementById("pictures").textContent);
const slider = document.getElementById("slider");
const show = () => { const [kimg, source] = pictures[slider.value]; document.getElementById("sample").src = source;
  document.getElementById("kimg").textContent = kimg; };
slider.addEventListener("input", show); show();
</script>"""


def report(run: str | Path, out: str | Path | None = None) -> Path:
    """Write the page of a run.

    Args:
        run: The run folder.
        out: The HTML file, or a folder for `report.html`; by default the run folder.

    Returns:
        The file.

    Raises:
        RunError: There is no run in the folder.
    """
    folder = RunFolder(run_of(run))
    if not folder.holds_run():
        raise RunError(f"{run} has no run in it: pass a folder that `ganblocks train` wrote; of stages, one of theirs")
    out = folder.path / "report.html" if out is None else Path(out)
    if out.is_dir():
        out = out / "report.html"
    events = folder.records()
    started = next((event for event in events if event.get("event") == "started"), {})
    ticks = folder.ticks()
    sections = [
        _header(folder, started, ticks),
        _section("Samples", _samples(folder)),
        _section("Curves", _curves(ticks)),
        _section("Metrics", _metrics(read_records(folder.path / FILE))),
        _section("Health", _health(events, ticks)),
        _section("Kernels", _kernels(events)),
        _section("Settings", _settings(folder)),
        _section("How to repeat it", _command(started)),
    ]
    style = resources.files("ganblocks.publishing").joinpath("report.css").read_text()
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(folder.path.resolve().name)}: ganblocks run</title><style>{style}</style></head>\n"
        f"<body>\n{''.join(sections)}</body></html>\n"
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, page.encode())
    return out


def _header(folder: RunFolder, started: Mapping[str, Any], ticks: Sequence[Mapping[str, Any]]) -> str:
    last = ticks[-1] if ticks else {}
    target = started.get("kimg")
    facts = {
        "images trained on": f"{last.get('kimg', 0):g} kimg" + (f" of {target:g}" if _number(target) else ""),
        "data": f"{started.get('data', '-')} ({started.get('num_images', '-')})",
        "batch size": started.get("batch_size", "-"),
        "speed": f"{last['images_per_second']:.4g} images/s" if _number(last.get("images_per_second")) else "-",
        "device, precision": f"{started.get('device', '-')}, {started.get('precision', '-')}",
        "seed": started.get("seed", "-"),
    }
    cards = "".join(
        f'<div class="card"><span class="soft">{_text(k)}</span><b>{_text(v)}</b></div>' for k, v in facts.items()
    )
    title = f'<h1>{_text(folder.path.resolve().name)}</h1><p class="soft">a run of ganblocks</p>'
    return f'{title}<div class="facts">{cards}</div>\n'


def _samples(folder: RunFolder) -> str:
    files = sorted(folder.samples.glob("*kimg.png"))
    if len(files) > MAX_SAMPLES:
        files = [files[round(n * (len(files) - 1) / (MAX_SAMPLES - 1))] for n in range(MAX_SAMPLES)]
    if not files:
        return "<p>No samples yet.</p>"
    pictures = [
        (f"{float(file.name.removesuffix('kimg.png')):g} kimg", _data_url(file))
        for file in files
        if file.name.removesuffix("kimg.png").replace(".", "", 1).isdigit()
    ]
    last = len(pictures) - 1
    return (
        '<div class="samples card"><img id="sample" alt="samples of fixed latents"><label>after <b id="kimg"></b>'
        f'<input id="slider" type="range" min="0" max="{last}" value="{last}"></label></div>'
        f'<script type="application/json" id="pictures">{json.dumps(pictures)}</script>{SLIDER}'
    )


def _curves(ticks: Sequence[Mapping[str, Any]]) -> str:
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for tick in ticks:
        speed = {name: tick[name] for name in ("images_per_second", "memory_gb") if _number(tick.get(name))}
        for name, value in (tick["losses"] | tick.get("signals", {}) | speed).items():
            group = name.rpartition("/")[0]
            title = PANELS.get(group, group.replace("_", " ")) if name not in speed else name.replace("_", " ")
            panels.setdefault(title, {}).setdefault(name.rpartition("/")[2], []).append((tick["kimg"], value))
    cards = (
        f'<div class="card"><h3>{_text(title)}</h3>{line_chart(lines, "kimg")}</div>' for title, lines in panels.items()
    )
    return f'<div class="charts">{"".join(cards)}</div>' if panels else "<p>No log lines yet.</p>"


def _metrics(records: Sequence[Mapping[str, Any]]) -> str:
    if not records:
        return "<p>Not measured. <code>ganblocks evaluate</code> measures a run and records how.</p>"
    return "".join(
        f'<details class="card"><summary>{_text(_title(record))}</summary>{_tree(record)}</details>'
        for record in records
    )


def _title(record: Mapping[str, Any]) -> str:
    """The plain values of a metric's record in one line."""
    plain = [
        f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in record.items()
        if _short(value)
    ]
    return ", ".join(plain[:6])


def _health(events: Sequence[Mapping[str, Any]], ticks: Sequence[Mapping[str, Any]]) -> str:
    last = ticks[-1] if ticks else {}
    rows = {
        "steps skipped because gradients were not finite": last.get("skipped_steps", 0),
        "images skipped because they could not be read": last.get("skipped_images", 0),
        "times that the run was started or resumed": sum(
            event.get("event") in ("started", "resumed") for event in events
        ),
    }
    parts = [_table((name, value) for name, value in rows.items())]
    for event in events:
        if event.get("event") not in SHOWN_ELSEWHERE:
            facts = ", ".join(f"{name} {value}" for name, value in event.items() if name != "event" and _short(value))
            kind = "soft" if event.get("event") in NOTES else "warn"
            parts.append(f'<p class="{kind}">{_text(event.get("event", "event"))}: {_text(facts)}</p>')
    return "".join(parts)


def _kernels(events: Sequence[Mapping[str, Any]]) -> str:
    kernels: dict[str, Any] = next(
        (event["kernels"] for event in reversed(events) if isinstance(event.get("kernels"), dict)), {}
    )
    if not kernels:
        return "<p>Not recorded yet.</p>"
    return _table((name, f"{calls} calls in a step") for name, calls in kernels.items())


def _settings(folder: RunFolder) -> str:
    if not folder.spec.is_file():
        return "<p>The folder has no gan.yaml.</p>"
    return f'<div class="card">{_tree(read(folder.spec).to_dict())}</div>'


def _command(started: Mapping[str, Any]) -> str:
    versions = started.get("versions", {})
    command = started.get("command")
    first = f"<pre>{_text(command)}</pre>" if command else "<p>The run was started from Python.</p>"
    return first + (_table(versions.items()) if isinstance(versions, dict) else "")


def _tree(value: Any) -> str:
    """Plain data as lists that open and close; blocks are titled by their kinds."""
    if isinstance(value, dict):
        plain = [(name, each) for name, each in value.items() if _short(each) and name != "kind"]
        nested = [(name, each) for name, each in value.items() if not _short(each)]
        return _table((name, _plain(each)) for name, each in plain) + "".join(_branch(*pair) for pair in nested)
    if isinstance(value, list):
        return "".join(_branch(str(position), each) for position, each in enumerate(value))
    return f"<p>{_text(_plain(value))}</p>"


def _branch(name: str, value: Any) -> str:
    kind = (
        value.get("kind", "") if isinstance(value, dict) else f"{len(value)} parts" if isinstance(value, list) else ""
    )
    inner = _tree(value)
    title = f'{_text(name)} <span class="soft">{_text(kind)}</span>'
    return f"<details><summary>{title}</summary>{inner}</details>" if inner else f"<div>{title}</div>"


def _short(value: Any) -> bool:
    """Whether a value fits a cell of a table."""
    if isinstance(value, list):
        return all(not isinstance(each, dict) for each in value) and len(str(value)) <= 60
    return not isinstance(value, dict)


def _plain(value: Any) -> str:
    return "none" if value is None else json.dumps(value) if isinstance(value, list | bool) else str(value)


def _table(rows: Iterable[tuple[Any, Any]]) -> str:
    body = "".join(f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in rows)
    return f'<div class="wide"><table>{body}</table></div>' if body else ""


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>\n"


def _data_url(file: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    """Foreign text, escaped for terminals and for HTML."""
    return escape(printable(str(value)))
