"""Numbers written as on a blackboard: arrays between tall brackets, and an entry of a line worked out with recorded numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any, Literal, NamedTuple

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from tui_gru.debugger import program as names
from tui_gru.debugger.evaluate import EVERY, Factor, MomentNumbers, Terms, signed, terms_of
from tui_gru.debugger.program import Program, ProgramLine, index_in_words, shown_char, signed_sum, spoken
from tui_gru.engine import numbers
from tui_gru.engine.config import Text
from tui_gru.engine.model import GRADIENTS
from tui_gru.engine.weights import Array
from tui_gru.equations import syntax as e
from tui_gru.equations.functions import FUNCTIONS
from tui_gru.equations.syntax import Apply, Expression, Name
from tui_gru.equations.writing import decimal
from tui_gru.session.snapshot import Snapshot
from tui_gru.tui.draw import (
    Box,
    Cell,
    CellRow,
    Ref,
    Refs,
    SegmentRow,
    TableColumn,
    bar,
    bracket,
    from_rows,
    hstack,
    quieted,
    refs_of,
    styled_row,
    table,
    text_box,
)
from tui_gru.tui.theme import Palette, operator, transliterate, written_char

AnyArray = np.ndarray[Any, np.dtype[Any]]

#: The kind of an array, which decides its format and colours: signed numbers, numbers from 0 to 1 (gates, probabilities),
#: or one-hot rows.
NumberScale = Literal["signed", "unit", "onehot"]


class EntryFormat(NamedTuple):
    """The format of an entry of one kind: its width in cells and the function that writes it."""

    width: int
    write: Callable[[float], str]


ENTRIES: dict[tuple[NumberScale, bool], EntryFormat] = {
    ("signed", False): EntryFormat(numbers.WIDE, numbers.wide),
    ("signed", True): EntryFormat(numbers.COMPACT, numbers.compact),
    ("unit", False): EntryFormat(numbers.UNIT, numbers.unit),
    ("unit", True): EntryFormat(numbers.COMPACT_UNIT, numbers.compact_unit),
    ("onehot", False): EntryFormat(1, lambda x: f"{abs(x):.0f}" if x in (0, 1) else "?"),
    ("onehot", True): EntryFormat(1, lambda x: f"{abs(x):.0f}" if x in (0, 1) else "?"),
}


def scale_of(values: AnyArray | None) -> float:
    """Return the magnitude of the strongest colour: the largest finite |x|, rounded up to 1, 1.5, 2, 3, 5, 7 or 10.

    Rounding prevents colours from flickering while a number changes. The scale depends only on the values, not on earlier ones, so
    that a moment has the same colours however it was reached.
    """
    if values is None or values.size == 0:
        return 1.0
    largest = float(max(np.fmax.reduce(values, axis=None), -np.fmin.reduce(values, axis=None)))
    if not math.isfinite(largest):
        largest = float(np.max(np.abs(values), where=np.isfinite(values), initial=0.0))
    if largest == 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest))
    return next((step * power for step in (1, 1.5, 2, 3, 5, 7) if largest <= step * power), 10 * power)


def entry_style(palette: Palette, kind: NumberScale, value: float, scale: float) -> Style:
    """Return the style of an entry by its value."""
    if kind == "onehot":
        return palette.strong if value else palette.dim
    if value == 0:
        return palette.dim
    return palette.signed(value / scale) if kind == "signed" else palette.unit(value)


def shown_indices(count: int, limit: int | None, focus: int | None = None) -> list[int | None]:
    """Return which of `count` lines to show in `limit` places: indices, and None where lines are left out.

    The first line, the last one and the one in focus are always shown. If the limit is too small for that, the lines around the one
    in focus are shown.
    """
    if limit is None or count <= limit:
        return list(range(count))
    middle = min(max(0 if focus is None else focus, 0), count - 1)
    if limit < 5:
        start = min(max(middle - limit // 2, 0), count - limit)
        return list(range(start, start + limit))
    if middle < limit - 2:
        return [*range(limit - 2), None, count - 1]
    if middle >= count - (limit - 2):
        return [0, None, *range(count - limit + 2, count)]
    room = limit - 4
    start = min(middle - room // 2, count - 2 - room)
    return [0, None, *range(start, start + room), None, count - 1]


def cut_sides(shown: Sequence[int | None], count: int) -> tuple[bool, bool]:
    """Return whether lines are left out before and after those that are shown, which a None among them does not say."""
    return bool(shown) and shown[0] != 0, bool(shown) and shown[-1] != count - 1


def window(count: int, limit: int, focus: int | None = None) -> range:
    """Return which of `count` rows or timesteps to show in `limit` places: those around the one in focus."""
    limit = min(max(limit, 1), count)
    start = min(max((focus or 0) - limit // 2, 0), count - limit)
    return range(start, start + limit)


def named_rows(shown: range, count: int, mark: str, word: str = "row ") -> list[str]:
    """Return the names of the rows of the batch that are `shown` of `count`, with a mark after those beside which rows are left
    out: `row 3⋮`."""
    cut = [row for row, neighbour in ((shown.start, shown.start - 1), (shown.stop - 1, shown.stop)) if 0 <= neighbour < count]
    return [f"{word}{i + 1}{mark if i in cut else ''}" for i in shown]


_MARKED = Style(bold=True, underline=True)


def bracketed_matrix(
    palette: Palette,
    values: AnyArray | None,
    *,
    kind: NumberScale = "signed",
    shape: tuple[int, int] | None = None,
    scale: float | None = None,
    fresh: bool = False,
    row: int | None = None,
    cursor: tuple[int, int] | None = None,
    compact: bool = False,
    elide: tuple[int | None, int | None] = (None, None),
    focus: tuple[int | None, int | None] = (None, None),
    refs: Refs | None = None,
    marked: tuple[int, int] | None = None,
) -> Box:
    """Draw a matrix, or a vector as one row, between tall brackets.

    If `values` is None, they are not computed yet and drawn as dots in the given `shape`. Otherwise `shape` is that of the
    matrix of which `values` are a part. `scale` is the |x| of the strongest colour, by default the largest of the array.
    `fresh` is True for values just computed; zeros among them stay dimmed. `row` is singled out: the others are dimmed.
    `cursor` is on one entry, and the entry `marked` is underlined. `elide` is the most rows and columns to show, which include
    marked entries and the row and column in `focus`; the full shape is then written beside the matrix. `refs` maps row and
    column to references, at which a cursor can point.
    """
    array = None if values is None else np.atleast_2d(values)
    rows, columns = array.shape if array is not None else (shape or (1, 1))
    scale = scale_of(array) if scale is None else scale
    entry = ENTRIES[kind, compact]
    glyphs = palette.glyphs
    at_row, at_column = cursor if cursor is not None else (focus[0] if row is None else row, focus[1])
    shown_rows = shown_indices(rows, elide[0], at_row)
    shown_columns = shown_indices(columns, elide[1], at_column)
    dot = glyphs.blank.center(entry.width)

    def cell(i: int, j: int) -> Segment:
        if array is None:
            return Cell.of(dot, palette.cursor if cursor == (i, j) else palette.blank, None if refs is None else refs(i, j))
        value = float(array[i, j])
        style = entry_style(palette, kind, value, scale)
        if cursor == (i, j):
            style = palette.cursor
        elif row is not None and i != row:
            style = palette.quiet(style)
        elif fresh and value != 0:
            style = palette.fresh(style)
        if marked == (i, j):
            style += _MARKED
        return Cell.of(entry.write(value).rjust(entry.width), style, None if refs is None else refs(i, j))

    gap = Segment(" ")
    before, after = ([Segment(glyphs.ellipsis, palette.dim)] if cut else [] for cut in cut_sides(shown_columns, columns))
    lines: list[SegmentRow] = []
    for i in shown_rows:
        line: list[Segment] = [*before]
        for j in shown_columns:
            if len(line) > len(before):
                line.append(gap)
            if i is not None and j is not None:
                line.append(cell(i, j))
            elif j is not None:
                line.append(Segment(glyphs.vertical_ellipsis.center(entry.width), palette.dim))
            else:
                line.append(Segment(glyphs.ellipsis if i is not None else glyphs.diagonal_ellipsis, palette.dim))
        lines.append((*line, *after))
    box = bracket(palette, from_rows(lines, axis=max(len(lines) - 1, 0) // 2), palette.accent if fresh else None)
    if None in shown_rows or None in shown_columns or len(shown_rows) < rows or len(shown_columns) < columns:
        mark = glyphs.vertical_ellipsis if any(cut_sides(shown_rows, rows)) else ""
        note = Segment(f" {mark}{glyphs.by.join(map(str, shape or (rows, columns)))}", palette.dim)
        box = from_rows((*box.rows[:-1], (*box.rows[-1], note)), box.axis)
    return box


# ------------------------------------------------------------------------------
# The operands of a line at the moment of a snapshot: the matrices and numbers that its names stand for.


def kind_of(program: Program, name: str) -> NumberScale:
    """Return the kind of a value, which decides its format: one-hot rows, numbers from 0 to 1, or signed numbers."""
    source = program.model.page.inputs.get(name)
    if source is not None and source.one_hot:
        return "onehot"
    low, high = program.ranges.get(name, (-1, 1))
    return "unit" if low >= 0 and high <= 1 else "signed"


@dataclass(frozen=True, eq=False)
class Operand:
    """A matrix of shape (rows, columns), or a number of shape ().

    `rows` and `columns` are the names of the axes: row, unit, character or timestep. `picks` has, for one-hot rows, the index of
    the 1 in each. `setting` is True for a number that was given instead of computed; it is written with the digits that were
    given. `refs` maps row and column to a reference to that number of the run. `full_shape` is the shape of the matrix of which
    `values` are one row.
    """

    label: str
    values: Array
    rows: str = ""
    columns: str = ""
    kind: NumberScale = "signed"
    picks: tuple[int, ...] = ()
    setting: bool = False
    refs: Refs | None = None
    full_shape: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the matrix, also where `values` are only one row of it."""
        rows, columns = self.full_shape or self.values.shape
        return rows, columns

    @property
    def is_number(self) -> bool:
        return self.values.ndim == 0

    @property
    def T(self) -> Operand:
        refs = None if self.refs is None else lambda i, j, ref_of=self.refs: ref_of(j, i)
        full_shape = None if self.full_shape is None else self.full_shape[::-1]
        return replace(
            self,
            label=f"{self.label}ᵀ",
            values=self.values.T,
            rows=self.columns,
            columns=self.rows,
            refs=refs,
            full_shape=full_shape,
        )

    def only_row(self, row: int) -> Operand:
        """Return the operand with only this row."""
        refs = None if self.refs is None else lambda i, j, ref_of=self.refs: ref_of(i + row, j)
        picks = self.picks[row : row + 1]
        return replace(self, values=self.values[row : row + 1], picks=picks, refs=refs, full_shape=self.shape)


