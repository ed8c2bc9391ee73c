"""The current line, that is the line just executed, written with the numbers of this moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isqrt
from textwrap import fill
from typing import NamedTuple

import numpy as np

from tui_gru.debugger.program.line_table import ProgramLine
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.tui.look.glyphs import Glyphs, transliterate
from tui_gru.tui.look.themes import Palette
from tui_gru.tui.panels.program.example_entry import ExampleEntry
from tui_gru.tui.panels.program.operands import Operands
from tui_gru.tui.panels.program.tokens import DrawingLimits, DrawnToken, Matrix, OperatorToken
from tui_gru.tui.panels.program.written_line import LineWriter, drawn, elided, fitted, squeezed, widest_piece
from tui_gru.tui.verbs.verb import sign_of_key
from tui_gru.tui.widgets.boxes import EMPTY, Box, clip, grid, text, vstack
from tui_gru.tui.widgets.cells import CellPanel
from tui_gru.tui.widgets.snapshot_panel import Titles, View

_WELCOME = "{title}: the training loop, before its first line. Step to see how every number is computed."
_GIVEN = "{given}: {title}. Step to see how every number is computed."
_FIRST = (
    ("explain", "a tour of ten keys"),
    ("step.line", "a line"),
    ("step.timestep", "a timestep"),
    ("step.batch", "a batch"),
    ("learn.sgd", "an SGD step: the rest of this batch, backward and update"),
    ("help", "all keys; capital letters step back in time"),
)
_TRAINING = ("explain", "learn.sgd")  # those that a run without training does not have
_EARLIER = (
    "The initial state of this batch was computed in earlier batches, so the gradient flows on through them, back to the first "
    "batch of this epoch. It uses the values that they computed then and the current weights. The result is added to the "
    "gradients of the weights and biases from which the state is computed."
)
_OUTSIDE = (
    "The gradient of the loss with respect to the output of this GRU, computed by what reads the output: the head, the loss and "
    "everything between. The backward pass reads it timestep by timestep."
)
_UNDERFLOW = "{prediction} has an entry 0, whose logarithm is not finite: {entry} is computed from the argument of the softmax"


#: The most numbers of a line that fills the screen; more would make drawing slower than stepping.
MOST_NUMBERS = 20_000


class CurrentLine(CellPanel):
    """The formula of the line with a matrix for every name, its result, and the computation of one entry."""

    ABOUT = "The line just executed, with the matrices that it reads and its result; below them the computation of one entry."

    _alone: int | None = None  # the row of the batch that is shown if there is room for only one

    def titles(self, snapshot: Snapshot) -> Titles:
        title = "the current line" if snapshot.line is None else snapshot.line.text
        rows = snapshot.config.batch_size
        row = f"row {self._alone + 1} of {rows}" if self._alone is not None and rows > 1 else None
        return title, _changed_since(snapshot) or row

    def is_fresh(self, snapshot: Snapshot) -> bool:
        return snapshot.line is not None

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        line = snapshot.line
        if line is None:
            given, title = snapshot.config.given, snapshot.program.model.title
            first = [(verb, what) for verb, what in _FIRST if given is None or verb not in _TRAINING]
            keys = [(sign_of_key(self, verb), what) for verb, what in first]
            words = (_WELCOME if given is None else _GIVEN).format(title=title, given=given and given.title)
            return clip(self.palette, _welcome(self.palette, words, width, height, keys), width, height)
        if line.formula is None:
            words = _OUTSIDE if line in snapshot.program.outside else _EARLIER
            return clip(self.palette, _paragraph(self.palette, words, width), width, height)
        if self.zoomed:
            return whole(self.palette, snapshot, line, self._view, width)
        written, alone = written_out(self.palette, snapshot, line, self._view, width, height)
        row = (self._view.row or 0) if alone else None
        if row != self._alone:
            self._alone = row
            self.call_next(self.caption)
        return clip(self.palette, written, width, height)


def _changed_since(snapshot: Snapshot) -> str | None:
    """Return a remark if operands have changed since the line was executed, so that its numbers do not add up."""
    line = snapshot.line
    names = () if line is None else tuple(n for n in (*line.reads, line.target) if n in snapshot.changed)
    return f"{', '.join(map(snapshot.program.writer.name, dict.fromkeys(names)))} changed since this line ran" if names else None


def written_out(palette: Palette, snapshot: Snapshot, line: ProgramLine, view: View, width: int, height: int) -> tuple[Box, bool]:
    """Draw the line as matrices, and below it, if there is room, the computation of one entry. Return this, and whether it shows
    only one row of the batch."""
    operands = Operands(snapshot, line)
    entry, badge = ExampleEntry(operands, view.row or 0), _badge(palette, snapshot, line)
    rest = [box for box in (badge, entry.box(palette, width)) if box.height]
    brief = [box for box in (badge, entry.box(palette, width, brief=True)) if box.height]
    for choice in _choices(operands, view.row, palette.glyphs, width, height, rest, brief):
        if choice.limits is not None:
            written = drawn(palette, choice.tokens, choice.limits, width, view.row)
            return vstack(written, *choice.beneath, gap=choice.gap), choice.alone
    return vstack(*rest), False


def whole(palette: Palette, snapshot: Snapshot, line: ProgramLine, view: View, width: int) -> Box:
    """Draw the line with all its matrices in full, whatever size that is, and the computation of one entry.

    Matrices that have more than MOST_NUMBERS in total are elided to that number.
    """
    operands = Operands(snapshot, line)
    tokens = LineWriter(operands, view.row, palette.glyphs).line()
    arrays = [token.operand.values for token in tokens if isinstance(token, Matrix)]
    each = isqrt(MOST_NUMBERS // len(arrays)) if sum(array.size for array in arrays) > MOST_NUMBERS else None
    limits = DrawingLimits(columns=each, rows=each)
    worked = ExampleEntry(operands, view.row or 0).box(palette, width)
    below = [box for box in (_badge(palette, snapshot, line), worked) if box.height]
    return vstack(drawn(palette, tokens, limits, max(width, widest_piece(tokens, limits)), view.row), *below, gap=1)


class _Choice(NamedTuple):
    """A way to draw a line: `limits` that make it fit, None if it cannot fit, the boxes below it, and whether it shows one row."""

    tokens: list[DrawnToken]
    limits: DrawingLimits | None
    beneath: Sequence[Box] = ()
    gap: int = 0
    alone: bool = False


def _choices(
    operands: Operands, row: int | None, glyphs: Glyphs, width: int, height: int, rest: Sequence[Box], brief: Sequence[Box]
) -> Iterator[_Choice]:
    """Yield the ways to draw a line, best first: from all numbers in full and the example entry (`rest`) to the result alone.

    The example entry is included as long as there is room for its brief form (`brief`).
    """
    names, folded = (LineWriter(operands, row, glyphs, fold=fold).line() for fold in (False, True))
    for gap in (1, 0):
        room = _room(height, rest, gap)
        yield _Choice(names, fitted(names, width, room), rest, gap)
        yield _Choice(folded, fitted(folded, width, room), rest, gap)
        yield _Choice(names, fitted(names, width, room, labels=False), rest, gap)
        yield _Choice(folded, fitted(folded, width, room, labels=False), rest, gap)
        yield _Choice(folded, fitted(folded, width, room, compact=True), rest, gap)
        yield _Choice(folded, fitted(folded, width, room, compact=True, labels=False), rest, gap)
    yield _Choice(folded, elided(folded, width, _room(height, rest, 1)), rest, 1)
    loose = LineWriter(operands, row, glyphs, fold=True, loose=True).line()
    by_row = operands.result.rows == "row"
    alone = LineWriter(operands, row, glyphs, fold=True, alone=True, loose=True).line() if by_row else []
    for beneath in (rest, brief, ()):
        room = _room(height, beneath, 0)
        yield _Choice(folded, elided(folded, width, room), beneath)
        for compact in (False, True):
            yield _Choice(loose, fitted(loose, width, room, compact=compact, labels=False), beneath)
        for compact in (False, True) if alone else ():
            yield _Choice(alone, fitted(alone, width, room, compact=compact, labels=False), beneath, alone=True)
    for tokens in (alone, loose):
        if tokens:
            yield _Choice(tokens, squeezed(tokens, width, height), alone=tokens is alone)
    result = [OperatorToken("="), names[-1]]
    room = _room(height, rest, 1)
    yield _Choice(result, fitted(result, width, room), rest, 1)
    if room < -1:  # no room for the example entry either
        yield _Choice(result, fitted(result, width, height))
        yield _Choice(result, elided(result, width, height))


def _room(height: int, beneath: Sequence[Box], gap: int) -> int:
    """Return the rows left for the line."""
    return height - sum(box.height + gap for box in beneath)


def _badge(palette: Palette, snapshot: Snapshot, line: ProgramLine) -> Box:
    """Return a warning if the code of the tutorial would compute another value than the one shown."""
    term = snapshot.tutorial_term1 if line.target == snapshot.program.loss_names.entry else None
    if term is None or np.isfinite(term).all():
        return EMPTY
    names = snapshot.program.loss_names
    prediction, entry = (snapshot.program.writer.name(name) for name in (names.prediction, names.entry))
    words = transliterate(_UNDERFLOW.format(prediction=prediction, entry=entry), palette.glyphs)
    return text(palette, f"{palette.glyphs.not_finite} {words}", palette.warning)


def _welcome(palette: Palette, words: str, width: int, height: int, first: list[tuple[str, str]]) -> Box:
    """Draw the welcome text and the first keys; if they do not fit together, the keys come first."""
    keys = grid([(text(palette, key, palette.accent), text(palette, what)) for key, what in first], gap=2)
    paragraph = _paragraph(palette, words, width)
    return vstack(paragraph, keys) if paragraph.height + keys.height <= height else vstack(keys, paragraph)


def _paragraph(palette: Palette, words: str, width: int) -> Box:
    return text(palette, fill(words, max(width, 1)))
