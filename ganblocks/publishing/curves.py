"""Line charts as SVG text, for pages that need no network and no script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP, BOTTOM = 58, 10, 10, 26  # px around the plot
MAX_POINTS = 400  # per line; longer ones are averaged
MAX_TICKS = 5


def line_chart(lines: Mapping[str, Points], unit: str = "") -> str:
    """An SVG chart with a legend; lines are coloured by the page's CSS classes `line-0`, `line-1`, ...

    Args:
        lines: Points (x, y) by name, in the order of x; those that are not finite are left out.
        unit: What x counts.
    """
    finite = {name: _thinned([p for p in points if all(map(math.isfinite, p))]) for name, points in lines.items()}
    finite = {name: points for name, points in finite.items() if points}
    if not finite:
        return "<p>No finite values.</p>"
    xs = [x for points in finite.values() for x, _ in points]
    ys = [y for points in finite.values() for _, y in points]
    x_ticks, y_ticks = ticks(min(xs), max(xs)), ticks(min(ys), max(ys))
    x_range = (min(xs), max(xs)) if max(xs) > min(xs) else (min(xs) - 1, max(xs) + 1)
    y_range = (min(y_ticks[0], min(ys)), max(y_ticks[-1], max(ys)))
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
    for y in y_ticks:
        place = _y(y, y_range)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place:.1f}" y2="{place:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{place + 4:.1f}" text-anchor="end">{y:g}</text>')
    shown = [x for x in x_ticks if x_range[0] <= x <= x_range[1]]
    for x in shown:
        label = f"{x:g} {escape(unit)}".strip() if x == shown[-1] else f"{x:g}"
        anchor = "end" if x == shown[-1] else "middle"
        parts.append(f'<text x="{_x(x, x_range):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{label}</text>')
    for number, (name, points) in enumerate(finite.items()):
        path = " ".join(f"{_x(x, x_range):.1f},{_y(y, y_range):.1f}" for x, y in points)
        mark = f'<polyline class="line-{number % 8}" points="{path}"><title>{escape(name)}</title></polyline>'
        if len(points) == 1:
            left, top = path.split(",")
            mark = (
                f'<circle class="dot-{number % 8}" cx="{left}" cy="{top}" r="3"><title>{escape(name)}</title></circle>'
            )
        parts.append(mark)
    legend = "".join(
        f'<span class="key key-{number % 8}">{escape(name)} <b>{points[-1][1]:.4g}</b></span>'
        for number, (name, points) in enumerate(finite.items())
    )
    return "".join([*parts, "</svg>", f'<div class="legend">{legend}</div>'])


def ticks(low: float, high: float) -> list[float]:
    """At most `MAX_TICKS` + 1 round numbers that cover a range."""
    if high <= low:
        span = abs(low) or 1.0
        low, high = low - span / 2, high + span / 2
    raw = (high - low) / MAX_TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def _thinned(points: Points) -> Points:
    """Means of consecutive points, so that there are at most `MAX_POINTS`."""
    size = math.ceil(len(points) / MAX_POINTS)
    if size <= 1:
        return points
    groups = [points[first : first + size] for first in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _x(value: float, span: tuple[float, float]) -> float:
    return LEFT + (value - span[0]) / (span[1] - span[0]) * (WIDTH - LEFT - RIGHT)


def _y(value: float, span: tuple[float, float]) -> float:
    return TOP + (span[1] - value) / (span[1] - span[0]) * (HEIGHT - TOP - BOTTOM)