#: A number in the place of one that is not computed yet.
_STAND_IN = 0.5


class Operands:
    """The operands of the line just executed in a snapshot; with `ahead`, of a line that may not be executed yet.

    Then only their shapes are right: what is not computed yet is replaced by numbers of one size.
    """

    def __init__(self, snapshot: Snapshot, line: ProgramLine, *, ahead: bool = False) -> None:
        self.snapshot, self.line, self._ahead = snapshot, line, ahead
        self._known: dict[str, Operand] = {}
        self._heads: dict[int | None, tuple[TermHead, ...]] = {}
        self._shares: dict[int | None, list[float | None]] = {}
        self._entries: dict[tuple[int | None, Ref | None], ExampleEntry] = {}
        self.written: dict[object, list[Any]] = {}  # the tokens of the line, by the way in which they are written
        self.numbers = MomentNumbers(snapshot.moment_read, snapshot.position.t)

    @staticmethod
    @lru_cache(maxsize=1)
    def of(snapshot: Snapshot, line: ProgramLine) -> Operands:
        """Return the operands of a line that has been executed: the same at each drawing, whatever its size, until another line is
        drawn."""
        return Operands(snapshot, line)

    def read(self, name: str) -> Operand:
        """Return the operand that `name` stands for on the right-hand side."""
        if name not in self._known:
            self._known[name] = self._read(name)
        return self._known[name]

    def _read(self, name: str) -> Operand:
        program, snapshot = self.snapshot.program, self.snapshot
        named = program.names.get(name)
        if name == GRADIENTS:  # the norm over all parameters
            return Operand("‖dW‖ of each parameter", np.atleast_2d(self.numbers.read(name)), "", "parameter")
        if named is None:  # the number of updates
            return Operand(program.writer.name(name), np.asarray(self.numbers.read(name)), setting=True)
        if named.timed and not named.axes and not program.blocks[self.line.block].direction:  # the values of all timesteps
            values = [snapshot.value(name, t) for t in range(snapshot.config.seq_length)]
            values = [_STAND_IN if value is None else value for value in values]
            return Operand(program.writer.name(name), np.array([values]), "", "timestep", refs=lambda i, j: Ref(name, (), j))
        operand = self._operand(name, self.numbers.read(name))
        if name != self.line.target or operand.refs is None:
            return operand
        at = operand.refs  # the line replaces what it reads: m = β1⊙m + …
        return replace(operand, refs=lambda i, j: replace(at(i, j), before=True))

    def _operand(self, name: str, value: Any) -> Operand:
        program = self.snapshot.program
        if value is None and self._ahead:
            value = np.full([self.numbers.size(axis) for axis in program.names[name].axes if axis != "T"], _STAND_IN)
        values, label, refs = np.asarray(value), program.writer.name(name), refs_of(program, name)
        match program.names[name].counted:
            case ():
                return Operand(label, values, setting=program.names[name].kind.store is names.Store.SETTINGS, refs=refs)
            case ("row",):
                return Operand(label, values.reshape(-1, 1), "row", refs=refs)
            case (columns,):
                return Operand(label, np.atleast_2d(values), "", columns, refs=refs)
            case (rows, columns):
                kind, record = kind_of(program, name), self.snapshot.record
                picks = tuple(record.ids(name)[self.snapshot.position.t].tolist()) if kind == "onehot" else ()
                return Operand(label, values, rows, columns, kind, picks, refs=refs)
        raise ValueError(name)

    def recorded(self, part: Expression) -> Operand | None:
        """Return a part of the line that was recorded as a whole, such as r⊙h before the product with Uh; None if it was not."""
        program, name = self.snapshot.program, part.label
        if name not in program.factors:
            return None
        rows, columns = program.names[name].counted
        return Operand(program.writer.text(part), self.numbers.recorded(name), rows, columns, kind_of(program, name))

    def term(self, part: Expression) -> Operand:
        """Return a term of the line as one matrix, such as a path of the gradient through time."""
        program = self.snapshot.program
        rows, columns = program.names[self.line.target].counted
        if part.label in program.names:
            return Operand(program.writer.text(part), self.numbers.recorded(part.label), rows, columns)
        axes = self.numbers.axes(part)
        with np.errstate(all="ignore"):
            values = np.atleast_2d(self.numbers.value(part, (EVERY,) * len(axes)))
        return Operand(program.writer.text(part), values, rows if len(axes) > 1 else "", columns)

    @property
    def body(self) -> Expression | None:
        """The formula without the function that is applied to it: the sum of z, r and h̃."""
        formula = self.line.formula
        return formula.argument if isinstance(formula, Apply) and len(formula.parts) == 1 else formula

    def entry(self, row: int | None, pointed: Ref | None = None) -> ExampleEntry:
        """Return the computation of an entry in this row of the batch (0-based; None: none is singled out, and it is the first)."""
        if (row, pointed) not in self._entries:
            self._entries[row, pointed] = ExampleEntry(self, row or 0, pointed, row)
        return self._entries[row, pointed]

    def heads(self, row: int | None) -> tuple[TermHead, ...]:
        """Return the word and the share of each term of a sum of matrices, by their norms, of one row or of all rows of the batch.

        Empty for other lines.
        """
        body, in_time = self.body, self.line.phase in ("forward", "backward")
        if not isinstance(body, e.Sum) or not in_time or not self.numbers.axes(body):
            return ()
        if row not in self._heads:
            words = enumerate(_words(self.snapshot.program, self.line, body, bool(self.vocabulary)))
            self._heads[row] = tuple(TermHead(word, path, partial(self._share, row, i)) for i, (word, path) in words)
        return self._heads[row]

    def _share(self, row: int | None, i: int) -> float | None:
        """Return the share of a term; None if all are 0, or one is not finite."""
        if row not in self._shares and isinstance(self.body, e.Sum):
            norms = [self._norm(part, self.body, row) for part in self.body.parts]
            total = sum(norms)
            self._shares[row] = [norm / total if 0 < total < np.inf else None for norm in norms]
        return self._shares[row][i]

    def _norm(self, part: Expression, body: Expression, row: int | None) -> float:
        """Return the Euclidean norm of a term, which counts once for each entry of the sum along an axis that the term lacks."""
        axes, all_axes = self.numbers.axes(part), self.numbers.axes(body)
        with np.errstate(all="ignore"):
            values = self.numbers.value(part, (EVERY,) * len(axes))
            if row is not None and "B" in axes:
                values = np.take(values, [row], axes.index("B"))
            norm = math.sqrt(float(np.square(values, dtype=np.float64).sum()))
        copies = math.prod(self.numbers.size(axis) for axis in all_axes if axis not in axes and (row is None or axis != "B"))
        return norm * math.sqrt(copies)

    @property
    def activation(self) -> Operand | None:
        """The argument of the line's function: az, ar or ah; None for other lines."""
        formula = self.line.formula
        name = formula.argument.label if isinstance(formula, Apply) else ""
        return self.read(name) if name else None

    @property
    def before(self) -> Operand | None:
        """The target of += or −= before the line was executed; None for = and for the first summand of a gradient."""
        target = self.line.target
        if self._ahead and self.line.op != "=":
            return self._operand(target, None)
        if self.line.op == "+=":
            sofar = self.snapshot.gradient_before(target.removeprefix("d"))
            return None if sofar is None else replace(self._operand(target, sofar), refs=None)
        if self.line.op == "-=":
            return replace(self._operand(target, self.snapshot.record.before[target]), refs=None)
        return None

    @property
    def step(self) -> Array | None:
        """The change of a parameter by an update; None for other lines."""
        if self.line.op != "-=":
            return None
        step = self.snapshot.last_step(self.line.target)
        return None if step is None else np.atleast_2d(step)

    @cached_property
    def result(self) -> Operand:
        """The result of the line."""
        target = self.line.target
        return self._operand(target, self.snapshot.value(target))

    def input_index(self, row: int) -> int:
        """Return the index of the input character of this batch row; 0 if the input is no character."""
        return self._index(self.snapshot.program.input, row)

    def target(self, row: int) -> int:
        """Return the index of the target character of this batch row; 0 if the target is no character."""
        return self._index(self.snapshot.program.target, row)

    def _index(self, name: str, row: int) -> int:
        if not name or kind_of(self.snapshot.program, name) != "onehot":
            return 0
        return int(self.snapshot.record.ids(name)[self.snapshot.position.t, row])

    @property
    def vocabulary(self) -> Text:
        return self.snapshot.corpus.vocabulary


