"""The line just executed, written out with the numbers of this moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isqrt
from textwrap import fill
from typing import NamedTuple

import numpy as np

from tui_gru.debugger.program.line_table import Line
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.tui.look.glyphs import Glyphs, transliterate
from tui_gru.tui.look.key_signs import sign_of_key
from tui_gru.tui.look.palette import Palette
from tui_gru.tui.panels.program.example_entry import ExampleEntry
from tui_gru.tui.panels.program.operands import Operands
from tui_gru.tui.panels.program.tokens import Limits, Matrix, Sign, Token
from tui_gru.tui.panels.program.written_line import Writer, drawn, elided, fitted, squeezed, widest_piece
from tui_gru.tui.panels.snapshot_panel import SnapshotPanel
from tui_gru.tui.view import View
from tui_gru.tui.widgets.boxes import EMPTY, Box, clip, grid, text, vstack

_WELCOME = "{title}: its training loop, before the first line. Step, and watch every number come into being."
_GIVEN = "{given}: {title}. Step, and watch every number come into being."
_FIRST = (
    ("step.line", "a line"),
    ("step.timestep", "a timestep"),
    ("step.batch", "a batch"),
    ("learn.sgd", "an SGD step: this batch to its end, backward and update"),
    ("help", "all keys; a capital goes the same way back in time"),
)
_EARLIER = (
    "The state came into this batch with its history, so the gradient runs on: back through the batches before, to the first of "
    "this epoch, along what they computed then and the weights as they are now. What it finds is added to the gradients of the "
    "weights and biases that the state is computed with."
)
_OUTSIDE = (
    "The gradient of the loss with respect to what this GRU handed on, as it came back from what read it: the head, the loss, and "
    "whatever lies between. The backward pass reads it timestep by timestep."
)
_UNDERFLOW = "{prediction} is 0 somewhere, and its logarithm not finite: {entry} is computed from what is in the softmax"


#: Numbers that a line is written with at most where it fills the screen: more could not be drawn as fast as one steps.
MOST_NUMBERS = 20_000


class LineAtWork(SnapshotPanel):
    """The formula of the line with a matrix for every name, its result, and one entry of it worked out."""

    _view = View()
    _alone: int | None = None  # the only row of the batch that there is room for

    def show(self, snapshot: Snapshot, view: View) -> None:
        """Draw this snapshot from now on."""
        self._snapshot, self._view = snapshot, view
        self.caption()
        self.set_class(snapshot.line is not None, "-fresh")
        self.refresh_content()

    def caption(self) -> None:
        if (snapshot := self._snapshot) is not None:
            title = "the line at work" if snapshot.line is None else snapshot.line.text
            rows = snapshot.config.batch_size
            row = f"row {self._alone + 1} of {rows}" if self._alone is not None and rows > 1 else None
            self.set_titles(title, self.point_out() or _changed_since(snapshot) or row)

    def build(self, width: int, height: int) -> Box:
        snapshot = self._snapshot
        if snapshot is None:
            return EMPTY
        line = snapshot.line
        if line is None:
            given, title = snapshot.config.given, snapshot.program.model.title
            first = [(verb, what) for verb, what in _FIRST if given is None or verb != "learn.sgd"]
            keys = [(sign_of_key(self, verb), what) for verb, what in first]
            words = (_WELCOME if given is None else _GIVEN).format(title=title, given=given and given.title)
            return clip(self.palette, _welcome(self.palette, words, width, keys), width, height)
        if line.formula is None:
            words = _OUTSIDE if line in snapshot.program.outside else _EARLIER
            return clip(self.palette, _paragraph(self.palette, words, width), width, height)
        if self.zoomed:
            return whole(self.palette, snapshot, line, self._view, width)
        written, alone = _written(self.palette, snapshot, line, self._view, width, height)
        row = (self._view.row or 0) if alone else None
        if row != self._alone:
            self._alone = row
            self.call_next(self.caption)
        return clip(self.palette, written, width, height)


def _changed_since(snapshot: Snapshot) -> str | None:
    """A word where the operands are not those with which the line was executed, so that its numbers do not add up."""
    line = snapshot.line
    names = () if line is None else tuple(n for n in (*line.reads, line.target) if n in snapshot.changed)
    return f"{', '.join(map(snapshot.program.writer.name, dict.fromkeys(names)))} changed since this line ran" if names else None


def written_out(palette: Palette, snapshot: Snapshot, line: Line, view: View, width: int, height: int) -> Box:
    """The line as matrices, and beneath, where there is room, one entry worked out."""
    return _written(palette, snapshot, line, view, width, height)[0]


def _written(palette: Palette, snapshot: Snapshot, line: Line, view: View, width: int, height: int) -> tuple[Box, bool]:
    """As `written_out`, and whether it is written for one row of the batch alone."""
    operands = Operands(snapshot, line)
    entry, badge = ExampleEntry(operands, view.row or 0), _badge(palette, snapshot, line)
    rest = [box for box in (badge, entry.box(palette, width)) if box.height]
    brief = [box for box in (badge, entry.box(palette, width, brief=True)) if box.height]
    for choice in _choices(operands, view.row, palette.glyphs, width, height, rest, brief):
        if choice.limits is not None:
            written = drawn(palette, choice.tokens, choice.limits, width, view.row)
            return vstack(written, *choice.beneath, gap=choice.gap), choice.alone
    return vstack(*rest), False


def whole(palette: Palette, snapshot: Snapshot, line: Line, view: View, width: int) -> Box:
    """The line with all its matrices in full, however wide and high that is, and one entry worked out.

    Together they have MOST_NUMBERS at most; of larger ones as much is shown as that comes to.
    """
    operands = Operands(snapshot, line)
    tokens = Writer(operands, view.row, palette.glyphs).line()
    arrays = [token.operand.values for token in tokens if isinstance(token, Matrix)]
    each = isqrt(MOST_NUMBERS // len(arrays)) if sum(array.size for array in arrays) > MOST_NUMBERS else None
    limits = Limits(columns=each, rows=each)
    worked = ExampleEntry(operands, view.row or 0).box(palette, width)
    below = [box for box in (_badge(palette, snapshot, line), worked) if box.height]
    return vstack(drawn(palette, tokens, limits, max(width, widest_piece(tokens, limits)), view.row), *below, gap=1)


class _Choice(NamedTuple):
    """A way to write a line: limits that make it fit, None where none do; what is beneath; whether it is for one row alone."""

    tokens: list[Token]
    limits: Limits | None
    beneath: Sequence[Box] = ()
    gap: int = 0
    alone: bool = False


def _choices(
    operands: Operands, row: int | None, glyphs: Glyphs, width: int, height: int, rest: Sequence[Box], brief: Sequence[Box]
) -> Iterator[_Choice]:
    """The best first: all numbers in full and a worked entry (`rest`), then ever less of them, but with a worked entry as long as
    there is room for one (`brief`); the worked entry alone is the last."""
    names, folded = (Writer(operands, row, glyphs, fold=fold).line() for fold in (False, True))
    for gap in (1, 0):
        room = _room(height, rest, gap)
        yield _Choice(names, fitted(names, width, room), rest, gap)
        yield _Choice(folded, fitted(folded, width, room), rest, gap)
        yield _Choice(names, fitted(names, width, room, labels=False), rest, gap)
        yield _Choice(folded, fitted(folded, width, room, labels=False), rest, gap)
        yield _Choice(folded, fitted(folded, width, room, compact=True), rest, gap)
        yield _Choice(folded, fitted(folded, width, room, compact=True, labels=False), rest, gap)
    yield _Choice(folded, elided(folded, width, _room(height, rest, 1)), rest, 1)
    loose = Writer(operands, row, glyphs, fold=True, loose=True).line()
    by_row = operands.result.rows == "row"
    alone = Writer(operands, row, glyphs, fold=True, alone=True, loose=True).line() if by_row else []
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
    result = [Sign("="), names[-1]]
    room = _room(height, rest, 1)
    yield _Choice(result, fitted(result, width, room), rest, 1)
    if room < -1:  # then there is no room for the worked entry either
        yield _Choice(result, fitted(result, width, height))
        yield _Choice(result, elided(result, width, height))


def _room(height: int, beneath: Sequence[Box], gap: int) -> int:
    """The rows left for the line."""
    return height - sum(box.height + gap for box in beneath)


def _badge(palette: Palette, snapshot: Snapshot, line: Line) -> Box:
    """A warning where the tutorial's own code would give something else than what is shown."""
    term = snapshot.tutorial_term1 if line.target == snapshot.program.loss_names.entry else None
    if term is None or np.isfinite(term).all():
        return EMPTY
    names = snapshot.program.loss_names
    prediction, entry = (snapshot.program.writer.name(name) for name in (names.prediction, names.entry))
    words = transliterate(_UNDERFLOW.format(prediction=prediction, entry=entry), palette.glyphs)
    return text(palette, f"{palette.glyphs.not_finite} {words}", palette.warning)


def _welcome(palette: Palette, words: str, width: int, first: list[tuple[str, str]]) -> Box:
    keys = grid([(text(palette, key, palette.accent), text(palette, what)) for key, what in first], gap=2)
    return vstack(_paragraph(palette, words, width), keys)


def _paragraph(palette: Palette, words: str, width: int) -> Box:
    return text(palette, fill(words, max(width, 1)))
