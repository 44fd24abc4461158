"""Writes the tables of docs/speed.md from the JSON files in benchmarks/results.

python -m benchmarks.report prints the page with its tables made again; --write also stores it. A table lies between the
comments <!-- begin: NAME --> and <!-- end: NAME -->, and NAME is a function of this module.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.measure import RESULTS, ROOT

PAGE = ROOT / "docs" / "speed.md"
Row = Mapping[str, Any]


def load(name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The description and the measured rows of a result file."""
    result = json.loads((RESULTS / name).read_text())
    return result, [row for row in result["rows"] if "skipped" not in row]


def select(rows: Iterable[Row], **values: Any) -> list[Row]:
    """The rows with these values in their columns."""
    return [row for row in rows if all(row[name] == value for name, value in values.items())]


def source(*names: str) -> str:
    """A line for each file: GPU, processor, threads, PyTorch, commit and load of its measurement."""
    lines = []
    for name in names:
        result, _ = load(name)
        machine, commit = result["machine"], result["commit"] or "unknown"
        cores, _, model = machine["processor"].partition(" x ")
        model = f"{machine['gpu']['name']} beside {model}" if "gpu" in machine else model
        changes = " with uncommitted changes" if commit.endswith("-dirty") else ""
        lines.append(
            f"`{name}`: {model}, {cores} cores, {machine['threads']} threads, PyTorch {machine['packages']['torch']}, "
            f"commit {commit.removesuffix('-dirty')}{changes}, load average {machine['load']} at the start."
        )
    return "\n".join(f"- {line}" for line in lines)


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """A table whose first columns are aligned to the left and all others to the right."""
    rule = ["---" if i < text_columns else "--:" for i in range(len(columns))]
    return "\n".join(f"| {' | '.join(line)} |" for line in [columns, rule, *rows])


def number(value: float | None) -> str:
    """Three significant digits without an exponent; nothing for None."""
    if value is None:
        return ""
    return str(round(value)) if abs(value) >= 100 else f"{value:.3g}"


def times(value: float | None) -> str:
    return "" if value is None else f"{number(value)} x"


def neighborhood() -> str:
    files = ("neighborhood-cpu.json", "neighborhood-cpu-tuned-malloc.json")
    tables = [load(name)[1] for name in files]
    rows = []
    for row in select(tables[0], dilation=1, kernel="compiled"):
        case = {name: row[name] for name in ("side", "dilation", "bias", "gradients")}
        work = "forward + backward" if row["gradients"] else "forward"
        cells = [f"{row['side']}, {work}{', bias' if row['bias'] else ''}"]
        for measured in tables:
            by_kernel = {other["kernel"]: other for other in select(measured, **case)}
            mine = by_kernel["compiled"]["ms"]
            cells.append(number(mine))
            cells += [times(by_kernel[name]["ms"] / mine if name in by_kernel else None) for name in COMPARED]
        tuned = select(tables[1], **case, kernel="compiled")[0]
        cells += [number(tuned["matmul rate %"]), number(tuned["ns per pixel"]), number(tuned["peak / qkvo"])]
        rows.append(cells)
    names = [name.removesuffix("-flex") for name in COMPARED]
    columns = ["side, pass", "default: ms", *names, "tuned: ms", *names, "% of matmul rate", "ns / px", "peak / qkvo"]
    return markdown(columns, rows) + "\n\n" + source(*files)


COMPARED = ("tiled", "reference", "natten-flex")


def dense() -> str:
    _, measured = load("dense-cpu.json")
    rows = []
    for row in measured:
        if row["kernel"] != "reference":
            case = f"{row['case']}, {row['batch']} x {row['heads']} heads x {row['tokens']} tokens x {row['head_dim']}"
            rows.append([case, row["pass"], row["kernel"], number(row["ms"]), times(row["times reference"])])
    return markdown(["case", "pass", "kernel", "ms", "speed-up"], rows, 3) + "\n\n" + source("dense-cpu.json")


def convolution() -> str:
    _, measured = load("convolution-cpu.json")
    rows = []
    for row in select(measured, op="conv2d", kernel="winograd", **{"pass": "forward"}):
        case = {name: row[name] for name in ("op", "case", "batch", "channels", "side", "kernel")}
        cells = [f"{row['channels']}, {row['side']} x {row['side']}", str(row["batch"])]
        for work in ("forward", "forward+backward", "gradient penalty"):
            (same,) = select(measured, **case, **{"pass": work})
            cells += [number(same["ms"]), times(same["times reference"])]
        rows.append(cells)
    columns = ["channels, side", "batch", "forward: ms", "", "forward + backward: ms", "", "gradient penalty: ms", ""]
    return markdown(columns, rows) + "\n\n" + source("convolution-cpu.json")


def generators() -> str:
    _, measured = load("generators-cpu-tuned-malloc.json")
    rows = [
        [
            f"`{row['preset']}`",
            *(row["pass"], str(row["batch"])),
            *(number(row["s/image"]), number(row["matmul rate %"]), f"{row['peak MB'] / 1000:.1f}"),
        ]
        for row in measured
    ]
    columns = ["preset", "pass", "batch", "s / image", "% of matmul rate", "peak GB"]
    return markdown(columns, rows, 2) + "\n\n" + source("generators-cpu-tuned-malloc.json")


def bfloat16() -> str:
    _, measured = load("generators-cpu-bf16.json")
    rows = []
    for row in select(measured, candidate="bf16"):
        case = {name: row[name] for name in ("preset", "pass", "batch", "allocator")}
        (full,) = select(measured, candidate="float32", **case)
        low, high = row["quartiles"]
        cells = [number(row["ratio"]), f"{number(low)} to {number(high)}", str(row["runs"]), number(full["peak MB"])]
        rows.append([f"`{row['preset']}`", row["pass"], str(row["batch"]), *cells])
    columns = ["preset", "pass", "batch", "bfloat16 : float32", "quartiles", "turns", "float32: peak MB"]
    return markdown(columns, rows, 2) + "\n\n" + source("generators-cpu-bf16.json")