class TermHead(NamedTuple):
    """What stands above a term of a sum: a word, the number of its path if it has a colour, and what returns its share of all."""

    word: str
    path: int | None
    share: Callable[[], float | None]

    def ink(self, palette: Palette, other: Style) -> Style:
        """Return the style of the path, or another for a term that is no path."""
        return other if self.path is None else palette.path(self.path)


@lru_cache(maxsize=256)
def _words(program: Program, line: ProgramLine, body: e.Sum, letters: bool) -> Sequence[tuple[str, int | None]]:
    """Return a word for each term, and the number of its path if the terms are the paths of the gradient through time."""
    page = program.model.page
    passed_on = next((state for state in page.states if line.target == f"d{page.before(state)}"), "")
    if passed_on:
        from tui_gru.analysis.influence import paths_of  # not loaded by a step forward

        if len(paths := paths_of(program, passed_on)) == len(body.parts):
            return [(word, i) for i, (_, word) in enumerate(paths)]
    words = [_word(program, part, letters) for part in body.parts]
    if "from later" in words:
        words = [word or "from here" for word in words]
    return [(word, None) for word in words]


def _word(program: Program, term: Expression, letters: bool) -> str:
    """Return a word for a term: what is read by the matrix of a product, or the last factor of an elementwise product."""
    page = program.model.page
    match term:
        case e.Negative(argument=argument):
            return _word(program, argument, letters)
        case e.Product(left=left):
            return _word(program, left, letters)
        case e.Times(parts=parts):
            return _word(program, parts[-1], letters)
        case Name(name=name) if name in program.parameters:
            return "bias" if len(program.names[name].axes) == 1 else ""
        case Name(name=name) if name in page.inputs:
            return "letter" if page.inputs[name].one_hot and letters else "input"
        case Name(name=name):
            for state, declared in page.states.items():
                if name == page.before(state):
                    return "state after" if declared.backwards else "state before"
                if name == page.received(state):
                    return "from later"
            if name in page.states:
                return "state"  # as the gates say; the label of its line is that of the path `carry` of the gradient
            return next((line.label for line in page.lines if line.target == name), "")
    return ""


