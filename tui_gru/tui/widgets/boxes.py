"""Boxes: rectangles of styled text that are combined side by side, stacked and nested, for written mathematics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.themes import Palette
from tui_gru.tui.widgets.refs import Cell

SegmentRow = tuple[Segment, ...]


@dataclass(frozen=True, eq=False)
class Box:
    """A rectangle of styled text. Every row is exactly `width` cells wide.

    `axis` is the row on which neighbours are aligned, like fraction bars and plus signs in print.
    """

    rows: tuple[SegmentRow, ...]
    width: int
    axis: int = 0

    @property
    def height(self) -> int:
        return len(self.rows)

    @property
    def text(self) -> str:
        """The text of the rows, without styles."""
        return "\n".join("".join(segment.text for segment in row) for row in self.rows)


EMPTY = Box((), 0)


def text(palette: Palette, content: str, style: Style | None = None) -> Box:
    """Return a box of a text in one style, a row per line. The text is never interpreted as markup."""
    style = palette.plain if style is None else style
    lines = [transliterate(line.expandtabs(4), palette.glyphs) for line in content.split("\n")]
    return from_rows([(Segment(line, style),) for line in lines])


def spans(palette: Palette, *parts: tuple[str, Style] | str | Segment) -> Box:
    """Return one row of differently styled pieces: `spans(p, ("ŷ", p.accent), " = softmax(o)")`. Segments are not changed."""
    return from_rows([tuple(part if isinstance(part, Segment) else _written(palette, part) for part in parts)])


def _written(palette: Palette, part: tuple[str, Style] | str) -> Segment:
    content, style = (part, palette.plain) if isinstance(part, str) else part
    return Segment(transliterate(content, palette.glyphs), style)


def from_rows(rows: Iterable[Iterable[Segment]], axis: int = 0) -> Box:
    """Return a box of these rows, padded on the right to the widest."""
    kept = [tuple(segment for segment in row if segment.text) for row in rows]
    widths = [sum(cell_len(segment.text) for segment in row) for row in kept]
    width = max(widths, default=0)
    return Box(tuple((*row, *_space(width - w)) for row, w in zip(kept, widths, strict=True)), width, axis)


def _space(width: int) -> SegmentRow:
    return (Segment(" " * width),) if width > 0 else ()


def pad(box: Box, *, left: int = 0, right: int = 0, top: int = 0, bottom: int = 0) -> Box:
    """Return the box with blank cells around it. Its axis stays at the same content."""
    width = left + box.width + right
    rows = (
        *(_space(width) for _ in range(top)),
        *((*_space(left), *row, *_space(right)) for row in box.rows),
        *(_space(width) for _ in range(bottom)),
    )
    return replace(box, rows=rows, width=width, axis=box.axis + top)


def hstack(*boxes: Box, gap: int = 1) -> Box:
    """Put boxes side by side, with their axes in one row and `gap` blank columns between. Empty boxes are left out."""
    shown = [box for box in boxes if box.width]
    if not shown:
        return EMPTY
    above = max(box.axis for box in shown)
    below = max(box.height - box.axis for box in shown)
    level = [pad(box, top=above - box.axis, bottom=below - box.height + box.axis) for box in shown]
    level[1:] = [pad(box, left=gap) for box in level[1:]]
    rows = tuple(tuple(segment for row in across for segment in row) for across in zip(*(b.rows for b in level), strict=True))
    return Box(rows, sum(box.width for box in level), above)


def vstack(*boxes: Box, gap: int = 0) -> Box:
    """Stack boxes with `gap` blank rows between. The axis is that of the first."""
    shown = [box for box in boxes if box.height]
    if not shown:
        return EMPTY
    width = max(box.width for box in shown)
    rows: list[SegmentRow] = []
    for index, box in enumerate(shown):
        rows += pad(box, right=width - box.width, top=gap if index else 0).rows
    return Box(tuple(rows), width, shown[0].axis)


def bracket(palette: Palette, box: Box, style: Style | None = None) -> Box:
    """Put the box between tall brackets, plain ones if it has a single row."""
    if not box.height:
        return box
    style = palette.dim if style is None else style
    left = _bracket_column(palette.glyphs.left_bracket, "(", box.height)
    right = _bracket_column(palette.glyphs.right_bracket, ")", box.height)
    rows = tuple(
        (Segment(opening, style), *row, Segment(closing, style))
        for opening, row, closing in zip(left, box.rows, right, strict=True)
    )
    return replace(box, rows=rows, width=box.width + 2)


def _bracket_column(parts: tuple[str, str, str], single: str, height: int) -> list[str]:
    if height == 1:
        return [single]
    return [parts[0], *[parts[1]] * (height - 2), parts[2]]


def titled(title: Box, box: Box) -> Box:
    """Put a title above the box. The axis stays that of the box, so that titled matrices align with untitled ones."""
    return replace(vstack(title, box), axis=title.height + box.axis)


def overlay(under: Box, over: Box, x: int, y: int) -> Box:
    """Draw one box over another at column x, row y. Parts outside of the lower box are cut off."""
    rows = list(under.rows)
    for index in range(over.height):
        if not 0 <= y + index < under.height or x >= under.width:
            continue
        below = Strip(under.rows[y + index], under.width)
        end = min(x + over.width, under.width)
        strip = Strip.join([below.crop(0, x), Strip(over.rows[index], over.width).crop(0, end - x), below.crop(end, under.width)])
        rows[y + index] = tuple(strip)
    return replace(under, rows=tuple(rows))


def clip(palette: Palette, box: Box, width: int, height: int) -> Box:
    """Cut the box to this size; rows that are cut off end in an ellipsis."""
    rows = box.rows[: max(height, 0)]
    if box.width <= width:
        return replace(box, rows=rows)
    mark = Segment(transliterate("…", palette.glyphs), palette.dim)
    return from_rows((_cut(row, width, mark) for row in rows), box.axis)


def _cut(row: SegmentRow, width: int, mark: Segment) -> SegmentRow:
    strip = Strip(row)
    if cell_len(strip.text.rstrip()) <= width:
        return tuple(strip.crop(0, width))
    return (*strip.crop(0, width - 1), mark) if width > 0 else ()


def flow(boxes: Iterable[Box], width: int, *, gap: int = 2) -> Box:
    """Put boxes side by side in as many lines as needed, like words in a paragraph, with a blank row between."""
    lines: list[list[Box]] = []
    used = 0
    for box in boxes:
        if lines and used + gap + box.width <= width:
            lines[-1].append(box)
            used += gap + box.width
        else:
            lines.append([box])
            used = box.width
    return vstack(*(hstack(*line, gap=gap) for line in lines), gap=1)


def columns(*boxes: Box, gap: int = 2) -> Box:
    """Put boxes side by side, aligned at their first rows instead of their axes."""
    height = max((box.height for box in boxes), default=0)
    tall = [pad(replace(box, axis=0), bottom=height - box.height) for box in boxes]
    return hstack(*tall, gap=gap)


def grid(rows: Iterable[Sequence[Box]], *, gap: int = 1) -> Box:
    """Put rows of boxes into aligned columns. Rows may have different lengths."""
    table = [list(row) for row in rows]
    widths = [max(box.width for box in column) for column in zip_longest(*table, fillvalue=EMPTY)]
    lines = [
        hstack(*(pad(box, right=width - box.width) for box, width in zip(row, widths, strict=False)), gap=gap) for row in table
    ]
    return vstack(*lines)


def quieted(palette: Palette, box: Box) -> Box:
    """Return the box in a quiet style, for boxes beside the one that is singled out."""
    rows = (tuple(_quiet(palette, segment) for segment in row) for row in box.rows)
    return replace(box, rows=tuple(rows))


def _quiet(palette: Palette, segment: Segment) -> Segment:
    style = palette.quiet(segment.style) if segment.style else None
    return Cell.of(segment.text, style, segment.ref if isinstance(segment, Cell) else None)