def memory() -> str:
    _, measured = load("generators-cpu-memory.json")
    rows = []
    for row in measured:
        cells = [f"`{row['preset']}`", row["pass"], str(row["batch"]), row["allocator"]]
        rows.append([*cells, *(number(row[f"{name} MB"]) for name in ("resident", "tensors", "peak"))])
    columns = ["preset", "pass", "batch", "allocator", "resident: MB", "tensors: MB", "peak: MB"]
    return markdown(columns, rows, 4) + "\n\n" + source("generators-cpu-memory.json")


def gpu(name: str, table: Callable[[list[dict[str, Any]]], str]) -> str:
    """A table for each GPU that a benchmark was run on."""
    files = sorted(path.name for path in RESULTS.glob(f"{name}-cuda-*.json"))
    return (
        "\n\n".join(f"{table(load(each)[1])}\n\n{source(each)}" for each in files)
        or "No result of this benchmark is stored yet."
    )


def neighborhood_gpu() -> str:
    return gpu("neighborhood", lambda rows: side_by_side(rows, ("dtype", "side", "dilation", "bias", "gradients")))


def dense_gpu() -> str:
    columns = ("case", "batch", "heads", "tokens", "head_dim", "dtype", "pass")
    return gpu("dense", lambda rows: side_by_side(rows, columns))


def convolution_gpu() -> str:
    columns = ("op", "case", "batch", "channels", "side", "dtype", "pass")
    return gpu("convolution", lambda rows: side_by_side(rows, columns))


def generators_gpu() -> str:
    columns = ("preset", "precision", "pass", "batch")
    return gpu("generators", lambda rows: side_by_side(rows, columns, candidate="mode"))


def training_gpu() -> str:
    return gpu("training", lambda rows: side_by_side(rows, ("preset", "batch"), candidate="mode"))


def side_by_side(rows: Sequence[Row], columns: Sequence[str], candidate: str = "kernel") -> str:
    """A line per case with the milliseconds of each candidate, the fastest in bold."""
    cases = dict.fromkeys(tuple(row[name] for name in columns) for row in rows)
    names = list(dict.fromkeys(row[candidate] for row in rows))
    lines = []
    for case in cases:
        times = {row[candidate]: row["ms"] for row in select(rows, **dict(zip(columns, case, strict=True)))}
        best = min(times.values())
        cells = [number(times.get(name)) for name in names]
        cells = [f"**{cell}**" if times.get(name) == best else cell for name, cell in zip(names, cells, strict=True)]
        lines.append([*(("yes" if each else "no") if isinstance(each, bool) else str(each) for each in case), *cells])
    return markdown([*columns, *(f"{name}: ms" for name in names)], lines, len(columns))


def gradient_reduction() -> str:
    files = sorted(path.name for path in RESULTS.glob("gradient-reduction-cpu-*.json"))
    measured = [row for name in files for row in load(name)[1]]
    ways = ("no exchange", "one exchange", "buckets")
    rows = [
        [f"`{row['preset']}`", str(row["processes"]), *(number(1000 * row[way]) for way in ways)] for row in measured
    ]
    columns = ["preset", "processes", *(f"{way}: ms" for way in ways)]
    return markdown(columns, rows) + "\n\n" + source(*files)


def waiting() -> str:
    files = sorted((path.name for path in RESULTS.glob("waiting-cpu*.json")), key=len)
    measured = [row for name in files for row in load(name)[1]]
    ways = [name for name in measured[0] if name.endswith("images/s")]
    rows = [
        [
            f"`{row['preset']}`",
            *(str(row[name]) for name in ("threads", "beside", "turns")),
            *(number(row[way]) for way in ways),
        ]
        for row in measured
    ]
    return markdown(["preset", "threads", "busy processes", "turns", *ways], rows) + "\n\n" + source(*files)


def data() -> str:
    _, measured = load("data-cpu.json")
    others = ("torchvision", "webdataset")
    rows = []
    for ours in select(measured, loader="ganblocks"):
        case = {name: ours[name] for name in ("side", "store", "images/s")}
        ratios = {row["loader"]: row["times ganblocks"] for row in select(measured, **case)}
        cells = [number(ours["rate"]), *(times(ratios.get(name)) for name in others)]
        rows.append([str(ours["side"]), ours["store"], ours["images/s"], *cells])
    columns = ["pixels of a JPEG", "store", "", "ganblocks: images/s", *(f"time of {name}" for name in others)]
    return markdown(columns, rows, 3) + "\n\n" + source("data-cpu.json")


CPU_TABLES = (neighborhood, dense, convolution, generators, memory, bfloat16, gradient_reduction, waiting, data)
GPU_TABLES = (neighborhood_gpu, dense_gpu, convolution_gpu, generators_gpu, training_gpu)
TABLES: dict[str, Callable[[], str]] = {table.__name__: table for table in (*CPU_TABLES, *GPU_TABLES)}


def render(page: str) -> str:
    """The page with all tables made from the JSON files."""

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        return f"<!-- begin: {name} -->\n{TABLES[name]()}\n<!-- end: {name} -->"

    return re.sub(r"<!-- begin: (\w+) -->.*?<!-- end: \1 -->", replace, page, flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"store the page in {PAGE.relative_to(ROOT)}")
    page = render(PAGE.read_text())
    if parser.parse_args().write:
        PAGE.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