# ------------------------------------------------------------------------------
# One entry of the result of a line, computed with recorded numbers: `z[…]: 0.1·0.2 + … = 0.3`.


#: Sums of more terms than this are abbreviated to the first and the last term.
LONGEST = 4


def shown_number(x: Any) -> str:
    """Format a recorded number: four decimals as in the matrices unless it is whole, with a minus sign but no plus sign."""
    if float(x).is_integer() and abs(x) < 1000:
        return f"{x:.0f}".removeprefix("-" if x == 0 else "").replace("-", "−")
    return numbers.plain(x).replace("-", "−")


@dataclass(frozen=True)
class ExampleEntry:
    """An entry of the result of a line: in row `row` of the batch, at the first unit or at the target; or the one to which
    `pointed` belongs, a number that the line reads or computes."""

    operands: Operands
    row: int
    pointed: Ref | None = None
    single: int | None = None  # the row of the batch that is singled out
    at: tuple[int, int] | None = None  # the place, if it is given

    def others(self, palette: Palette, width: int, count: int) -> Iterator[Box]:
        """Yield the computations of the entries after this one, and then of those before it, at most `count`: a line each, quiet,
        until one needs more than a line at this width. Those that are 0, as in a product with a one-hot target, are left out."""
        if self.operands.result.is_number:
            return
        values = self.operands.result.values
        position, columns = self.place[0] * values.shape[1] + self.place[1], values.shape[1]
        others = [k % values.size for k in range(position + 1, position + values.size) if values.flat[k % values.size] != 0]
        for k in others[: max(count, 0)]:
            place = divmod(k, columns)
            entry = replace(self, row=place[0] if self.operands.result.rows == "row" else self.row, at=place)
            if (box := entry.box(palette, width, brief=True, placed=True)).height > 1:
                return
            yield quieted(palette, box)
        if len(others) < min(count, values.size - 1):
            yield text_box(palette, "every other entry is 0", palette.dim)

    def pieces(self, palette: Palette, *, brief: bool = False, placed: bool = False) -> list[tuple[str, Style]]:
        """Return the text in styled pieces; lines may be broken between them. With `brief`, only the terms and the result, with
        `placed` also the place of the entry."""
        operands, line = self.operands, self.operands.line
        result, activation = operands.result, operands.activation
        i, j = self.place
        where = ", ".join(index_in_words(axis, at, operands.vocabulary) for axis, at in self._axes)
        pieces = [(f"{where}:", palette.dim)] if (placed or not brief) and where else []
        pieces += ((term, palette.plain if head is None else head.ink(palette, palette.plain)) for term, head in self._terms)
        value = shown_number(result.values if result.is_number else result.values[i, j])
        if activation is None:
            pieces.append((f"= {value}", palette.accent))
        else:
            assert isinstance(line.formula, Apply)
            pieces.append((f"= {shown_number(activation.values[i, j])}", palette.plain))
            pieces.append((f"  {FUNCTIONS[line.formula.function].text} → {value}", palette.accent))
        if brief:
            return pieces
        if (step := operands.step) is not None:
            pieces.append((f"  a step of {shown_number(step[i, j])}", palette.dim))
        if word := self._pick():
            pieces.append((f"  {word}", palette.dim))
        return pieces

    def box(self, palette: Palette, width: int, *, brief: bool = False, placed: bool = False) -> Box:
        """Return the pieces in as many lines as they need at this width."""
        lines: list[list[Segment]] = [[]]
        used = 0
        for content, style in self.pieces(palette, brief=brief, placed=placed):
            piece = transliterate(content, palette.glyphs)
            for part in [piece] if cell_len(piece) + 2 <= width else piece.split():
                if lines[-1] and used + 1 + cell_len(part) > width:
                    lines.append([Segment(" ")])
                    used, part = 1, part.lstrip()
                written = f" {part}" if lines[-1] else part
                lines[-1].append(Segment(written, style))
                used += cell_len(written)
        return from_rows(lines)

    @property
    def _numbers(self) -> MomentNumbers:
        return self.operands.numbers

    # The index of the entry

    @property
    def index(self) -> tuple[int, ...]:
        """The index of the entry in the array of the result, which has no axis for rows or columns if there is only one."""
        return tuple(at for _, at in self._axes)

    @property
    def place(self) -> tuple[int, int]:
        """The row and the column of the entry in the result as it is drawn."""
        if self.at is not None:
            return self.at
        result, input_index, target = self.operands.result, self.operands.input_index(self.row), self.operands.target(self.row)
        place = {"row": self.row, "character": input_index}.get(result.rows, 0), target if result.columns == "character" else 0
        return place if self.pointed is None else self._place_of(self.pointed, place)

    def _place_of(self, ref: Ref, place: tuple[int, int]) -> tuple[int, int]:
        """Return the place of the entry that has the row or unit of a number; `place` where the number has none."""
        line, result, program = self.operands.line, self.operands.result, self.operands.snapshot.program
        if ref.name not in (*line.reads, line.target) or ref.name not in program.names:
            return place  # the cursor was moved to it in another line
        by_axis = list(zip(program.names[ref.name].counted, ref.index, strict=False))
        formula = () if line.formula is None else line.formula.walk()
        turned = any(isinstance(node, e.Transpose) and node.argument == Name(ref.name) for node in formula)
        if result.rows == result.columns and ref.name == line.target:
            return ref.index[0], ref.index[-1]
        at = dict(reversed(by_axis) if turned else by_axis)  # of two axes of units, the one that the result has too
        rows, columns = (at.get(axis, place[i]) for i, axis in enumerate((result.rows, result.columns)))
        return rows, columns

    @property
    def _axes(self) -> list[tuple[str, int]]:
        result = self.operands.result
        return [(axis, at) for axis, at in zip((result.rows, result.columns), self.place, strict=True) if axis]

    def _pick(self) -> str:
        program, line = self.operands.snapshot.program, self.operands.line
        if line.target == program.loss_names.row and program.model.is_cross_entropy:
            return f"only the target {shown_char(self.operands.vocabulary[self.operands.target(self.row)])} counts"
        picked = ""  # the matrix of this line from which a one-hot input picks a row
        for node in () if line.formula is None else line.formula.walk():
            match node:
                case e.Product(left=Name(name=read), right=Name(name=matrix)) if self._numbers.is_one_hot(read):
                    picked = picked or matrix
        if not picked:
            return ""
        pick = self.operands.input_index(self.row)
        if not self.operands.vocabulary:
            return f"token {pick} picks row {pick + 1} of {program.writer.name(picked)}"
        char = self.operands.vocabulary[pick]
        kind = "letter" if char.isalpha() else "character"
        return f"the {kind} {shown_char(char)} picks row {pick + 1} of {program.writer.name(picked)}"

    # The terms of the entry

    @cached_property
    def _terms(self) -> list[tuple[str, TermHead | None]]:
        """The summands with their signs, each with the head of the term of the line that it is of, None without heads."""
        operands, line = self.operands, self.operands.line
        assert line.formula is not None
        before, (i, j) = operands.before, self.place
        formula = line.formula.argument if operands.activation is not None and isinstance(line.formula, Apply) else line.formula
        heads: Sequence[TermHead | None] = ()
        if isinstance(formula, e.Sum) and (of_terms := operands.heads(self.single)):
            made = terms_of(formula, self.index, self._numbers)
            summands = [self.summands(made.term(k)[0]) for k in range(len(of_terms))]
            terms = [term for group in summands for term in group]
            heads = [head for head, group in zip(of_terms, summands, strict=True) for _ in group]
        else:
            terms = self.summands(Factor(formula, self.index))
            heads = [None] * len(terms)
        if line.op == "+=":
            terms, heads = [shown_number(before.values[i, j]) if before is not None else "0", *terms], [None, *heads]
        if line.op == "-=" and before is not None:
            terms, heads = [shown_number(before.values[i, j]), *map(_negated, terms)], [None, *heads]
        return list(zip(signed_sum(terms), heads, strict=True))

    def summands(self, part: Factor) -> list[str]:
        """Return the summands of an entry; a name or a number is its own single summand."""
        node = part.formula
        if isinstance(node, Name | e.Number | e.Size):
            return self._signed(part, [self._factor(part)])
        made = terms_of(node, part.at, self._numbers)
        match made.kind:
            case "product":
                terms = ["·".join(self._factor(made.term(k)[0]) for k in range(made.size))]
            case "quotient":
                dividend, divisor = (self._factor(made.term(k)[0]) for k in range(2))
                terms = [f"{dividend} / {divisor if _is_whole(divisor) else f'({divisor})'}"]
            case "power":
                base, exponent = (self._factor(made.term(k)[0]) for k in range(2))
                terms = [f"{base if _is_whole(base) else f'({base})'}^{exponent}"]
            case "min" | "max":
                terms = [f"{made.kind}({', '.join(self._factor(made.term(k)[0]) for k in range(2))})"]
            case "softmax":
                terms = [f"e^{self._factor(made.term(part.at[-1])[0])} / ({' + '.join(self._sum_terms(made, 'e^'))})"]
            case "sum" if made.over:
                terms = self._sum_terms(made) or ["0"]
            case "sum":
                terms = [summand for k in range(made.size) for summand in self.summands(made.term(k)[0])]
            case "copy":
                terms = [self._factor(made.term(0)[0])]
            case function:
                inside = " ".join(signed_sum([summand for k in range(made.size) for summand in self.summands(made.term(k)[0])]))
                terms = [f"{FUNCTIONS[function].text} {inside}" if _is_number(inside) else f"{FUNCTIONS[function].text}({inside})"]
        if abs(made.scale) not in (0.0, 1.0):
            terms = [f"{'−' if made.scale < 0 else ''}({' '.join(signed_sum(terms))}) / {made.size}"]
        elif made.scale < 0:
            terms = [_negated(term) for term in terms]
        return self._signed(part, terms)

    def _signed(self, part: Factor, terms: list[str]) -> list[str]:
        return terms if part.sign > 0 else [_negated(term) for term in terms]

    def _sum_terms(self, made: Terms, before: str = "") -> list[str]:
        """Return the terms of a sum over an axis, abbreviated if there are many; over the vocabulary only those that are not 0."""
        chosen: Sequence[int] = range(made.size)
        if made.over == "the vocabulary" and made.kind == "sum" and made.size > LONGEST:
            chosen = [k for k in chosen if self._value(made.term(k)[0]) != 0]
        count = len(chosen)
        shown = chosen if count <= LONGEST else (chosen[0], chosen[-1])
        terms = ["·".join(f"{before}{self._factor(part)}" for part in made.term(k)) for k in shown]
        return terms if count <= LONGEST else [terms[0], f"… {count} terms …", terms[1]]

    def _factor(self, part: Factor) -> str:
        """Return an entry as a factor: one number, or an expression in parentheses."""
        node = part.formula
        match node:
            case e.Transpose(argument=argument):
                return self._factor(part._replace(formula=argument, at=part.at[::-1]))
            case Name(name=name) if name in self.operands.snapshot.program.model.rule.settings:
                return numbers.significant(self._value(part)).replace("-", "−")
            case e.Number(value=value):
                return decimal(value)
            case Name() | e.Size():
                return shown_number(self._value(part))
            case Apply(argument=Name()):
                pass  # a function of one number is written as a function: log 0.1317
            case e.Times() | Apply() if node.label:
                return shown_number(self._value(part))
        terms = self.summands(part)
        return terms[0] if len(terms) == 1 and not isinstance(node, e.Sum) else f"({' '.join(signed_sum(terms))})"

    def _value(self, part: Factor) -> float:
        """Return the recorded value of an entry."""
        if isinstance(part.formula, Name) and not part.formula.label:
            return self._numbers.entry(part.formula.name, part.at, part.t)
        return float(self._numbers.value(part.formula, part.at))


