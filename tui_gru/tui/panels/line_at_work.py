"""The line just executed, written out with the numbers of this moment."""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt
from textwrap import fill

import numpy as np

from tui_gru.debugger.program import Line
from tui_gru.debugger.snapshot import Snapshot
from tui_gru.tui.key_signs import sign_of_key
from tui_gru.tui.palette import Palette
from tui_gru.tui.panels.operands import Operands
from tui_gru.tui.panels.snapshot_panel import SnapshotPanel
from tui_gru.tui.panels.tokens import Limits, Matrix, Sign, Token
from tui_gru.tui.panels.worked_entry import WorkedEntry
from tui_gru.tui.panels.written_line import Writer, drawn, elided, fitted, widest_piece
from tui_gru.tui.view import View
from tui_gru.tui.widgets.boxes import EMPTY, Box, clip, grid, text, vstack

_WELCOME = "The training loop of a GRU, before its first line. Step, and watch every number come into being."
_FIRST = (
    ("step.line", "a line"),
    ("step.timestep", "a timestep"),
    ("step.batch", "a batch"),
    ("learn.sgd", "an SGD step: this batch to its end, backward and update"),
    ("help", "all keys; a capital goes the same way back in time"),
)
_EARLIER = (
    "The state came into this batch with its history, so the gradient runs on: back through the batches before, to the first of "
    "this epoch, along what they computed then and the weights as they are now. What it finds is added to the gradients of all "
    "weights and biases but Wy and by."
)
_UNDERFLOW = "ŷ is 0 somewhere: y⊙log ŷ as the tutorial writes it is not finite here; ① is taken from o itself"


#: Numbers that a line is written with at most where it fills the screen: more could not be drawn as fast as one steps.
MOST_NUMBERS = 20_000


class LineAtWork(SnapshotPanel):
    """The formula of the line with a matrix for every name, its result, and one entry of it worked out."""

    _view = View()

    def show(self, snapshot: Snapshot, view: View) -> None:
        """Draw this snapshot from now on."""
        self._snapshot, self._view = snapshot, view
        self.caption()
        self.set_class(snapshot.line is not None, "-fresh")
        self.refresh_content()

    def caption(self) -> None:
        if (snapshot := self._snapshot) is not None:
            title = "the line at work" if snapshot.line is None else snapshot.line.text
            self.set_titles(title, self.point_out() or _changed_since(snapshot))

    def build(self, width: int, height: int) -> Box:
        snapshot = self._snapshot
        if snapshot is None:
            return EMPTY
        line = snapshot.line
        if line is None:
            return clip(
                self.palette,
                _welcome(self.palette, width, [(sign_of_key(self, verb), what) for verb, what in _FIRST]),
                width,
                height,
            )
        if line.formula is None:
            return clip(self.palette, _paragraph(self.palette, _EARLIER, width), width, height)
        if self.zoomed:
            return whole(self.palette, snapshot, line, self._view, width)
        written = written_out(self.palette, snapshot, line, self._view, width, height)
        return clip(self.palette, written, width, height)


def _changed_since(snapshot: Snapshot) -> str | None:
    """A word where the operands are not those with which the line was executed, so that its numbers do not add up."""
    line = snapshot.line
    names = () if line is None else tuple(n for n in (*line.reads, line.target) if n in snapshot.changed)
    return f"{', '.join(map(snapshot.program.writer.name, dict.fromkeys(names)))} changed since this line ran" if names else None


def written_out(palette: Palette, snapshot: Snapshot, line: Line, view: View, width: int, height: int) -> Box:
    """The line as matrices, and beneath, where there is room, one entry worked out."""
    operands = Operands(snapshot, line)
    worked = WorkedEntry(operands, view.row or 0).box(palette, width)
    badge = _badge(palette, snapshot, line)
    below = [box for box in (badge, worked) if box.height]
    room = height - sum(box.height for box in below) - len(below)
    names, folded = (Writer(operands, view.row, fold=fold).line() for fold in (False, True))
    result = [Sign("="), names[-1]]
    for tokens, spare, limits in _choices(names, folded, result, width, room, height):
        if limits is not None:
            shown = below if spare else []
            return vstack(drawn(palette, tokens, limits, width, view.row), *shown, gap=1)
    return vstack(*below)


def whole(palette: Palette, snapshot: Snapshot, line: Line, view: View, width: int) -> Box:
    """The line with all its matrices in full, however wide and high that is, and one entry worked out.

    Together they have MOST_NUMBERS at most; of larger ones as much is shown as that comes to.
    """
    operands = Operands(snapshot, line)
    tokens = Writer(operands, view.row).line()
    arrays = [token.operand.values for token in tokens if isinstance(token, Matrix)]
    each = isqrt(MOST_NUMBERS // len(arrays)) if sum(array.size for array in arrays) > MOST_NUMBERS else None
    limits = Limits(columns=each, rows=each)
    worked = WorkedEntry(operands, view.row or 0).box(palette, width)
    below = [box for box in (_badge(palette, snapshot, line), worked) if box.height]
    return vstack(drawn(palette, tokens, limits, max(width, widest_piece(tokens, limits)), view.row), *below, gap=1)


def _choices(
    names: list[Token], folded: list[Token], result: list[Token], width: int, room: int, height: int
) -> Iterator[tuple[list[Token], bool, Limits | None]]:
    """Ways to write a line, the best first: all numbers in full and a worked entry, then ever less of it.

    Each comes with whether there is room beneath it, and with the limits that make it fit, None where none do.
    """
    yield names, True, fitted(names, width, room)
    yield folded, True, fitted(folded, width, room)
    yield names, True, fitted(names, width, room, labels=False)
    yield folded, True, fitted(folded, width, room, labels=False)
    yield folded, True, fitted(folded, width, room, compact=True)
    yield names, False, fitted(names, width, height, labels=False)
    yield folded, False, fitted(folded, width, height, compact=True, labels=False)
    yield folded, True, elided(folded, width, room)
    yield folded, False, elided(folded, width, height)
    yield result, True, fitted(result, width, room)
    yield result, False, fitted(result, width, height)
    yield result, False, elided(result, width, height)


def _badge(palette: Palette, snapshot: Snapshot, line: Line) -> Box:
    """A warning where the tutorial's own code would give something else than what is shown."""
    term = snapshot.tutorial_term1 if line.target == snapshot.program.loss_names.entry else None
    if term is None or np.isfinite(term).all():
        return EMPTY
    return text(palette, f"{palette.glyphs.not_finite} {_UNDERFLOW}", palette.warning)


def _welcome(palette: Palette, width: int, first: list[tuple[str, str]]) -> Box:
    keys = grid([(text(palette, key, palette.accent), text(palette, what)) for key, what in first], gap=2)
    return vstack(_paragraph(palette, _WELCOME, width), keys)


def _paragraph(palette: Palette, words: str, width: int) -> Box:
    return text(palette, fill(words, max(width, 1)))
