"""What stands in the place of a prediction and a loss where a model has none: its output beside the expected one, and p.grad."""

from __future__ import annotations

from math import log10
from textwrap import fill

import numpy as np
from rich.segment import Segment

from tui_gru.debugger.program.naming import spoken
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.engine import numbers
from tui_gru.engine.running.weights import Array
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.palette import Palette
from tui_gru.tui.panels.values.given_sequence import expected_output
from tui_gru.tui.widgets.bars import bars
from tui_gru.tui.widgets.boxes import Box, Row, clip, from_rows, hstack, text, vstack
from tui_gru.tui.widgets.refs import Cell, Ref

_LEAST, _DECADES = 1e-8, 8  # a bar is full at 1, and ten times as much takes an eighth of it
_BARS, _NAME, _NUMBER = 32, 26, 12  # cells of the bars where numbers stand beside them, of a name and of a number
_ENTRY = _NAME + 3 * _NUMBER


def title(snapshot: Snapshot) -> str:
    """What the panel of the prediction shows instead."""
    return "off the expected output" if expected_output(snapshot) is not None else "output"


def difference_over_time(palette: Palette, snapshot: Snapshot, width: int, height: int) -> Box:
    """How far the output is off the expected one at each timestep that has been computed, bars on a logarithmic scale.

    Where there is room, as in a zoomed panel, the numbers of this timestep stand beside it, those furthest off first.
    """
    expected, output = expected_output(snapshot), snapshot.program.model.page.output
    if expected is None:
        words = "this model ends at its states; an output that is expected of it is compared here"
        return _words(palette, words, width, height)
    if width >= _BARS + _ENTRY:
        table = _number_by_number(palette, snapshot, expected, height)
        return hstack(difference_over_time(palette, snapshot, min(width - _ENTRY, _BARS), height), table)
    T, here = snapshot.config.seq_length, snapshot.position.t
    start = min(max(here - height // 2, 0), max(T - height, 0))
    values, labels = [], []
    for t in range(start, min(start + height, T)):
        value = snapshot.value(output, t)
        apart = np.nan if value is None else float(np.abs(value - expected[t]).max(initial=0))
        values.append(max(log10(apart / _LEAST), 0) / _DECADES if apart > 0 else 0.0)
        labels.append(f"t {t + 1}".rjust(len(f"t {T}")) + ("      " if value is None else f" {apart:5.0e}"))
    return clip(palette, bars(palette, values, labels, width, word=False, write=lambda value: ""), width, height)


def _number_by_number(palette: Palette, snapshot: Snapshot, expected: Array, height: int) -> Box:
    """The entries of the output at this timestep: ours, the expected number, and the difference."""
    output, t = snapshot.program.model.page.output, snapshot.position.t
    value = snapshot.value(output, t)
    head = f"  at t {t + 1}".ljust(_NAME) + "".join(words.rjust(_NUMBER) for words in ("here", "expected", "off by"))
    rows: list[Row] = [(Segment(head, palette.dim),)]
    off = np.zeros((0, 0)) if value is None else value - expected[t]
    furthest = np.argsort(-np.abs(np.nan_to_num(off, nan=np.inf)).ravel(), kind="stable")[: max(height - 1, 0)]
    for row, unit in zip(*map(np.ndarray.tolist, np.unravel_index(furthest, off.shape)), strict=True):
        assert value is not None
        name = f"  {spoken(snapshot.program, output, (row, unit))}"
        ours = Cell.of(numbers.wide(value[row, unit]).rjust(_NUMBER), palette.plain, Ref(output, (row, unit), t))
        others = numbers.wide(expected[t, row, unit]).rjust(_NUMBER), f"{off[row, unit]:+.1e}".rjust(_NUMBER)
        rows.append((Segment(name.ljust(_NAME), palette.dim), ours, *(Segment(words, palette.second) for words in others)))
    return from_rows(rows)


def about_gradients(palette: Palette, snapshot: Snapshot, width: int, height: int) -> Box:
    """How the gradients that an optimizer used came from the derived ones, once the backward pass has begun."""
    given = snapshot.config.given
    if given is None or not given.learns:
        return _words(palette, "this model ends without a loss", width, height)
    if snapshot.position.phase != "backward":
        return _words(palette, "the gradient of the loss is given, as it came back from your script's head and loss", width, height)
    return _words(palette, given.batches[snapshot.position.batch].said(), width, height)


def _words(palette: Palette, words: str, width: int, height: int) -> Box:
    lines = fill(transliterate(words, palette.glyphs), max(width, 1))
    return clip(palette, vstack(text(palette, lines, palette.dim)), width, height)
