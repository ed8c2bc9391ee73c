"""Shown instead of prediction and loss for a model without them: output, expected output, and the origin of gradients."""

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

_LEAST, _DECADES = 1e-8, 8  # the bars show differences from 1e-8 (empty) to 1 (full), that is 8 powers of ten
_BARS, _NAME, _NUMBER = 32, 26, 12  # cells: of the bars beside numbers, of a name, of a number
_ENTRY = _NAME + 3 * _NUMBER


def title(snapshot: Snapshot) -> str:
    """Return the title of the panel."""
    return "difference from the expected output" if expected_output(snapshot) is not None else "output"


def difference_over_time(palette: Palette, snapshot: Snapshot, width: int, height: int) -> Box:
    """Draw the largest difference from the expected output at each computed timestep, as bars on a logarithmic scale.

    If there is room, as in a zoomed panel, the numbers of this timestep are drawn beside it, the largest difference first.
    """
    expected, output = expected_output(snapshot), snapshot.program.model.page.output
    if expected is None:
        words = "this model ends at its states; if an expected output is given, it is compared here"
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
    """Draw the entries of the output at this timestep: computed, expected, and the difference."""
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
    """Draw how the gradients that the optimizer used result from the derived ones, once the backward phase has begun."""
    given = snapshot.config.given
    if given is None or not given.learns:
        return _words(palette, "this model ends without a loss", width, height)
    if snapshot.position.phase != "backward":
        return _words(palette, "the gradient of the loss is given: your script's head and loss computed it", width, height)
    return _words(palette, given.batches[snapshot.position.batch].remarks(), width, height)


def _words(palette: Palette, words: str, width: int, height: int) -> Box:
    lines = fill(transliterate(words, palette.glyphs), max(width, 1))
    return clip(palette, vstack(text(palette, lines, palette.dim)), width, height)
