"""What panels are drawn with: boxes of styled text, rows of cells that are written into, bars, and references to numbers.

A `Box` is what is put together from parts: text, matrices and bars, side by side or one above the other. A `CellRow` is for
pictures whose parts cover one another: curves, axes, the time line. A box is made of its rows in the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import chain, groupby
from typing import NamedTuple, overload

import numpy as np
from rich.cells import cached_cell_len, cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.strip import Strip

from tui_gru.debugger.program import Program
from tui_gru.engine import numbers
from tui_gru.engine.weights import Array
from tui_gru.tui.theme import Palette, folded, transliterate, truncated

# ------------------------------------------------------------------------------
# References from numbers on screen to numbers of the run.


@dataclass(frozen=True)
class Ref:
    """A number of the shown moment: entry `index` (0-based) of `name` at timestep `t`, None for the current timestep.

    If `change` is True, it is the change of that entry of a parameter in the last SGD step; if `before` is True, the number that
    the line just executed read and replaced.
    """

    name: str
    index: tuple[int, ...] = ()
    t: int | None = None
    change: bool = False
    before: bool = False


Refs = Callable[[int, int], Ref]


def refs_of(program: Program, name: str, *, change: bool = False) -> Refs:
    """Return the function from row and column to the reference, for a value written as a matrix.

    A vector of weights is one row, a vector with a number per row of the batch one column.
    """
    axes = program.names[name].axes
    column = axes == ("B",)

    def at(i: int, j: int) -> Ref:
        return Ref(name, (i,) if column else (i, j)[2 - len(axes) :], change=change)

    return at


class Cell(Segment):
    """A segment that shows a number of the run. Boxes keep their segments unchanged, so it can be found in a panel."""

    ref: Ref

    @classmethod
    def of(cls, text: str, style: Style | None, ref: Ref | None) -> Segment:
        """Return a cell, or a plain segment if there is no reference."""
        if ref is None:
            return Segment(text, style)
        cell = cls(text, style)
        cell.ref = ref
        return cell


# ------------------------------------------------------------------------------
# Boxes: rectangles of styled text that are combined side by side, stacked and nested, for written mathematics.


SegmentRow = tuple[Segment, ...]


@dataclass(frozen=True, eq=False)
class Box:
    """A rectangle of styled text. Every row is exactly `width` cells wide; rows that are drawn on demand may be shorter.

    `axis` is the row on which neighbours are aligned, like fraction bars and plus signs in print.
    """

    rows: Sequence[SegmentRow]
    width: int
    axis: int = 0

    @property
    def height(self) -> int:
        return len(self.rows)

    @cached_property
    def strips(self) -> Sequence[Strip]:
        """The rows as strips."""
        return list(map(Strip, self.rows))

    @property
    def text(self) -> str:
        """The text of the rows, without styles."""
        return "\n".join("".join(segment.text for segment in row) for row in self.rows)


EMPTY = Box((), 0)


class RowsOnDemand(Sequence[SegmentRow]):
    """`count` rows, of which each is drawn when it is first read: of a long list only those in view cost time."""

    def __init__(self, count: int, draw: Callable[[int], SegmentRow]) -> None:
        self._rows: list[SegmentRow | None] = [None] * count
        self._draw = draw

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> SegmentRow: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[SegmentRow]: ...
    def __getitem__(self, index: int | slice) -> SegmentRow | Sequence[SegmentRow]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        row = self._rows[index]
        if row is None:
            row = self._rows[index] = self._draw(index % len(self))
        return row


def text_box(palette: Palette, content: str, style: Style | None = None) -> Box:
    """Return a box of a text in one style, a row per line. The text is never interpreted as markup."""
    style = palette.plain if style is None else style
    lines = [transliterate(line.expandtabs(4), palette.glyphs) for line in content.split("\n")]
    return from_rows([(Segment(line, style),) for line in lines])


def styled_row(palette: Palette, *parts: tuple[str, Style] | str | Segment) -> SegmentRow:
    """Return a row of differently styled pieces: `line(p, ("ŷ", p.accent), " = softmax(o)")`. Segments are not changed."""
    pieces = ((part, palette.plain) if isinstance(part, str) else part for part in parts)
    return tuple(part if isinstance(part, Segment) else Segment(transliterate(part[0], palette.glyphs), part[1]) for part in pieces)


def spans(palette: Palette, *parts: tuple[str, Style] | str | Segment) -> Box:
    """Return a box of one such row."""
    return from_rows([styled_row(palette, *parts)])


def row_width(row: Iterable[Segment]) -> int:
    """Return the cells of a row."""
    return sum([cached_cell_len(text) for text, _, _ in row])


def from_rows(rows: Iterable[Iterable[Segment]], axis: int = 0) -> Box:
    """Return a box of these rows, padded on the right to the widest."""
    visible = [tuple([segment for segment in row if segment.text]) for row in rows]
    widths = list(map(row_width, visible))
    width = max(widths, default=0)
    return Box(tuple((*row, *_space(width - w)) for row, w in zip(visible, widths, strict=True)), width, axis)


@lru_cache(maxsize=1000)
def _space(width: int) -> SegmentRow:
    return (Segment(" " * width),) if width > 0 else ()


def pad(box: Box, *, left: int = 0, right: int = 0, top: int = 0, bottom: int = 0) -> Box:
    """Return the box with blank cells around it. Its axis stays at the same content."""
    if not (left or right or top or bottom):
        return box
    width = left + box.width + right
    rows = (
        *(_space(width) for _ in range(top)),
        *((*_space(left), *row, *_space(right)) for row in box.rows),
        *(_space(width) for _ in range(bottom)),
    )
    return Box(rows, width, box.axis + top)


def hstack(*boxes: Box, gap: int = 1) -> Box:
    """Put boxes side by side, with their axes in one row and `gap` blank columns between. Empty boxes are left out."""
    shown = [box for box in boxes if box.width]
    if not shown:
        return EMPTY
    if len(shown) == 1:
        return shown[0]
    above = max([box.axis for box in shown])
    rows: list[list[Segment]] = [[] for _ in range(above + max([len(box.rows) - box.axis for box in shown]))]
    lead: SegmentRow = ()
    for box in shown:
        start, blank = above - box.axis, (*lead, *_space(box.width))
        end = start + len(box.rows)
        for y, row in enumerate(rows):
            row += (*lead, *box.rows[y - start]) if start <= y < end else blank
        lead = _space(gap)
    return Box(tuple(map(tuple, rows)), sum([box.width for box in shown]) + gap * (len(shown) - 1), above)


def vstack(*boxes: Box, gap: int = 0) -> Box:
    """Stack boxes with `gap` blank rows between. The axis is that of the first."""
    shown = [box for box in boxes if box.height]
    if not shown:
        return EMPTY
    width = max([box.width for box in shown])
    rows: list[SegmentRow] = []
    for box in shown:
        rows += [_space(width)] * gap if rows else ()
        spare = _space(width - box.width)
        rows += [(*row, *spare) for row in box.rows] if spare else box.rows
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
    return Box(rows, box.width + 2, box.axis)


def _bracket_column(parts: tuple[str, str, str], single: str, height: int) -> list[str]:
    if height == 1:
        return [single]
    return [parts[0], *[parts[1]] * (height - 2), parts[2]]


def titled(title: Box, box: Box) -> Box:
    """Put a title above the box. The axis stays that of the box, so that titled matrices align with untitled ones."""
    return replace(vstack(title, box), axis=title.height + box.axis)


def clip(palette: Palette, box: Box, width: int, height: int) -> Box:
    """Cut the box to this size; rows that are cut off end in an ellipsis."""
    rows = box.rows[: max(height, 0)]
    if box.width <= width:
        return Box(rows, box.width, box.axis)
    mark = Segment(transliterate("…", palette.glyphs), palette.dim)
    return from_rows((_cut(row, width, mark) for row in rows), box.axis)


def _cut(row: SegmentRow, width: int, mark: Segment) -> SegmentRow:
    strip = Strip(row)
    if cell_len(strip.text.rstrip()) <= width:
        return tuple(strip.crop(0, width))
    return (*strip.crop(0, width - 1), mark) if width > 0 else ()


def cut_below(palette: Palette, box: Box, width: int, height: int) -> Box:
    """Return the first rows of a box; if some are left out, the last one ends in an ellipsis."""
    if box.height <= height or height < 1:
        return replace(box, rows=box.rows[: max(height, 0)])
    last = shortened_row(palette, (*box.rows[height - 1], Segment(" " * width)), width)
    return from_rows((*box.rows[: height - 1], last), box.axis)


def wrapped_boxes(boxes: Iterable[Box], width: int, *, gap: int = 2) -> Box:
    """Put boxes side by side in as many lines as needed, like words in a paragraph, with a blank row between."""
    return vstack(*(hstack(*line, gap=gap) for line in _flowing(boxes, width, gap)), gap=1)


def flow_size(boxes: Iterable[Box], width: int, *, gap: int = 2) -> Size:
    """Return the size of these boxes as `flow` puts them."""
    shown = ([box for box in line if box.width] for line in _flowing(boxes, width, gap))
    lines = [line for line in shown if line]
    heights = [max(box.axis for box in line) + max(box.height - box.axis for box in line) for line in lines]
    across = max((sum(box.width + gap for box in line) - gap for line in lines), default=0)
    return Size(across, sum(heights) + max(len(heights) - 1, 0))


def _flowing(boxes: Iterable[Box], width: int, gap: int) -> list[list[Box]]:
    lines: list[list[Box]] = []
    used = 0
    for box in boxes:
        if lines and used + gap + box.width <= width:
            lines[-1].append(box)
            used += gap + box.width
        else:
            lines.append([box])
            used = box.width
    return lines


def in_columns(*boxes: Box, gap: int = 2) -> Box:
    """Put boxes side by side, aligned at their first rows instead of their axes."""
    height = max((box.height for box in boxes), default=0)
    tall = [pad(replace(box, axis=0), bottom=height - box.height) for box in boxes]
    return hstack(*tall, gap=gap)


def quieted(palette: Palette, box: Box) -> Box:
    """Return the box in a quiet style, for boxes beside the one that is singled out."""
    quiet = palette.quiet
    rows = (
        tuple(
            Cell.of(segment.text, quiet(segment.style) if segment.style else None, getattr(segment, "ref", None)) for segment in row
        )
        for row in box.rows
    )
    return replace(box, rows=tuple(rows))


# ------------------------------------------------------------------------------
# Tables: rows whose cells are aligned in columns; and explanations, each beside or below what it explains.


class TableColumn(NamedTuple):
    """A column of a table: its heading, and where its cells are placed.

    Cells are at the left, with `right` at the right, after `gap` blank cells; with `fill`, their background fills the column. A
    column is at least `size` wide. In a table that is too wide, columns with a `need` are left out, those of the least need first;
    then the one with `least` is cut to that width.
    """

    heading: str = ""
    gap: int = 2
    right: bool = False
    fill: bool = False
    size: int = 0
    need: int | None = None
    least: int | None = None


def table(palette: Palette, rows: Sequence[Sequence[SegmentRow]], columns: Sequence[TableColumn], width: int) -> list[SegmentRow]:
    """Return rows with their cells in aligned columns, below the headings if there are any; each row has a cell per column."""
    heads = [styled_row(palette, (column.heading, palette.dim)) for column in columns]
    all_rows = [heads, *rows] if any(column.heading for column in columns) else rows
    cells = list(zip(*all_rows, strict=True)) or [()] * len(columns)
    widths = [list(map(row_width, column_widths)) for column_widths in cells]
    sizes = [max((column.size, *column_widths)) for column, column_widths in zip(columns, widths, strict=True)]

    # Columns that are always shown come first, then those of the same need together, as long as they fit.
    shown: list[int] = []
    for need in (None, *sorted({column.need for column in columns if column.need is not None}, reverse=True)):
        more = sorted({*shown, *(i for i, column in enumerate(columns) if column.need == need)})
        if need is None or sum(columns[i].gap + sizes[i] for i in more) <= width:
            shown = more
    spare = width - sum(columns[i].gap + sizes[i] for i in shown)
    for i in shown:
        if (least := columns[i].least) is not None:
            sizes[i] = min(sizes[i], max(sizes[i] + spare, least))

    def placed(y: int, row: Sequence[SegmentRow]) -> Iterator[Segment]:
        for i in shown:
            cell, blank = row[i], sizes[i] - widths[i][y]
            if blank < 0:
                cell = shortened_row(palette, cell, sizes[i])
                blank = sizes[i] - row_width(cell)
            before, after = (columns[i].gap + blank, 0) if columns[i].right else (columns[i].gap, blank)
            background = any(segment.style is not None and segment.style.bgcolor is not None for segment in cell)
            if len(cell) == 1 and type(cell[0]) is Segment and (columns[i].fill or not background):
                yield Segment(" " * before + cell[0].text + " " * after, cell[0].style)  # one segment is drawn faster than three
            else:
                yield from (*_space(before), *cell, *_space(after))

    return [tuple(placed(y, row)) for y, row in enumerate(all_rows)]


def shortened_row(palette: Palette, row: SegmentRow, width: int) -> SegmentRow:
    """Return the row cut to `width` cells, with an ellipsis in the style of its last piece if it is longer."""
    pieces, used = list[Segment](), 0
    if row_width(row) <= width:
        return row
    for segment in row:
        if used + segment.cell_length >= width:  # what follows is cut off too
            return (*pieces, Segment(truncated(f"{segment.text}  ", width - used, palette.glyphs), segment.style))
        pieces.append(segment)
        used += segment.cell_length
    return tuple(pieces)


def explained(palette: Palette, term: str, ink: Style, words: str, width: int, *, column: int = 0) -> list[SegmentRow]:
    """Return what is explained, in the style `ink`, and its explanation: beside it from `column` on, or below it if that is 0."""
    term, words = (transliterate(part, palette.glyphs) for part in (term, words))
    indent = column or 2
    parts = folded(words, max(width - indent, 1))
    rows: list[SegmentRow] = [(Segment(part, ink),) for part in ([term] if column else folded(term, width))]
    if column:
        rows = [(*rows[0], Segment(" " * (column - cell_len(term))), Segment(parts.pop(0), palette.plain))]
    return [*rows, *((Segment(" " * indent), Segment(part, palette.plain)) for part in parts)]


def titled_rows(palette: Palette, title: str, rows: Iterable[Sequence[SegmentRow]]) -> Box:
    """Return a box of a group of rows below its title."""
    return vstack(text_box(palette, title, palette.strong), from_rows(chain.from_iterable(rows)))


# ------------------------------------------------------------------------------
# A row of cells into which signs and words are written.


def merged_segments(signs: Iterable[str], inks: Iterable[Style | None]) -> Iterator[Segment]:
    """Yield cells and their styles as segments, with neighbours of the same style in one segment."""
    at, all_signs = 0, list(signs)
    for ink, run in groupby(inks):
        end = at + len(list(run))
        yield Segment("".join(all_signs[at:end]), ink)
        at = end


class CellRow:
    """A row of `width` blank cells. Later writes cover earlier ones; text beyond the row is cut off."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._signs = [" "] * width
        self._inks: list[Style | None] = [None] * width
        self._occupied = [False] * width

    @classmethod
    def of(cls, signs: list[str], inks: list[Style | None]) -> CellRow:
        """Return a row of signs of one cell each. Cells without a style are free."""
        row = cls(len(signs))
        row._signs, row._inks, row._occupied = signs, inks, [ink is not None for ink in inks]
        return row

    def copy(self) -> CellRow:
        twin = CellRow(self.width)
        twin._signs, twin._inks, twin._occupied = self._signs.copy(), self._inks.copy(), self._occupied.copy()
        return twin

    def at(self, x: int) -> str:
        """Return the text of a cell."""
        return self._signs[x]

    def free(self, x: int, width: int) -> bool:
        """Return True if these cells are all in the row and nothing has been written to them, not even a blank."""
        return x >= 0 and x + width <= self.width and not any(self._occupied[x : x + width])

    def put(self, x: int, text: str, ink: Style) -> None:
        """Write a text from column x on. A character two cells wide is either written or covered as a whole."""
        end = x + len(text)
        if x >= 0 and end <= self.width and text.isascii() and text.isprintable() and "" not in self._signs[x : end + 1]:
            self.fill(x, text, ink)  # one cell each, and no half of a wide one below or beside them
            return
        for sign in text:
            width = cell_len(sign)
            if width == 0:
                if 0 < x <= self.width:
                    self._signs[x - 1] += sign
            elif x >= 0 and x + width <= self.width:
                self._uncover(x, width)
                self._signs[x : x + width] = [sign, *[""] * (width - 1)]
                self._inks[x : x + width] = [ink] * width
                self._occupied[x : x + width] = [True] * width
            x += width

    def fill(self, x: int, signs: Sequence[str], ink: Style) -> None:
        """Write signs of one cell each, from column x on."""
        self._signs[x : x + len(signs)] = signs
        self._inks[x : x + len(signs)] = [ink] * len(signs)
        self._occupied[x : x + len(signs)] = [True] * len(signs)

    def strip(self) -> Strip:
        return Strip(merged_segments(self._signs, self._inks), self.width)

    def _uncover(self, x: int, width: int) -> None:
        """Blank the other half of a wide character that is covered by half."""
        if self._signs[x] == "":
            self._signs[x - 1] = " "
        if x + width < self.width and self._signs[x + width] == "":
            self._signs[x + width] = " "