def _is_number(term: str) -> bool:
    """True if a term is one number that is not negative."""
    return re.fullmatch(r"[\d.]+(?:e−?\d+)?", term) is not None


def _is_whole(term: str) -> bool:
    """True if a term needs no parentheses as a divisor or a base: one number, or an expression in parentheses."""
    return _is_number(term) or re.fullmatch(r"\w*\([^()]*\)", term) is not None


def _negated(term: str) -> str:
    return term[1:] if term.startswith("−") else f"−{term}"


# ------------------------------------------------------------------------------
# One entry of a long sum as a waterfall: its largest terms, what the others add up to, and how far the sum has come after each.


#: A sum along an axis of more terms is drawn as a waterfall; the least of its terms that are drawn, and the least width of a bar.
_MANY, _FEWEST, _BAR = 8, 2, 8
#: The cells of the entry in every row of the batch, beside the waterfall, and those of its bars.
_BESIDE, _ROW_BAR = 38, 12


class Summand(NamedTuple):
    """A summand of an entry: `values` (n,) are its terms, float64, in the order of its axis if there are several.

    `word` says what it is, `factors` returns the numbers whose product a term is. `counted` is what the axis counts.
    """

    values: Array
    word: str
    factors: Callable[[int], SegmentRow]
    counted: str = ""

    def named(self, terms: str) -> str:
        """Return the name of some of its terms: `unit 3 state`, but not `input 6 input`."""
        return terms if self.word == self.counted else f"{terms} {self.word}"


