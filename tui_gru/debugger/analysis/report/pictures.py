"""The pictures of a report as SVG elements: the curve with its baselines, the units over the text, bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from tui_gru.debugger.analysis.report.gathered import printable_text
from tui_gru.debugger.analysis.report.report import RunReport
from tui_gru.engine.numbers import rounded

WIDTH, CURVE_HEIGHT = 960, 240
_INK, _DIM, _GRID, _LINE = "#1d2429", "#566168", "#c3c8c6", "#0b6b60"
_POSITIVE, _NEGATIVE = (31, 95, 168), (196, 92, 20)  # blue and orange, around white
_FONT = 'font-family="ui-monospace,Menlo,Consolas,monospace"'
_CELL = 8  # pixels of a character of the heat map


def text(x: float, y: float, words: str, *, size: int = 12, ink: str = _INK, anchor: str = "start", bold: bool = False) -> str:
    """Return a line of text whose base line is at `y`."""
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:g}" y="{y:g}" {_FONT} font-size="{size}" fill="{ink}" text-anchor="{anchor}"{weight}>{escape(words)}</text>'
    )


def curve(report: RunReport) -> list[str]:
    """Return the mean loss of each piece of the run on a logarithmic scale, and the baselines as lines with their names."""
    points = [(batch, loss) for batch, loss in report.curve if math.isfinite(loss) and loss > 0]
    if not points:
        return [text(0, 20, "no batch has been finished yet", ink=_DIM)]
    lines = [(name, value) for name, value in report.lines if value > 0]
    heights = [math.log(value) for _, value in (*points, *lines)]
    low, high = min(heights), max(heights)
    left, right, top, bottom = 60, WIDTH - 80, 12, CURVE_HEIGHT - 24
    last = report.curve[-1][0]

    def x(batch: int) -> float:
        return left + (right - left) * (batch / last)

    def y(value: float) -> float:
        return bottom - (bottom - top) * ((math.log(value) - low) / (high - low) if high > low else 0.5)

    found = [f'<line x1="{left}" y1="{bottom}" x2="{right}" y2="{bottom}" stroke="{_GRID}"/>']
    for _, value in lines:
        found.append(
            f'<line x1="{left}" y1="{y(value):.1f}" x2="{right}" y2="{y(value):.1f}" stroke="{_GRID}" stroke-dasharray="3 3"/>'
        )
    path = " ".join(f"{x(batch):.1f},{y(loss):.1f}" for batch, loss in points)
    if len(points) == 1:
        found.append(f'<circle cx="{x(points[0][0]):.1f}" cy="{y(points[0][1]):.1f}" r="2" fill="{_LINE}"/>')
    found.append(f'<polyline points="{path}" fill="none" stroke="{_LINE}" stroke-width="1.5"/>')
    found.append(text(right, bottom + 16, f"{last:,} {report.of}", ink=_DIM, anchor="end"))
    found.append(text(left, bottom + 16, "loss in nats, logarithmic", ink=_DIM))
    below = 0.0
    for name, value in sorted([*lines, ("", points[-1][1])], key=lambda each: y(each[1])):
        below = max(y(value) + 4, below + 13)  # so that no two labels overlap
        ink = _DIM if name else _LINE
        found.append(text(right + 6, below, name, ink=ink))
        found.append(text(left - 6, below, rounded(value), ink=ink, anchor="end", bold=not name))
    return found


def heat_map(report: RunReport) -> tuple[list[str], int]:
    """Return the units of the report over the first characters of its text, and the height of the picture."""
    units, characters = report.values.shape
    left, top = 80, 18
    found = [text(left + i * _CELL, top - 5, printable_text(char[:1]), size=11, ink=_DIM) for i, char in enumerate(report.text)]
    for row, note in enumerate(report.units):
        y = top + row * 14
        found.append(text(left - 6, y + 11, f"unit {note.unit + 1}", ink=_DIM, anchor="end"))
        for i in range(characters):
            value = float(report.values[row, i])
            found.append(f'<rect x="{left + i * _CELL}" y="{y}" width="{_CELL}" height="13" fill="{_colour(value)}"/>')
        words = f"{note.goes_with} {note.r:+.2f}" if abs(note.r) >= 0.1 else ""
        found.append(text(left + characters * _CELL + 6, y + 11, words, ink=_DIM))
    return found, top + units * 14 + 6


def _colour(value: float) -> str:
    if not math.isfinite(value):
        return "#000000"
    part = min(abs(value), 1.0)
    red, green, blue = (round(255 + (channel - 255) * part) for channel in (_POSITIVE if value >= 0 else _NEGATIVE))
    return f"#{red:02x}{green:02x}{blue:02x}"


def bars(values: Sequence[tuple[str, float, str]], width: int = 420) -> tuple[list[str], int]:
    """Return horizontal bars with a name, a value and a text after it, and the height of the picture."""
    largest = max((value for _, value, _ in values), default=1.0) or 1.0
    found = []
    for row, (name, value, words) in enumerate(values):
        y = row * 18
        found.append(text(120, y + 12, name, ink=_DIM, anchor="end"))
        found.append(
            f'<rect x="128" y="{y + 2}" width="{max(value / largest, 0) * (width - 220):.1f}" height="12" fill="{_LINE}"/>'
        )
        found.append(text(width - 84, y + 12, words))
    return found, 18 * len(values)


def classes(report: RunReport) -> tuple[list[str], int]:
    """Return the mean loss of each class of characters as bars, sorted by their share of the loss."""
    return bars([(each.name, each.mean, f"{each.mean:.2f}  {100 * each.share:.0f} %") for each in report.classes])


def svg(elements: Sequence[str], width: int, height: int, *, label: str) -> str:
    """Return elements as a complete picture."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img"'
    return f'{head} aria-label="{escape(label)}">{"".join(elements)}</svg>'


def moved(elements: Sequence[str], x: float, y: float) -> str:
    """Return elements moved to another place."""
    return f'<g transform="translate({x:g} {y:g})">{"".join(elements)}</g>'