# ------------------------------------------------------------------------------
# Horizontal bars for a distribution over a few names, and columns side by side for a series.


_WORD = " target"
#: The shortest bar in cells; with less room, only the numbers are drawn.
_SHORTEST = 4


def bars(
    palette: Palette,
    values: Sequence[float] | None,
    labels: Sequence[str],
    width: int,
    *,
    target: int | None = None,
    full: float = 1.0,
    write: Callable[[float], str] = numbers.unit,
    fresh: bool = False,
    word: bool = True,
    signed: bool = False,
    refs: Sequence[Ref] | None = None,
) -> Box:
    """Draw for each label its value and a bar.

    The target has a sign at the end of its bar, with `word` it is also named if there is room; the largest value stands out. If
    `values` is None, they are not computed yet and drawn as dots. `full` is the value of a bar of full length. With `signed`, the
    length of a bar is the magnitude of its value and its colour the sign; zeros are dimmed. `refs` are those of the values.
    """
    names = [transliterate(label, palette.glyphs) for label in labels]
    name_width = max(map(cell_len, names), default=0)
    number_width = len(write(0.0))
    rest = width - (name_width + 1 + number_width + 1 + 2)  # name, number, sign of the target, and the gaps between them
    word = word and target is not None and rest - len(_WORD) >= 2 * _SHORTEST
    length = rest - (len(_WORD) if word else 0)
    length = length if length >= _SHORTEST else 0
    largest = None if values is None or signed else max(map(float, values), default=None)

    rows = []
    for index, name in enumerate(names):
        chosen = index == target
        value = None if values is None else float(values[index])
        stands_out = chosen if value is None else value == largest
        row = [
            Segment(" " * (name_width - cell_len(name))),
            Segment(name, palette.strong if stands_out else palette.plain),
            Segment(" "),
        ]
        shaft, ink = "", palette.gate
        if value is None:
            row += [Segment(palette.glyphs.blank.center(number_width), palette.blank), Segment(" ")]
        else:
            ink = palette.negative if signed and value < 0 else palette.positive if signed else palette.gate
            number = palette.fresh(palette.plain) if fresh else palette.strong if stands_out else palette.plain
            number = palette.dim if signed and not value else number if math.isfinite(value) else palette.warning
            row += [Cell.of(write(value), number, None if refs is None else refs[index]), Segment(" ")]
            shaft = bar(palette, abs(value / full) if signed else value / full, length).rstrip(" ")
        mark = f"{' ' if shaft else ''}{palette.glyphs.target_end}{_WORD if word else ''}" if chosen else ""
        blank = length + 2 + (len(_WORD) if word else 0) - cell_len(shaft) - cell_len(mark)
        row += [Segment(shaft, ink), Segment(mark, palette.target), Segment(" " * blank)]
        rows.append(row)
    return from_rows(rows)


def column_signs(palette: Palette, parts: Array, width: int = 1) -> str:
    """Return a column for each part (0 to 1, NaN as 0), each `width` cells wide."""
    signs = palette.glyphs.column
    levels = np.clip(np.rint(np.nan_to_num(parts) * (len(signs) - 1)), 0, len(signs) - 1).astype(int)
    return "".join(signs[level] * width for level in levels.tolist())


def bar(palette: Palette, part: float, length: int) -> str:
    """Return a bar over `part` (0 to 1) of `length` cells, in eighths if there are such glyphs, padded with blanks."""
    steps = len(palette.glyphs.bar) - 1
    filled = round(min(max(part, 0.0), 1.0) * length * steps) if math.isfinite(part) else 0
    if filled == 0 and part > 0 and length:
        filled = 1  # a part that is not 0 is drawn with at least one step
    full, rest = divmod(filled, steps)
    return (palette.glyphs.bar[-1] * full + (palette.glyphs.bar[rest] if rest else "")).ljust(length)
