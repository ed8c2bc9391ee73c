"""The frame of a heat map: a summary line and column names; and the summary shown instead of a map in a low panel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from tui_gru.debugger.analysis.summaries import Summary
from tui_gru.engine import numbers
from tui_gru.tui.look.characters import cut, fitting
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.themes import Palette
from tui_gru.tui.widgets.cell_row import CellRow
from tui_gru.tui.widgets.heatmap import CELL
from tui_gru.tui.widgets.written import NumberScale

BINS = 48  # of a summary; the columns of the widest histogram
_COLUMNS = 16  # cells of the histogram in a summary line, at most
_EVERY = 5  # every fifth column has its number above
_WIDE = 50  # cells for the words of a summary line; narrower lines use abbreviations

Where = Callable[[tuple[int, ...]], str]


def histogram(palette: Palette, summary: Summary, width: int) -> Segment:
    """Draw the histogram of a summary, `width` cells wide. A bin that is not empty has at least the lowest column."""
    counts = [int(part.sum()) for part in np.array_split(summary.counts, max(min(width, len(summary.counts)), 1))]
    signs, tallest = palette.glyphs.column, max(counts, default=0) or 1
    levels = [min(-(-n * (len(signs) - 1) // tallest), len(signs) - 1) for n in counts]
    each, more = divmod(max(width, 0), len(levels))
    return Segment("".join(signs[level] * (each + (i < more)) for i, level in enumerate(levels)), palette.gate)


def summary_strip(palette: Palette, summary: Summary | None, kind: NumberScale, where: Where, width: int) -> Strip:
    """Draw the summary of a matrix in a line: histogram, range, shares, and the largest entry with its place."""
    if summary is None:
        return Strip([Segment(cut("not computed yet", width, palette.glyphs), palette.blank)]).adjust_cell_length(width)
    columns = min(_COLUMNS, width // 5)
    room = width - columns - 2
    bad = summary.entries - summary.finite
    words = [*([f"{bad:,} not finite"] if bad else []), *_words(summary, kind, where, short=room < _WIDE)]
    all_of_it = " · ".join([_range(summary), *words])
    shown = transliterate(all_of_it if cell_len(all_of_it) <= room else fitting(words, room), palette.glyphs)
    ink = palette.warning if bad else palette.dim
    row = [histogram(palette, summary, columns), Segment(f"  {cut(shown, room, palette.glyphs)}", ink)]
    return Strip(row).adjust_cell_length(width)


def strips(palette: Palette, summary: Summary | None, kind: NumberScale, where: Where, width: int, height: int) -> Sequence[Strip]:
    """Draw the summary of a matrix for a panel without room for its rows: the histogram, and the shares below it."""
    if summary is None:
        return [Strip([Segment(palette.glyphs.blank * width, palette.blank)], width)] * min(height, 1)
    found = [Strip([histogram(palette, summary, width)], width)]
    bad = summary.entries - summary.finite
    words = [*([f"{bad:,} not finite"] if bad else []), *_words(summary, kind, where, short=True)]
    line = ""
    for word in words:
        longer = f"{line}  {word}" if line else word
        if line and cell_len(longer) > width:
            found.append(_line(palette, line, width, bad=bad > 0 and len(found) == 1))
            longer = word
        line = longer
    found.append(_line(palette, line, width, bad=bad > 0 and len(found) == 1))
    return found[:height]


def _line(palette: Palette, words: str, width: int, *, bad: bool) -> Strip:
    text = cut(transliterate(words, palette.glyphs), width, palette.glyphs)
    return Strip([Segment(text, palette.warning if bad else palette.dim)]).adjust_cell_length(width)


def _range(summary: Summary) -> str:
    low, high = (numbers.compact(x).strip() for x in (summary.smallest, summary.largest))
    return f"{low} … {high}"


def _words(summary: Summary, kind: NumberScale, where: Where, *, short: bool) -> Iterator[str]:
    """Yield the shares of entries, the mean of a gate and the largest entry, the most important first."""
    limits = summary.limits
    if limits is not None and limits.low == 0:
        yield _share(summary, summary.low, "0", short)
        yield _share(summary, summary.high, f"{limits.high:g}", short)
        yield f"mean {summary.mean:.2f}"
    elif limits is not None:
        yield _percent(summary, summary.saturated, "sat. {}" if short else "{} saturated", short)
    if limits is None or limits.low < 0:
        yield _share(summary, summary.near_zero, "0", short)
    if summary.dead:
        yield f"{summary.dead} dead" if short else f"{summary.dead} dead unit{'' if summary.dead == 1 else 's'}"
    if summary.peak is not None and kind == "signed":
        largest = summary.largest if summary.largest >= -summary.smallest else summary.smallest
        yield f"{'max' if short else 'largest'} {numbers.compact(largest).strip()} at {where(summary.peak)}"


def _share(summary: Summary, count: int, near: str, short: bool) -> str:
    return _percent(summary, count, f"≈{near} {{}}" if short else f"{{}} near {near}", short)


def _percent(summary: Summary, count: int, words: str, short: bool) -> str:
    share = summary.share(count)
    percent = "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"
    return words.format(percent.replace(" ", "") if short else percent)


def column_strip(palette: Palette, names: Sequence[str], first: int, gutter: int, width: int, marked: int | None) -> Strip:
    """Draw the names of the columns in view above their cells: all characters, every fifth number, or as many names as fit.

    `first` is the first column in view, 0-based; `marked` is the index in `names` of the column under the cursor.
    """
    row = CellRow(width)
    if marked is not None and 0 <= marked < len(names):
        _put(row, gutter + CELL * marked, names[marked], palette.accent, palette)
    in_order = all(name.isdecimal() and int(name) == first + i + 1 for i, name in enumerate(names))
    apart = -(-(max(map(cell_len, names), default=1) + 1) // CELL)  # columns from one name to the next
    for i, name in enumerate(names):
        if int(name) % _EVERY == 0 or int(name) == 1 if in_order else i % apart == 0:
            _put(row, gutter + CELL * i, name, palette.dim, palette)
    return row.strip()


def _put(row: CellRow, x: int, name: str, ink: Style, palette: Palette) -> None:
    """Write a name above its column unless it would touch another name."""
    name = transliterate(name, palette.glyphs)
    x += cell_len(name) == 1
    if row.free(x - 1, cell_len(name) + 1) or (x == 0 and row.free(x, cell_len(name))):
        row.put(x, name, ink)