class Waterfall:
    """Draws the entry that an `ExampleEntry` works out as a waterfall, for a line that has a sum along an axis."""

    def __init__(self, palette: Palette, entry: ExampleEntry) -> None:
        self._palette, self._entry, self.operands = palette, entry, entry.operands
        self._numbers, self._program = entry.operands.numbers, entry.operands.snapshot.program

    @cached_property
    def summands(self) -> list[Summand]:
        """The summands; empty if none is a long sum."""
        body, index, operands = self.operands.body, self._entry.index, self.operands
        if body is None or operands.line.op != "=" or len(index) != 2 or isinstance(operands.line.formula, e.Reduce):
            return []
        parts = body.parts if isinstance(body, e.Sum) else (body,)
        if not any(isinstance(part, e.Product) for part in parts) or any(isinstance(part, Apply) for part in parts):
            return []
        heads = operands.heads(self._entry.single)
        words = [head.word for head in heads] if heads else [""] * len(parts)
        sums = [self._summand(signed(part, body, index, self._numbers), word) for part, word in zip(parts, words, strict=True)]
        return sums if max(len(summand.values) for summand in sums) > _MANY else []

    def _summand(self, part: Factor, word: str) -> Summand:
        palette, numbers_of, (i, j) = self._palette, self._numbers, self._entry.index
        vocabulary, plain = self.operands.vocabulary, palette.dim
        match part.formula:
            case e.Product(left=Name(name=read), right=Name(name=weight)) if numbers_of.is_one_hot(read):
                pick = int(numbers_of.read(read)[i].argmax())
                value = part.sign * numbers_of.entry(weight, (pick, j))
                char = vocabulary[pick] if vocabulary else str(pick)
                letter = "letter" if char.isalpha() else "character" if vocabulary else "token"
                spelled = spoken(self._program, weight, (pick, j))
                refs = self.operands.read(weight).refs
                cell = Cell.of(transliterate(spelled, palette.glyphs), plain, None if refs is None else refs(pick, j))
                return Summand(np.array([value]), f"the {letter} {written_char(char, palette.glyphs)}", lambda _: (cell,))
            case e.Product(left=left, right=right):
                lefts = np.asarray(numbers_of.value(left, (i, EVERY)), np.float64)
                rights = np.asarray(numbers_of.value(right, (EVERY, j)), np.float64)
                of_left, of_right = self._operand(left), self._operand(right)
                counted = of_right.rows if of_right is not None else "unit"
                short = {"state before": "before", "state after": "after"}.get(word, word)

                def factors(k: int) -> SegmentRow:
                    cells = ((of_left, lefts[k], (i, k)), (of_right, rights[k], (k, j)))
                    first, second = (
                        Cell.of(
                            transliterate(shown_number(x), palette.glyphs),
                            plain,
                            None if of is None or of.refs is None else of.refs(*at),
                        )
                        for of, x, at in cells
                    )
                    return first, Segment(operator("·", palette.glyphs), plain), second

                return Summand(part.sign * lefts * rights, short, factors, counted)
        value = float(numbers_of.value(part.formula, part.at))
        made = " ".join(signed_sum(self._entry.summands(part))) if not isinstance(part.formula, Name) else ""
        match part.formula:
            case Name(name=name) if name in self._program.names:
                made = spoken(self._program, name, part.at)
        operand = self._operand(part.formula)
        at = (*([0] * (2 - len(part.at))), *part.at)
        ref = None if operand is None or operand.refs is None else operand.refs(at[0], at[1])
        cell = Cell.of(transliterate(made, palette.glyphs), plain, ref)
        return Summand(np.array([part.sign * value]), word or made, lambda _: (cell,))

    def _operand(self, node: Expression) -> Operand | None:
        """Return the operand that a factor is, None for an expression."""
        match node:
            case Name(name=name) if name in self._program.names:
                return self.operands.read(name)
            case e.Transpose(argument=Name(name=name)):
                return self.operands.read(name).T
        return None

    def box(self, width: int, height: int) -> Box | None:
        """Draw the waterfall in this size; None if the line has no long sum, or there is no room."""
        palette, operands, entry = self._palette, self.operands, self._entry
        long = [summand for summand in self.summands if len(summand.values) > 1]
        activation, fixed = operands.activation, len(self.summands) + (1 if operands.activation is None else 2)
        count = height - fixed
        if not long or count < _FEWEST:
            return None
        i, j = entry.index
        values = np.concatenate([summand.values for summand in long])
        sizes = np.where(np.isfinite(values), np.abs(values), np.inf)
        chosen = set(np.argsort(-sizes, kind="stable")[:count].tolist())
        terms, first = list[tuple[str, SegmentRow, float]](), 0
        for summand in self.summands:
            if len(summand.values) == 1:
                terms.append((summand.word, summand.factors(0), float(summand.values[0])))
                continue
            largest = sorted((k for k in range(len(summand.values)) if first + k in chosen), key=lambda k: -sizes[first + k])
            words = (index_in_words(summand.counted, k, operands.vocabulary) for k in largest)
            terms += [
                (summand.named(name), summand.factors(k), float(summand.values[k])) for name, k in zip(words, largest, strict=True)
            ]
            if rest := len(summand.values) - len(largest):
                name = f"{rest} {'other ' if largest else ''}{summand.counted}{'' if rest == 1 else 's'}"
                name = summand.named(name) if len(long) > 1 else name
                terms.append((name, (Segment("their sum", palette.dim),), float(np.delete(summand.values, largest).sum())))
            first += len(summand.values)
        scale = scale_of(np.array([value for *_, value in terms]))

        total = float(activation.values[i, j]) if activation is not None else float(operands.result.values[i, j])
        ends = np.cumsum([value for *_, value in terms])
        rows = [
            [styled_row(palette, transliterate(name.rstrip(), palette.glyphs)), factors, self._value(value, scale)]
            for name, factors, value in terms
        ]
        target, result = operands.line.target, operands.result
        written = transliterate(spoken(self._program, target, entry.index), palette.glyphs)
        cell = Cell.of(
            ENTRIES[result.kind, False].write(float(result.values[i, j])).rjust(numbers.WIDE), palette.accent, self._ref(i)
        )
        made = ""
        if activation is not None and isinstance(operands.line.formula, Apply):
            function = FUNCTIONS[operands.line.formula.function].text
            gets = transliterate(f"what {function} gets", palette.glyphs)
            rows.append(
                [styled_row(palette, ("sum", palette.strong)), styled_row(palette, (gets, palette.dim)), self._value(total, scale)]
            )
            made = transliterate(f"{function}({shown_number(total)})", palette.glyphs)
        rows.append([styled_row(palette, (written, palette.accent)), styled_row(palette, (made, palette.dim)), (cell,)])

        columns = (TableColumn(gap=0, size=14), TableColumn(right=True), TableColumn(right=True))
        drawn = from_rows(table(palette, rows, columns, width))
        if drawn.width > width:
            return None
        siblings = self.every_row(width - drawn.width - 2 - _BAR, height)
        room = width - drawn.width - 2 - (0 if siblings is None else _BESIDE)
        if room >= _BAR:
            drawn = hstack(drawn, from_rows(self._steps(ends, room, len(rows))), gap=2)
        return drawn if siblings is None else hstack(drawn, siblings, gap=2)

    @property
    def place(self) -> tuple[int, int]:
        """The row and the column of the entry in the result as it is drawn."""
        return self._entry.place

    def _value(self, value: float, scale: float) -> SegmentRow:
        return (Segment(numbers.wide(value).rjust(numbers.WIDE), entry_style(self._palette, "signed", value, scale)),)

    def _ref(self, i: int) -> Ref | None:
        refs = self.operands.result.refs
        return None if refs is None else refs(i, self._entry.index[1])

    def _steps(self, ends: Array, room: int, count: int) -> Iterator[SegmentRow]:
        """Yield a row for each term with a bar from the sum before it to the sum after it, and one that marks the whole sum."""
        palette = self._palette
        begins = np.concatenate([[0.0], ends[:-1]])
        finite = ends[np.isfinite(ends)]
        low, high = float(finite.min(initial=0.0)), float(finite.max(initial=0.0))
        places = (room - 1) / ((high - low) or 1.0)
        zero = round((0.0 - low) * places)
        glyphs = palette.glyphs
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            row = CellRow(room)
            row.put(zero, glyphs.vertical_ellipsis, palette.dim)
            if math.isfinite(begin) and math.isfinite(end):
                start, stop = sorted((round((begin - low) * places), round((end - low) * places)))
                ink = palette.positive if end >= begin else palette.negative
                row.put(start, glyphs.bar[-1] * max(stop - start, 1), ink)
            yield tuple(row.strip())
        if len(ends) < count and np.isfinite(ends[-1:]).all():
            row = CellRow(room)
            row.put(round((ends[-1] - low) * places), glyphs.here, palette.plain)
            yield tuple(row.strip())

    def every_row(self, width: int, height: int) -> Box | None:
        """Draw the entry of the same column in every row of the batch, with what the row reads; None without room or rows."""
        if self.operands.result.rows != "row" or width < _BESIDE:
            return None
        return from_rows(self._every_row(height))

    def _every_row(self, height: int) -> Iterator[SegmentRow]:
        palette, operands, (i, j) = self._palette, self.operands, self.place
        result, vocabulary = operands.result, operands.vocabulary
        column = result.values[:, j]
        entry, scale = ENTRIES[result.kind, False], 1.0 if result.kind == "unit" else scale_of(column)
        yield styled_row(palette, (f"{index_in_words(result.columns, j, vocabulary)} in every row", palette.dim))
        letters = bool(vocabulary) and kind_of(self._program, self._program.input) == "onehot"
        for k in shown_indices(len(column), max(height - 1, 1), i):
            if k is None:
                yield (Segment(palette.glyphs.vertical_ellipsis, palette.dim),)
                continue
            value, ink = float(column[k]), palette.strong if k == i else palette.plain
            char = written_char(vocabulary[operands.input_index(k)], palette.glyphs) if letters else ""
            style = entry_style(palette, result.kind, value, scale)
            tone = palette.gate if result.kind == "unit" else palette.positive if value >= 0 else palette.negative
            yield (
                *styled_row(palette, (f"row {k + 1}".ljust(7), ink), (f"{char:<3}" if letters else "", ink)),
                Cell.of(entry.write(value), palette.fresh(style), self._ref(k)),
                Segment("  "),
                Segment(bar(palette, abs(value) / scale, _ROW_BAR), tone),
            )
