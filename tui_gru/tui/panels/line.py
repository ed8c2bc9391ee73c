"""The current line, written with its matrices and with one entry worked out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cache, cached_property, partial
from itertools import pairwise, product
from textwrap import fill
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from textual.content import Content

from tui_gru.debugger.program import Program, ProgramLine, index_in_words
from tui_gru.engine import numbers
from tui_gru.engine.config import TUTORIAL_TEXT, Config, Text
from tui_gru.engine.source import Ability
from tui_gru.equations import syntax as e
from tui_gru.equations.functions import FUNCTIONS
from tui_gru.equations.syntax import Apply, Expression, Name
from tui_gru.equations.writing import binds, decimal
from tui_gru.session.snapshot import Snapshot, View
from tui_gru.tui.draw import (
    EMPTY,
    Box,
    Cell,
    Ref,
    SegmentRow,
    TableColumn,
    bar,
    bracket,
    clip,
    cut_below,
    explained,
    from_rows,
    hstack,
    pad,
    row_width,
    table,
    text_box,
    vstack,
)
from tui_gru.tui.keys import sign_of_key, with_keys
from tui_gru.tui.panel import BORDER_GAP, CellPanel, Spot, Titles
from tui_gru.tui.theme import Glyphs, Palette, folded, operator, transliterate, widest, written_char
from tui_gru.tui.written import (
    ENTRIES,
    Operand,
    Operands,
    TermHead,
    Waterfall,
    bracketed_matrix,
    cut_sides,
    entry_style,
    named_rows,
    scale_of,
    shown_indices,
    window,
)

# ------------------------------------------------------------------------------
# The tokens of a written line: signs, matrices and brackets, whose sizes are known before drawing.


#: One-hot rows over more characters than this are written as characters.
ONEHOT = 12


class DrawingLimits(NamedTuple):
    """How matrices are drawn: with at most `rows` and `columns` (None: all), short numbers if `compact`, and rows above them.

    These are, from below, the names of the columns (`columns_named`, which also names rows of characters), the names of the
    matrices (`labels`), and the words and shares of the terms (`words`). With `loose`, the line is broken within products and
    differences too.
    """

    columns: int | None = None
    rows: int | None = None
    compact: bool = False
    labels: bool = True
    columns_named: bool = False
    words: bool = False
    loose: bool = False


class Break(IntEnum):
    """Where a line may be broken: nowhere, before factors and minus signs if it is too wide otherwise, or before terms."""

    NEVER, LOOSE, TERM = range(3)


@dataclass(frozen=True)
class OperatorToken:
    """An operator or the name of a function. `breaks` says whether the line may be broken before it."""

    sign: str
    breaks: Break = Break.NEVER
    head: TermHead | None = None

    def size(self, limits: DrawingLimits) -> tuple[int, int]:
        return cell_len(self.sign), 1

    def box(self, palette: Palette, limits: DrawingLimits, row: int | None) -> Box:
        return text_box(palette, self.sign)


@dataclass(frozen=True, eq=False)
class Matrix:
    """An operand. `focus` is the row and the column of the batch row that is singled out.

    `picked` is True for a matrix from which one-hot rows pick rows, `named` for a number that has its name above it.
    """

    operand: Operand
    vocabulary: Text
    fresh: bool = False
    focus: tuple[int | None, int | None] = (None, None)
    picked: bool = False
    breaks: Break = Break.NEVER
    head: TermHead | None = None
    _sizes: dict[DrawingLimits, tuple[int, int]] = field(default_factory=dict, init=False, repr=False)

    def size(self, limits: DrawingLimits) -> tuple[int, int]:
        """Return the width, also of the name above, and the height without the rows above."""
        if limits not in self._sizes:  # each way to draw the line asks for it
            self._sizes[limits] = self._size(limits)
        return self._sizes[limits]

    def _size(self, limits: DrawingLimits) -> tuple[int, int]:
        operand = self.operand
        if operand.is_number:
            return max(len(self._number), cell_len(operand.label) if limits.labels else 0), 1
        rows, columns = operand.values.shape
        note = 1 + len("×".join(map(str, operand.shape)))
        if self._as_characters(limits):
            shown = min(len(operand.picks), _most(limits.rows if operand.rows == "row" else limits.columns))
            cell = widest(self.vocabulary)
            size = (cell, shown) if operand.rows == "row" else (shown * (cell + 1) - 1, 1)
            width, height = size[0] + 2 + note, size[1]
        else:
            height, across = min(rows, _most(limits.rows)), min(columns, _most(limits.columns))
            across_cut = cut_sides(shown_indices(columns, limits.columns, self.focus[1]), columns)
            cut = sum(across_cut) + any(cut_sides(shown_indices(rows, limits.rows, self.focus[0]), rows))
            width = across * (self._entry(limits) + 1) + 1 + cut + (note if height < rows or across < columns else 0)
        width += self._lead(limits)
        return max(width, self._lead(limits) + 1 + cell_len(operand.label)) if limits.labels else width, height

    def box(self, palette: Palette, limits: DrawingLimits, row: int | None) -> Box:
        """Draw the number or the matrix, with the names of its rows but without the rows above."""
        operand = self.operand
        if operand.is_number:
            ink = palette.accent if self.fresh else palette.plain
            return from_rows([(Cell.of(self._number, ink, None if operand.refs is None else operand.refs(0, 0)),)])
        if self._as_characters(limits):
            return self._characters(palette, limits, row)
        box = bracketed_matrix(
            palette,
            operand.values,
            kind="onehot" if self._all_zero else operand.kind,
            shape=operand.shape,
            fresh=self.fresh,
            row=self.focus[0] if row is not None and (operand.rows == "row" or self.picked) else None,
            focus=self.focus,
            compact=limits.compact,
            elide=(limits.rows, limits.columns),
            refs=operand.refs,
        )
        if not self._lead(limits):
            return box
        shown = shown_indices(len(operand.values), limits.rows, self.focus[0])
        names = ["" if i is None else written_char(self.vocabulary[i], palette.glyphs) for i in shown]
        inks = [palette.strong if self.picked and i == self.focus[0] else palette.dim for i in shown]
        lead = [
            (Segment(" " * (widest(self.vocabulary) - cell_len(name))), Segment(name, ink))
            for name, ink in zip(names, inks, strict=True)
        ]
        return hstack(from_rows(lead, box.axis), box, gap=1)

    def above(self, palette: Palette, limits: DrawingLimits, width: int) -> SegmentRow:
        """Return the name, with its shape where both fit into `width`."""
        operand, ink = self.operand, palette.accent if self.fresh else palette.strong
        if operand.is_number:
            return (Segment(operand.label, ink),)
        rows, columns = operand.shape
        shape = f" {rows}{palette.glyphs.by}{columns}" if operand.rows else f" {columns}"
        lead, fits = Segment(" " * (self._lead(limits) + 1)), 1 + cell_len(operand.label) + len(shape) < width
        return (lead, Segment(operand.label, ink), Segment(shape if fits else "", palette.dim))

    def column_names(self, palette: Palette, limits: DrawingLimits) -> SegmentRow:
        """Return the names of the columns, each at the right of its column; empty if the matrix has no columns."""
        operand = self.operand
        if operand.is_number or not operand.columns or self._as_characters(limits):
            return ()
        entry, columns = self._entry(limits), operand.values.shape[1]
        cells, shown = [], shown_indices(columns, limits.columns, self.focus[1])
        for j in shown:
            name = "" if j is None else f"{operand.columns} {j + 1}"
            if operand.columns == "character" and j is not None:
                name = written_char(self.vocabulary[j], palette.glyphs) if self.vocabulary else str(j + 1)
            name = name if cell_len(name) <= entry else str(j + 1 if j is not None else "")
            cells.append(f"{' ' * (entry - cell_len(name))}{name}" if j is not None else " ")
        return (Segment(" " * (self._lead(limits) + cut_sides(shown, columns)[0] + 1)), Segment(" ".join(cells), palette.dim))

    def _lead(self, limits: DrawingLimits) -> int:
        """Return the cells before a matrix whose rows are named by characters."""
        named = limits.columns_named and self.operand.rows == "character" and bool(self.vocabulary)
        return widest(self.vocabulary) + 1 if named and not self._as_characters(limits) else 0

    @cached_property
    def _number(self) -> str:
        if self.operand.setting:
            return numbers.significant(self.operand.values)
        return numbers.plain(self.operand.values)

    @cached_property
    def _all_zero(self) -> bool:
        return not self.operand.values.any()

    def _entry(self, limits: DrawingLimits) -> int:
        return ENTRIES["onehot" if self._all_zero else self.operand.kind, limits.compact].width

    def _as_characters(self, limits: DrawingLimits) -> bool:
        return bool(self.operand.picks) and len(self.vocabulary) > min(ONEHOT, _most(limits.columns))

    def _characters(self, palette: Palette, limits: DrawingLimits, row: int | None) -> Box:
        """Draw one-hot rows as characters, in a column, or in a row if transposed."""
        picks, upright = self.operand.picks, self.operand.rows == "row"
        shown = shown_indices(len(picks), limits.rows if upright else limits.columns, row)
        cells = []
        for i in shown:
            if i is None:
                cells.append(Segment(palette.glyphs.vertical_ellipsis if upright else palette.glyphs.ellipsis, palette.dim))
                continue
            style = palette.dim if row is not None and i != row else palette.strong
            cells.append(Segment(written_char(self.vocabulary[picks[i]], palette.glyphs), style))
        if upright:
            box = from_rows([(cell,) for cell in cells], axis=max(len(cells) - 1, 0) // 2)
        else:
            box = hstack(*(from_rows([(cell,)]) for cell in cells))
        box = bracket(palette, box)
        rows, columns = self.operand.shape
        note = Segment(f" {rows}{palette.glyphs.by}{columns}", palette.dim)
        return from_rows((*box.rows[:-1], (*box.rows[-1], note)), box.axis)


@dataclass(frozen=True, eq=False)
class Bracket:
    """A bracket as tall as the enclosed matrices on its line, `inner` (see `beside`)."""

    inner: tuple[Matrix, ...]
    opening: bool
    suffix: str = ""
    breaks: Break = Break.NEVER
    head: TermHead | None = None

    def size(self, limits: DrawingLimits) -> tuple[int, int]:
        return 1 + len(self.suffix), 1  # the height of a bracket does not count for the line

    def for_tokens(self, tokens: Sequence[object]) -> Bracket:
        """Return the bracket for a line of these tokens, which may not contain its partner."""
        return replace(self, inner=tuple(token for token in self.inner if token in tokens))

    def box(self, palette: Palette, limits: DrawingLimits, row: int | None) -> Box:
        height = max((token.size(limits)[1] for token in self.inner), default=1)
        pair = bracket(palette, from_rows([()] * height, axis=(height - 1) // 2), palette.plain)
        side = 0 if self.opening else 1
        rows = [(line[side], Segment(self.suffix if i == 0 else "", palette.plain)) for i, line in enumerate(pair.rows)]
        return from_rows(rows, pair.axis)


DrawnToken = OperatorToken | Matrix | Bracket


def _most(limit: int | None) -> int:
    return 2**31 if limit is None else limit


# ------------------------------------------------------------------------------
# A line of the program written as matrices: its formula with a matrix for every name, fitted into the given size.
#
# The formula is turned into tokens, whose sizes are known without drawing. The limits under which they fit are computed from the
# sizes, and then only the parts of the matrices that are shown are drawn.


GAP, INDENT = 1, 2


class LineWriter:
    """Turns a line into tokens.

    `fold` writes a part that was recorded as a whole, such as r⊙h, as one matrix. `alone` shows only one row of every matrix that
    has a row per row of the batch, and the row that it picks of a matrix. `terms` writes each term of a sum as one matrix.
    """

    def __init__(
        self,
        operands: Operands,
        row: int | None,
        glyphs: Glyphs,
        *,
        fold: bool = False,
        alone: bool = False,
        terms: bool = False,
    ) -> None:
        self._operands, self._row, self._single, self._glyphs = operands, row or 0, row, glyphs
        self._fold, self._alone, self._terms = fold, alone, terms

    def line(self) -> list[DrawnToken]:
        """Return the right-hand side, an equals sign, and the result; for += and −= with the previous value of the target."""
        key = self._single, self._glyphs, self._fold, self._alone, self._terms
        if key not in self._operands.written:  # each way to draw the line asks for it, at each size
            self._operands.written[key] = self._line()
        return self._operands.written[key]

    def _line(self) -> list[DrawnToken]:
        line, before = self._operands.line, self._operands.before
        assert line.formula is not None
        tokens: list[DrawnToken] = []
        if line.op != "=":
            tokens.append(self._sign("0") if before is None else self._matrix(before))
            tokens.append(self._sign("+" if line.op == "+=" else "−", breaks=Break.TERM))
        tokens += self._tokens(line.formula)
        return [*tokens, self._sign("=", breaks=Break.TERM), replace(self._matrix(self._operands.result), fresh=True)]

    def _sign(self, sign: str, *, breaks: Break = Break.NEVER) -> OperatorToken:
        return OperatorToken(operator(sign, self._glyphs), breaks)

    def _matrix(self, operand: Operand, *, picked: bool = False) -> Matrix:
        character, target = self._operands.input_index(self._row), self._operands.target(self._row)
        row = {"row": self._row, "character": character}.get(operand.rows)
        column = {"row": self._row, "character": target}.get(operand.columns)
        if self._alone and (picked or operand.rows == "row"):
            operand, row = operand.only_row(character if picked else self._row), 0
        operand = replace(operand, label=transliterate(operand.label, self._glyphs))
        return Matrix(operand, self._operands.vocabulary, focus=(row, column), picked=picked)

    def _tokens(self, node: Expression) -> Iterator[DrawnToken]:
        recorded = self._operands.recorded(node) if self._fold else None
        if recorded is not None:
            yield self._matrix(recorded)
            return
        match node:
            case Name(name=name):
                yield self._matrix(self._operands.read(name))
            case e.Number(value=value):
                yield self._sign(decimal(value))
            case e.Size():
                yield self._sign(f"{self._operands.numbers.value(node, ()):.0f}")
            case e.Transpose(argument=Name(name=name)):
                yield self._matrix(self._operands.read(name).T)
            case e.Transpose(argument=argument):
                yield from self._fenced(argument, operator("ᵀ", self._glyphs))
            case e.Spread(argument=argument):
                yield from self._tokens(argument)
            case e.Apply(function=function, parts=parts):
                yield self._sign(FUNCTIONS[function].text)
                if len(parts) == 1:
                    yield from self._inside(parts[0], 4)
                else:
                    yield from self._listed(parts, "(", ")")
            case e.Reduce(kind=kind, argument=argument):
                yield self._sign("Σ" if kind == "sum" else "mean")
                yield from self._inside(argument, 4)
            case e.Negative(argument=argument):
                first, *rest = self._inside(argument, 2)
                yield replace(first, sign=f"−{first.sign}") if isinstance(first, OperatorToken) else self._sign("−")
                yield from rest if isinstance(first, OperatorToken) else (first, *rest)
            case e.Sum(parts=parts):
                heads = self._operands.heads(self._single) if node is self._operands.body else ()
                for i, part in enumerate(parts):
                    minus = i > 0 and isinstance(part, e.Negative) and not part.label
                    if i:
                        yield self._sign("−" if minus else "+", breaks=Break.LOOSE if minus else Break.TERM)
                    inside: Iterator[DrawnToken]
                    inside = self._inside(part.argument, 2) if isinstance(part, e.Negative) and minus else self._inside(part, 1)
                    if heads and (self._terms or (self._fold and heads[i].path is not None)):
                        inside = iter(
                            [self._matrix(self._operands.term(part.argument if isinstance(part, e.Negative) and minus else part))]
                        )
                    first, *rest = inside
                    yield replace(first, head=heads[i]) if heads else first
                    yield from rest
            case e.Product(left=Name(name=read), right=Name(name=name)) if self._operands.numbers.is_one_hot(read):
                yield self._matrix(self._operands.read(read))
                yield replace(self._matrix(self._operands.read(name), picked=True), breaks=Break.LOOSE)
            case e.Product(left=left, right=right):
                yield from self._inside(left, 2 if isinstance(left, e.Product) else 3)
                first, *rest = self._inside(right, 3)
                yield replace(first, breaks=Break.LOOSE)
                yield from rest
            case e.Times(parts=(first_part, *parts)):
                yield from self._inside(first_part, 2)
                number = self._is_number(first_part)
                for part in parts:
                    yield self._sign("·" if number else "⊙", breaks=Break.LOOSE)
                    yield from self._inside(part, 2)
                    number = self._is_number(part)
            case e.Quotient(left=left, right=right):
                yield from self._inside(left, 2)
                yield self._sign("/")
                yield from self._inside(right, 4)
            case e.Power(left=left, right=right):
                yield from self._inside(left, 4)
                yield self._sign("^")
                yield from self._inside(right, 4)
            case e.Join(parts=parts):
                yield from self._listed(parts, "[", "]")
            case e.Slice(argument=argument, before=before, axes=axes):
                yield from self._inside(argument, 4)
                yield self._sign(f"[{'+'.join(before) or '0'}:{'+'.join((*before, *axes))}]")

    def _listed(self, parts: Sequence[Expression], opening: str, closing: str) -> Iterator[DrawnToken]:
        yield self._sign(opening)
        for index, part in enumerate(parts):
            if index:
                yield self._sign(",")
            yield from self._tokens(part)
        yield self._sign(closing)

    def _is_number(self, node: Expression) -> bool:
        return self._operands.numbers.axes(node) == ()

    def _inside(self, node: Expression, tightness: int) -> Iterator[DrawnToken]:
        is_folded = self._fold and self._operands.recorded(node) is not None
        return self._tokens(node) if is_folded or binds(node) >= tightness else self._fenced(node)

    def _fenced(self, node: Expression, suffix: str = "") -> Iterator[DrawnToken]:
        tokens = list(self._tokens(node))
        inner = tuple(token for token in tokens if isinstance(token, Matrix))
        yield Bracket(inner, opening=True)
        yield from tokens
        yield Bracket(inner, opening=False, suffix=suffix)


#: The numbers of columns of matrices that do not fit, best first, and whether numbers are short.
_ELIDED = ((8, False), (6, False), (4, False), (3, False), (2, False), (2, True))


def fitted(tokens: Sequence[DrawnToken], width: int, height: int, limits: DrawingLimits) -> DrawingLimits | None:
    """Return the limits if the line fits into the size within them, otherwise None."""
    lines = _lines(tokens, limits, width)
    return limits if lines and sum(_height_of(line, limits) for line in lines) <= height else None


def elided(tokens: Sequence[DrawnToken], width: int, height: int, *, fewest: int = 2) -> DrawingLimits | None:
    """Return limits under which the whole line fits with parts of its matrices, None if it does not fit with `fewest` rows of them.

    Columns are dropped before the names above the matrices, which are more useful than another column of a large matrix, but not
    than its only row.
    """
    heights = [len(token.operand.values) for token in tokens if isinstance(token, Matrix) and not token.operand.is_number]
    tallest = max(heights, default=1)
    for labels, (columns, compact) in product((True, False) if fewest > 1 else (False,), _ELIDED):
        limits = DrawingLimits(columns, None, compact, labels, loose=fewest == 1)
        counts = range(min(height - labels, tallest), min(fewest, tallest) - 1, -1)
        if any(_lines(tokens, limits._replace(rows=rows), width) for rows in (*counts[:1], *counts[1:][-1:])):
            chosen = (fitted(tokens, width, height, limits._replace(rows=rows)) for rows in counts)
            if (fitting := next(filter(None, chosen), None)) is not None:
                return fitting
    return None


def widest_piece(tokens: Sequence[DrawnToken], limits: DrawingLimits) -> int:
    """Return the width of the widest unbreakable piece, with the indent of later lines, in cells."""
    pieces: list[int] = [INDENT]
    for token in tokens:
        if token.breaks is Break.TERM:
            pieces.append(INDENT)
        pieces[-1] += token.size(limits)[0] + GAP
    return max(pieces)


class SizedToken(NamedTuple):
    """A token in a line, with its size and the cells before it."""

    token: DrawnToken
    width: int
    height: int
    gap: int


def _height_of(line: Sequence[SizedToken], limits: DrawingLimits) -> int:
    """Return the height of a line with the rows above its matrices."""
    words = limits.words and any(sized.token.head for sized in line)
    matrices = any(isinstance(sized.token, Matrix) and not sized.token.operand.is_number for sized in line)
    return max(sized.height for sized in line) + limits.labels + words + (limits.columns_named and matrices)


def _lines(tokens: Sequence[DrawnToken], limits: DrawingLimits, width: int) -> list[list[SizedToken]]:
    """Break the tokens into lines before terms, and before factors if the limits are loose. Return no lines if a piece between two
    breaks exceeds the width."""
    least = Break.LOOSE if limits.loose else Break.TERM
    pieces: list[list[SizedToken]] = []
    for before, token in pairwise((None, *tokens)):
        assert token is not None
        begins = before is None or token.breaks >= least
        sized = SizedToken(token, *token.size(limits), GAP if before is None or begins else _gap(before, token))
        if begins:
            pieces.append([sized])
        else:
            pieces[-1].append(sized)
    lines: list[list[SizedToken]] = []
    used = 0
    for first, *others in pieces:
        length = first.width + sum(sized.gap + sized.width for sized in others)
        if lines and used + GAP + length <= width:
            lines[-1] += (first, *others)
            used += GAP + length
        else:
            used = length + (INDENT if lines else 0)
            lines.append([first._replace(gap=0), *others])
            if used > width:
                return []
    return lines


def _gap(left: DrawnToken, right: DrawnToken) -> int:
    """Return the cells between two tokens of a piece: none inside of brackets, after a function, and in a product of matrices."""
    inside = (isinstance(left, Bracket) and left.opening) or (isinstance(right, Bracket) and not right.opening)
    applied = isinstance(left, OperatorToken) and left.sign.isalpha() and isinstance(right, Bracket)
    return 0 if inside or applied or (isinstance(left, Matrix) and isinstance(right, Matrix)) else GAP


def drawn_tokens(palette: Palette, tokens: Sequence[DrawnToken], limits: DrawingLimits, width: int, row: int | None) -> Box:
    """Draw the tokens within these limits, in as many lines as needed. `row` is the batch row singled out."""
    lines = []
    for index, sized in enumerate(_lines(tokens, limits, width)):
        line = [token for token, *_ in sized]
        boxes, starts, used = list[Box](), list[int](), 0
        for token, size, _, gap in sized:
            placed = token.for_tokens(line) if isinstance(token, Bracket) else token
            box = placed.box(palette, limits, row)
            starts.append(used + gap)
            boxes.append(pad(box, left=gap, right=size - box.width))
            used += gap + size
        named = [(token, start, size) for (token, size, *_), start in zip(sized, starts, strict=True) if isinstance(token, Matrix)]
        heads = [(start, token.head) for token, start in zip(line, starts, strict=True) if token.head is not None]
        above = [_at([(start, _head(palette, head)) for start, head in heads])] if limits.words and heads else []
        if limits.labels:
            above.append(_at([(start, token.above(palette, limits, size)) for token, start, size in named]))
        if limits.columns_named and any(not token.operand.is_number for token, *_ in named):
            above.append(_at([(start, token.column_names(palette, limits)) for token, start, _ in named]))
        lines.append(pad(vstack(from_rows(above), hstack(*boxes, gap=0)), left=INDENT if index else 0))
    return vstack(*lines)


def _at(pieces: Sequence[tuple[int, SegmentRow]]) -> SegmentRow:
    """Put pieces into a row, each from its cell on."""
    row, used = list[Segment](), 0
    for start, piece in pieces:
        if piece:
            row += [Segment(" " * max(start - used, 1 if used else 0)), *piece]
            used = row_width(tuple(row))
    return tuple(row)


def _head(palette: Palette, head: TermHead) -> SegmentRow:
    """Draw the word of a term, and its share in percent."""
    part = head.share()
    share = "" if part is None else f"{100 * part:.0f} %"
    word = transliterate(head.word, palette.glyphs)
    gap = "  " if word and share else ""
    return (Segment(f" {word}{gap}", head.ink(palette, palette.dim)), Segment(share, head.ink(palette, palette.plain)))


# ------------------------------------------------------------------------------
# The current line, that is the line just executed, written with the numbers of this moment.


#: What the program is, the longest that leaves room for the keys.
_WELCOME = ("{title}: its training, before the first line. Step to see how every number is computed.", "A training, step by step.")
_IMPORTED = ("{source}: {title}. Step to see how every number is computed.", "{source}, step by step.")
_FIRST = (
    ("step.line", "a line; <back.line> goes back in time, as all capitals do"),
    ("step.timestep step.batch", "a timestep, a batch"),
    ("learn.sgd", "the rest of this batch, with backward pass and update"),
    ("help", "ask in your own words; tab has all keys"),
)
_TRAINING = ("learn.sgd",)  # those that a run without training does not have
#: What the tutorial's sampler says after 900 epochs, begun with the first two characters, and the question that this is.
SAYS = "Matttttttttt"
_QUESTION = ("After 900 epochs this model says ", ". Why?")
_PUZZLE = (
    ("The tutorial blames the small text. But the network knows the text by heart.", 1),
    ("Every number of its training is in this window, forwards and backwards in time. See for yourself.", 4),
)
#: What answers it, each a verb or a command, what that does, more about it, and how soon it is left out where there is no room.
_WAYS_IN = (
    ("explain", "find out why", "ten keys, two minutes", 0),
    (":lesson", "lessons", "the loss by hand · why gates? · find the bug … your answers are checked to the digit", 2),
    ("step.line step.timestep step.batch", "a line, a timestep, a batch", "capital letters go back in time", 0),
    ("help", "ask", "“why is the loss 1.26”   “what if z were 0”   “which letter caused this change”", 1),
)
_EARLIER = (
    "The initial state of this batch was computed in earlier batches, so the gradient flows on through them, back to the first "
    "batch of this epoch. It uses the values that they computed then and the current weights. The result is added to the "
    "gradients of the weights and biases from which the state is computed."
)
_UPSTREAM = (
    "The gradient of the loss with respect to the output of this GRU, computed by what reads the output: the head, the loss and "
    "everything between. The backward pass reads it timestep by timestep."
)
_UNDERFLOW = "{prediction} has an entry 0, whose logarithm is not finite: {entry} is computed from the argument of the softmax"


#: The most numbers of a line that fills the screen; more would make drawing slower than stepping.
MOST_NUMBERS = 20_000


class CurrentLine(CellPanel):
    """The formula of the line with a matrix for every name, its result, and the computation of one entry."""

    ABOUT = "The line just executed, with the matrices that it reads and its result; below them the computation of one entry."
    SHOWS_FOCUS = True

    _alone: int | None = None  # the row of the batch that is shown if there is room for only one
    _falling = False  # True if one entry is shown as a waterfall

    def first_spot(self, spots: Sequence[Spot]) -> Spot:
        """Return the entry of the result that is worked out."""
        snapshot = self.snapshot
        if snapshot.line is None or snapshot.line.formula is None:
            return spots[0]
        index = Operands.of(snapshot, snapshot.line).entry(self._view.row).index
        results = [spot for spot in spots if spot.ref.name == snapshot.line.target and not spot.ref.before]
        return next((spot for spot in results if spot.ref.index == index), (*results, *spots)[0])

    def watch__cursor(self) -> None:
        super().watch__cursor()
        self.refresh_content()

    def action_point(self, across: int, down: int) -> None:
        """Move the cursor; in a waterfall, which shows one entry, from entry to entry of the result."""
        self._ensure_built()
        line = self.snapshot.line
        if not self._falling or line is None:
            super().action_point(across, down)
            return
        operands = Operands.of(self.snapshot, line)
        row, column = operands.entry(self._view.row, self._followed).index
        rows, columns = operands.result.values.shape
        self.pointed = Ref(line.target, (min(max(row + down, 0), rows - 1), min(max(column + across, 0), columns - 1)))

    @property
    def _followed(self) -> Ref | None:
        """The number that decides which entry is worked out."""
        return self.pointed if self.has_focus else None

    def titles(self, snapshot: Snapshot) -> Titles:
        line, in_time = snapshot.line, snapshot.timestep is not None
        if line is None and snapshot.config == Config.of():
            before, after = _QUESTION
            places = ("GRUs explained with matrices, the tutorial", "a tutorial")
            room = self.border_room - cell_len(before + SAYS + after) - BORDER_GAP
            place = next((words for words in places if cell_len(words) <= room), "")
            asks = Content.assemble(before, (SAYS, "$accent"), after).stylize("bold") if room >= 0 else f"It says {SAYS}. Why?"
            names = ("tui-gru, a debugger for recurrent networks", "tui-gru")
            return Titles(asks, next((name for name in names if cell_len(name) <= self.border_room), ""), place)
        title = "the current line" if line is None else line.text
        place = f"t {snapshot.position.t + 1}" if in_time else ""
        keys = with_keys(self, "<explain> explain  <suppose> what if") if line is not None else ""
        rows = snapshot.config.batch_size
        data = _changed_since(snapshot) or (f"row {self._alone + 1} of {rows}" if self._alone is not None and rows > 1 else None)
        note = "" if line is None or line.formula is None else line.note
        if note and cell_len(f"{title} — {note}{place}") + BORDER_GAP <= self.border_room:
            formula, words = (transliterate(part, self.palette.glyphs) for part in (title, f" — {note}"))
            return Titles(Content.assemble(formula, (words, "not bold $foreground")), data, place, keys)
        if note and data is None and cell_len(f"{keys}{note}") + BORDER_GAP <= self.border_room:
            data = note
        return Titles(title, data, place, keys)

    def is_fresh(self, snapshot: Snapshot) -> bool:
        return snapshot.line is not None

    def wanted_height(self, snapshot: Snapshot, width: int) -> int:
        """Return the outer height at which all lines of the phase are shown with all their numbers, at this outer width."""
        return wanted_rows(snapshot, self._view.row, self.palette.glyphs, max(width - 3, 1)) + 2

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        line = snapshot.line
        if line is None:
            source, title = snapshot.config.source, snapshot.program.model.title
            trains = source.can(Ability.TRAIN)
            if snapshot.config == Config.of():
                return first_question(self.palette, partial(sign_of_key, self), width, height)
            hidden = () if trains else _TRAINING
            first = [(verb, meaning) for verb, meaning in _FIRST if verb not in hidden]
            keys = [(" ".join(sign_of_key(self, key) for key in verb.split()), with_keys(self, meaning)) for verb, meaning in first]
            paragraphs = [text.format(title=title, source=source.title) for text in (_WELCOME if trains else _IMPORTED)]
            return clip(self.palette, _welcome(self.palette, paragraphs, width, height, keys), width, height)
        if line.formula is None:
            words = _UPSTREAM if line in snapshot.program.upstream else _EARLIER
            return clip(self.palette, _paragraph(self.palette, words, width), width, height)
        self._falling = False
        if self.zoomed:
            return complete_line(self.palette, snapshot, line, self._view, width, self._followed)
        written, alone, self._falling = drawn_line(self.palette, snapshot, line, self._view, width, height, self._followed)
        row = (self._view.row or 0) if alone else None
        if row != self._alone:
            self._alone = row
            self.call_next(self.caption)
        return cut_below(self.palette, clip(self.palette, written, width, written.height), width, height)


def _changed_since(snapshot: Snapshot) -> str | None:
    """Return a remark if operands have changed since the line was executed, or its result is held at 0, so that its numbers do not
    add up."""
    line = snapshot.line
    if line is not None and snapshot.silent is not None and snapshot.silent.name == line.target:
        return f"{snapshot.silent.written(snapshot.program)} is held at 0"
    names = () if line is None else tuple(n for n in (*line.reads, line.target) if n in snapshot.changed)
    return f"{', '.join(map(snapshot.program.writer.name, dict.fromkeys(names)))} changed since this line ran" if names else None


def drawn_line(
    palette: Palette, snapshot: Snapshot, line: ProgramLine, view: View, width: int, height: int, pointed: Ref | None = None
) -> tuple[Box, bool, bool]:
    """Draw the line as matrices, and below it, if there is room, the computation of one entry; a sum along an axis that is too
    long for that as a waterfall. Return this, whether it shows only one row of the batch, and whether it is a waterfall."""
    operands = Operands.of(snapshot, line)
    entry, badge = operands.entry(view.row, pointed), _badge(palette, snapshot, line)
    fall = Waterfall(palette, entry)
    wide = not operands.result.is_number and operands.result.values.shape[1] * ENTRIES["unit", True].width > width
    if wide and (instead := instead_of_parts(palette, fall, badge, view.row, width, height)) is not None:
        return instead  # before anything is drawn: not even the result would fit

    @cache
    def below(brief: bool | None) -> list[Box]:
        worked = EMPTY if brief is None else entry.box(palette, width, brief=brief)
        return [box for box in (badge, worked) if box.height]

    for drawing in line_forms(operands, view.row, palette.glyphs, width):
        for brief in drawing.brief:
            beneath = below(brief)
            limits = drawing.fitted(width, height - sum(box.height for box in beneath))
            if limits is None:
                continue
            cut = not (drawing.in_full or wide)
            if cut and (instead := instead_of_parts(palette, fall, badge, view.row, width, height)) is not None:
                return instead
            written = drawn_tokens(palette, drawing.tokens, limits, width, view.row)
            spaced = drawing.is_whole and written.height + sum(box.height + 1 for box in beneath) <= height
            box = vstack(written, *beneath, gap=int(spaced))
            others = entry.others(palette, width, height - box.height) if brief is False and drawing.in_full else ()
            return vstack(box, *others), drawing.alone, False
    return vstack(*below(False)), False, False


def instead_of_parts(
    palette: Palette, fall: Waterfall, badge: Box, row: int | None, width: int, height: int
) -> tuple[Box, bool, bool] | None:
    """Draw a line of which only parts would fit in another way: an entry as a waterfall, or the largest entries. Return this as
    `written_out` does, None if the line can be drawn in neither."""
    if (box := _falling(palette, fall, row, width, height)) is not None:
        return box, False, True
    tables = (_largest(palette, fall, row, width, height - badge.height, fold=fold) for fold in (False, True))
    return next(((vstack(badge, drawn_table[0]), drawn_table[1], False) for drawn_table in tables if drawn_table is not None), None)


#: The least rows and the most cells of the bars of a table of the largest entries.
_LEAST_ENTRIES, _LONGEST_BAR = 3, 16


def _largest(palette: Palette, fall: Waterfall, row: int | None, width: int, height: int, *, fold: bool) -> tuple[Box, bool] | None:
    """Draw the largest entries of the result as a table, each with the numbers that it is computed from; of a result that has rows
    of the batch, those of one row, or, where all others are 0, that of each row. Return this, and whether it shows only one row;
    None if an entry is computed from others than those at its place, or without room."""
    operands, result, by_row = fall.operands, fall.operands.result, fall.operands.result.rows == "row"
    formula, shape = operands.line.formula, result.values.shape
    if result.is_number:
        return None
    i, j = fall.place
    tokens = LineWriter(operands, row, palette.glyphs, fold=fold).line()
    if isinstance(formula, Apply) and formula.function == "softmax":  # an entry of it depends on the whole row
        tokens = [tokens[-3], OperatorToken(operator("→", palette.glyphs)), tokens[-1]]
    matrices = [token.operand for token in tokens if isinstance(token, Matrix) and not token.operand.is_number]
    elsewhere = formula is None or any(isinstance(node, e.Product | e.Reduce | e.Join | e.Slice) for node in formula.walk())
    count = min(height - 1, shape[1] if by_row else result.values.size)
    if elsewhere or count < _LEAST_ENTRIES or any(operand.values.shape != shape for operand in matrices):
        return None
    step = operands.step
    compared = (result.values if step is None else step).astype(np.float64)
    sizes, current = np.nan_to_num(np.abs(compared), nan=np.inf), i * shape[1] + j
    one_each = by_row and bool((np.count_nonzero(sizes, axis=1) == 1).all())
    of = range(i, i + 1) if row is not None or not one_each else window(shape[0], count, i)
    sizes = sizes[of.start : of.stop] if by_row else sizes
    order = sizes.argmax(axis=1) + np.arange(len(of)) * shape[1] if one_each else np.argsort(-sizes.ravel(), kind="stable")
    chosen = (order[:count] + (of.start * shape[1] if by_row else 0)).tolist()
    places = [divmod(k, shape[1]) for k in (chosen if current in chosen else [*chosen[: count - 1], current])]
    scales = {id(operand): scale_of(operand.values) if operand.kind == "signed" else 1.0 for operand in matrices}

    def cell(token: Matrix, at: tuple[int, int]) -> SegmentRow:
        operand, value = token.operand, float(token.operand.values[at])
        style = entry_style(palette, operand.kind, value, scales[id(operand)])
        ref = None if operand.refs is None else operand.refs(*at)
        return (Cell.of(ENTRIES[operand.kind, False].write(value), palette.fresh(style) if token.fresh else style, ref),)

    def part(token: DrawnToken) -> SegmentRow | Matrix:
        """Return a matrix, or a token that is the same in each row of the table as it is drawn."""
        match token:
            case Matrix(operand=operand) if not operand.is_number:
                return token
            case Bracket(opening=opening, suffix=suffix):
                return (Segment("(" if opening else f"){suffix}", palette.plain),)
        return token.box(palette, DrawingLimits(), row).rows[0]

    parts = [part(token) for token in tokens]
    heads: list[SegmentRow] = [(Segment("not 0" if one_each else "largest" if step is None else "largest step", palette.dim),)]
    columns = [TableColumn(gap=0)]
    for (before, token), drawn_part in zip(pairwise((None, *tokens)), parts, strict=True):
        shown = drawn_part if isinstance(drawn_part, Matrix) else None
        ink = palette.accent if shown is not None and shown.fresh else palette.strong
        heads.append(() if shown is None else (Segment(shown.operand.label, ink),))
        inside = (isinstance(before, Bracket) and before.opening) or (isinstance(token, Bracket) and not token.opening)
        columns.append(TableColumn(gap=0 if inside else 1, right=shown is not None))
    rows, rows_named = [heads], named_rows(of, shape[0], palette.glyphs.vertical_ellipsis) if len(of) > 1 else []
    for at in places:
        axes = zip((result.rows, result.columns), at, strict=True)
        words = [index_in_words(axis, k, operands.vocabulary) for axis, k in axes if axis and axis != "row"]
        name = ", ".join((*rows_named[at[0] - of.start :][:1], *words))
        ink = palette.strong if at == (i, j) else palette.plain
        named = (Segment(transliterate(name, palette.glyphs), ink),)
        rows.append([named, *(cell(drawn_part, at) if isinstance(drawn_part, Matrix) else drawn_part for drawn_part in parts)])
        if step is not None:
            rows[-1].append((Segment(numbers.wide(float(step[at])), palette.dim),))
    if step is not None:
        heads.append((Segment("step", palette.dim),))
        columns.append(TableColumn(right=True, need=1))
    drawn = from_rows(table(palette, rows, columns, width))
    if drawn.width > width:
        return None
    all_rows = None if len(of) > 1 else fall.every_row(width - drawn.width - 2, height)
    room = min(width - drawn.width - 2 - (0 if all_rows is None else all_rows.width + 2), _LONGEST_BAR)
    if room >= _LEAST_ENTRIES:
        values = [float(compared[at]) for at in places]
        full = max((abs(value) for value in values if math.isfinite(value)), default=0.0) or 1.0
        inks = [palette.gate if result.kind == "unit" else palette.positive if value >= 0 else palette.negative for value in values]
        bars = [(Segment(bar(palette, abs(value) / full, room), ink),) for value, ink in zip(values, inks, strict=True)]
        drawn = hstack(drawn, from_rows([(), *bars]), gap=2)
    return drawn if all_rows is None else hstack(drawn, all_rows, gap=2), by_row and len(of) == 1


def _falling(palette: Palette, fall: Waterfall, row: int | None, width: int, height: int) -> Box | None:
    """Draw an entry as a waterfall, below the line with the shapes of its matrices if there is room; None if it is no long sum."""
    if not fall.summands:
        return None
    head = _with_shapes(palette, LineWriter(fall.operands, row, palette.glyphs, fold=True).line())
    tall = fall.box(width, height - 1) if row_width(head) <= width else None
    return fall.box(width, height) if tall is None else vstack(from_rows([head]), tall)


def _with_shapes(palette: Palette, tokens: Sequence[DrawnToken]) -> SegmentRow:
    """Write a line with the shape of each matrix after its name, the result first."""
    parts: list[Segment] = []
    for token in (tokens[-1], tokens[-2], *tokens[:-2]):
        match token:
            case Matrix(operand=operand):
                sizes = operand.shape if operand.rows else operand.shape[1:]
                shape = "" if operand.is_number else palette.glyphs.by.join(map(str, sizes))
                ink = palette.accent if token.fresh else palette.strong
                parts += [Segment(f"{operand.label} ", ink), Segment(f"{shape}  " if shape else " ", palette.dim)]
            case Bracket(opening=opening, suffix=suffix):
                parts.append(Segment("( " if opening else f"){suffix} ", palette.plain))
            case OperatorToken(sign=sign):
                parts.append(Segment(f"{sign} " if not sign[-1].isalpha() or sign == "=" else sign, palette.plain))
    return tuple(parts)


def complete_line(
    palette: Palette, snapshot: Snapshot, line: ProgramLine, view: View, width: int, pointed: Ref | None = None
) -> Box:
    """Draw the line with all its matrices in full, whatever size that is, and the computation of one entry.

    Matrices that have more than MOST_NUMBERS in total are elided to that number.
    """
    operands = Operands.of(snapshot, line)
    tokens = LineWriter(operands, view.row, palette.glyphs).line()
    arrays = [token.operand.values for token in tokens if isinstance(token, Matrix)]
    most = math.isqrt(MOST_NUMBERS // len(arrays)) if sum(array.size for array in arrays) > MOST_NUMBERS else None
    limits = DrawingLimits(columns=most, rows=most, columns_named=True, words=True)
    worked = operands.entry(view.row, pointed).box(palette, width)
    below = [box for box in (_badge(palette, snapshot, line), worked) if box.height]
    return vstack(drawn_tokens(palette, tokens, limits, max(width, widest_piece(tokens, limits)), view.row), *below, gap=1)


class LineForm(NamedTuple):
    """A way to draw a line, with the first of these limits with which it fits, and with loose ones broken within terms only if it
    does not fit otherwise; without limits, as much of the matrices as fits, but at least `fewest` rows.

    `brief` says which computations of one entry may stand below it, best first: in full, briefly, none. With `alone` it shows only
    one row of the batch.
    """

    tokens: list[DrawnToken]
    limits: Sequence[DrawingLimits]
    brief: Sequence[bool | None]
    alone: bool = False
    fewest: int = 2

    @property
    def in_full(self) -> bool:
        """True if the columns of the matrices are shown in full."""
        return bool(self.limits)

    @property
    def is_whole(self) -> bool:
        """True if all numbers of the line are shown with all their digits."""
        return self.in_full and not self.limits[0].compact and not self.alone

    def fitted(self, width: int, height: int) -> DrawingLimits | None:
        """Return the limits with which the line fits into the size, None if it does not."""
        if not self.limits:
            return elided(self.tokens, width, height, fewest=self.fewest)
        broken = (limits._replace(loose=loose) for limits in self.limits for loose in sorted({False, limits.loose}))
        return next(filter(None, (fitted(self.tokens, width, height, limits) for limits in broken)), None)


def line_forms(operands: Operands, row: int | None, glyphs: Glyphs, width: int) -> Iterator[LineForm]:
    """Yield the ways to draw a line, best first: from all its numbers in full and the example entry to the result alone.

    None shows less than a later one, so that more room never shows less: first the names of columns and what is in a part that
    was recorded as a whole are left out, then words, then all rows but one, then digits, the example entry, and at last names.
    """
    *named, (folded_tokens, worded), (_, plain) = _in_full(operands, row, glyphs)
    for tokens, limits in named:
        yield LineForm(tokens, [limits], [False])
    plain = plain._replace(loose=True)
    yield LineForm(folded_tokens, [worded, plain], [False, True])
    by_row = operands.result.rows == "row"
    least = LineWriter(operands, row, glyphs, fold=True, alone=True).line() if by_row else folded_tokens
    if by_row:
        yield LineForm(least, [plain], [False, True], alone=True)
    compact = plain._replace(compact=True)  # not all rows with fewer digits than one row has
    if operands.heads(row) and _lines(least, compact._replace(labels=False), width):
        # each term as one matrix, before digits and the example entry are left out
        terms = LineWriter(operands, row, glyphs, terms=True, alone=by_row).line()
        yield LineForm(terms, [worded._replace(loose=True)], [False, True], alone=by_row)
    yield LineForm(least, [compact], [False, True], alone=by_row)
    yield LineForm(least, [plain], [None], alone=by_row)
    yield LineForm(folded_tokens, [], [False, True, None])
    yield LineForm(least, [], [None], alone=by_row, fewest=1)
    yield LineForm([OperatorToken("="), folded_tokens[-1]], [], [False, None], fewest=1)


def _in_full(operands: Operands, row: int | None, glyphs: Glyphs) -> Sequence[tuple[list[DrawnToken], DrawingLimits]]:
    """Return the ways to draw a line with all its numbers, best first."""
    folded_line = LineWriter(operands, row, glyphs, fold=True).line()
    paths = any(head.path is not None for head in operands.heads(row))
    unfolded = folded_line if paths else LineWriter(operands, row, glyphs).line()  # what makes a path is shown by its name
    full, named = DrawingLimits(columns_named=True, words=True), DrawingLimits(words=True)
    return (unfolded, full), (folded_line, full), (folded_line, named), (folded_line, DrawingLimits(words=paths))


#: The rows that suffice for the matrices of a line, the most that it wants if it needs more, and the rows below them: a blank,
#: and two for the example entry.
_SUFFICIENT, _MOST_WANTED, _BELOW = 7, 9, 3
_heights: WeakKeyDictionary[Program, dict[object, int]] = WeakKeyDictionary()


def wanted_rows(snapshot: Snapshot, row: int | None, glyphs: Glyphs, width: int) -> int:
    """Return the rows that the lines of a phase want at this width, the same at each, so that a step moves no panel."""
    line, program = snapshot.line, snapshot.program
    if line is None or line.formula is None:
        return _MOST_WANTED
    heights = _heights.setdefault(program, {})
    forwards = ("forward", "loss")
    phases = forwards if line.phase in forwards else (line.phase,)
    key = phases, row is None, glyphs, width
    if key not in heights:
        lines = [
            phase_line for phase_line in program.lines.values() if phase_line.phase in phases and phase_line.formula is not None
        ]
        heights[key] = max(_wanted_by(Operands(snapshot, phase_line, ahead=True), row, glyphs, width) for phase_line in lines)
    return heights[key]


def _wanted_by(operands: Operands, row: int | None, glyphs: Glyphs, width: int) -> int:
    heights = []
    for tokens, limits in _in_full(operands, row, glyphs):
        if lines := _lines(tokens, limits, width):
            heights.append(sum(_height_of(line, limits) for line in lines))
            if heights[-1] <= _SUFFICIENT:
                break
    return min([*heights[-1:], _MOST_WANTED]) + _BELOW


def _badge(palette: Palette, snapshot: Snapshot, line: ProgramLine) -> Box:
    """Return a warning if the code of the tutorial would compute another value than the one shown."""
    term = snapshot.tutorial_term1 if line.target == snapshot.program.loss_names.entry else None
    if term is None or np.isfinite(term).all():
        return EMPTY
    names = snapshot.program.loss_names
    prediction, entry = (snapshot.program.writer.name(name) for name in (names.prediction, names.entry))
    words = transliterate(_UNDERFLOW.format(prediction=prediction, entry=entry), palette.glyphs)
    return text_box(palette, f"{palette.glyphs.not_finite} {words}", palette.warning)


def first_question(palette: Palette, sign_of: Callable[[str], str], width: int, height: int) -> Box:
    """Draw what the tutorial's model says after 900 epochs beside the text, and the ways to find out why: as many rows as
    there are, the more important ones first."""
    texts = ("its sampler writes", SAYS, palette.strong), ("the text is", TUTORIAL_TEXT[: len(SAYS)], palette.gate)
    label, gap = (20, 3) if width >= 20 + 3 * len(SAYS) else (11, 1)
    texts = texts if label == 20 else (("it writes", *texts[0][1:]), ("the text", *texts[1][1:]))
    rows = list[tuple[int, SegmentRow]]()
    for words, text, ink in texts:
        letters = (Segment(letter.ljust(gap), palette.dim if i < 2 else ink) for i, letter in enumerate(text))
        rows.append((0, (Segment(words.ljust(label), palette.dim), *letters)))
    rows.append((3, ()))
    for i, (words, rank) in enumerate(_PUZZLE):
        ink = palette.dim if i else palette.plain
        rows += [(rank, (Segment(line, ink),)) for line in folded(words, width)]
    rows.append((3, ()))
    signs = [" ".join(sign if sign.startswith(":") else sign_of(sign) for sign in verbs.split()) for verbs, *_ in _WAYS_IN]
    column = max(map(cell_len, signs)) + 2
    for sign, (_, words, more, rank) in zip(signs, _WAYS_IN, strict=True):
        room = width - column - cell_len(words) - 2
        shown = next((part for part in _shorter(more) if cell_len(part) <= room), "")
        pieces = (
            Segment(sign.ljust(column), palette.keyword),
            Segment(words, palette.plain),
            Segment(f"  {shown}" if shown else "", palette.dim),
        )
        rows.append((rank, pieces))
    while len(rows) > height and any(rank for rank, _ in rows):
        least = max(rank for rank, _ in rows)
        rows.pop(max(i for i, (rank, _) in enumerate(rows) if rank == least))
    glyphs = palette.glyphs
    return from_rows(tuple(Segment(transliterate(text, glyphs), ink) for text, ink, _ in row) for _, row in rows)


def _shorter(words: str) -> Iterator[str]:
    """Yield a list of hints, then without its last, and so on."""
    for separator in ("   ", " … ", " · "):
        while separator in words:
            yield words
            words = words.rpartition(separator)[0]
    yield words


def _welcome(palette: Palette, words: Sequence[str], width: int, height: int, first: list[tuple[str, str]]) -> Box:
    """Draw what the program is, in the words that leave room for the first keys, and below it the keys."""
    column = max(cell_len(sign) for sign, _ in first) + 2
    keys = from_rows(
        row for sign, meaning in first for row in explained(palette, sign, palette.keyword, meaning, width, column=column)
    )
    paragraphs = [_paragraph(palette, text, width) for text in words]
    return vstack(next((paragraph for paragraph in paragraphs if paragraph.height + keys.height <= height), paragraphs[-1]), keys)


def _paragraph(palette: Palette, words: str, width: int) -> Box:
    return text_box(palette, fill(words, max(width, 1)))
