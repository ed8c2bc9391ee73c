"""A run on imported batches: what is shown in the place of the sequence, the prediction and the loss of a text."""

from __future__ import annotations

from math import log10
from textwrap import fill
from typing import NamedTuple

import numpy as np
from rich.segment import Segment
from textual.geometry import Size

from tui_gru.debugger.program import spoken
from tui_gru.engine import numbers
from tui_gru.engine.numbers import four
from tui_gru.engine.source import Ability
from tui_gru.engine.weights import Array
from tui_gru.equations.page import LIVE
from tui_gru.session.snapshot import Snapshot
from tui_gru.tui.draw import Box, Cell, Ref, SegmentRow, bars, clip, from_rows, hstack, text, vstack
from tui_gru.tui.theme import Palette, transliterate
from tui_gru.tui.written import kept

_CELL = 5  # cells of a timestep
_OFF = "off by"
_LEAST, _DECADES = 1e-8, 8  # the bars show differences from 1e-8 (empty) to 1 (full), that is 8 powers of ten
_BARS, _NAME, _NUMBER = 32, 26, 12  # cells: of the bars beside numbers, of a name, of a number
_ENTRY = _NAME + 3 * _NUMBER


class _Line(NamedTuple):
    """A line of a row of the batch: its name, and a text per timestep, empty if not computed yet."""

    name: str
    cells: list[str]


def whole_size(snapshot: Snapshot) -> Size:
    """Return the size of the batch with all rows and timesteps, in cells."""
    lines = len(_lines(snapshot, 0, range(1)))
    return Size(_label(snapshot) + _CELL * snapshot.config.seq_length, 1 + lines * snapshot.config.batch_size)


def imported_sequence(palette: Palette, snapshot: Snapshot, row: int | None, width: int, height: int) -> Box:
    """Draw as many rows as fit, with the timesteps around the current one."""
    T, label = snapshot.config.seq_length, _label(snapshot)
    count = max(min((width - label) // _CELL, T), 1)
    start = min(max(snapshot.position.t - count // 2, 0), T - count)
    steps = range(start, start + count)
    current = snapshot.timestep
    heads = ((f"t {t + 1}".rjust(_CELL)[-_CELL:], palette.accent if t == current else palette.dim) for t in steps)
    lines: list[SegmentRow] = [(Segment(" " * label), *(Segment(*head) for head in heads))] if height > 2 else []
    each = len(_lines(snapshot, 0, steps))
    for i in kept(snapshot.config.batch_size, max((height - len(lines)) // each, 1), row):
        if i is None:
            lines.append((Segment(" " * label), Segment(palette.glyphs.vertical_ellipsis, palette.dim)))
            continue
        ink = palette.plain if row in (None, i) else palette.dim
        for number, line in enumerate(_lines(snapshot, i, steps)):
            name = f"{f'row {i + 1}' if not number else '':<8}{line.name}".ljust(label)
            style = palette.dim if line.name != _OFF else palette.second
            cells = (Segment(cell.rjust(_CELL), ink if line.name != _OFF else style) for cell in line.cells)
            lines.append((Segment(name, style), *cells))
    return from_rows(lines)


def _label(snapshot: Snapshot) -> int:
    shown = snapshot.program.input, _output(snapshot), _gradient(snapshot)
    names = (f"|{snapshot.program.writer.name(name)}|" for name in shown)
    return 9 + max(len(_OFF), *map(len, names))


def _output(snapshot: Snapshot) -> str:
    return snapshot.program.model.page.output


def _gradient(snapshot: Snapshot) -> str:
    """Return the name of the gradient of the main state."""
    return f"d{snapshot.program.main_state}"


def _lines(snapshot: Snapshot, row: int, steps: range) -> list[_Line]:
    """Return the lines of a row: |x| or the token, |h|, |dh| once it is computed, and the difference if an output is expected."""
    program, read, output = snapshot.program, snapshot.program.input, _output(snapshot)
    live = snapshot.record.array(LIVE)[:, row] if LIVE in program.names else np.ones(snapshot.config.seq_length)
    write = program.writer.name
    if program.model.page.inputs[read].one_hot:
        first = _Line(write(read), [str(snapshot.record.ids(read)[t, row]) if live[t] else "" for t in steps])
    else:
        x = snapshot.record.array(read)[:, row]
        first = _Line(f"|{write(read)}|", [_size(x[t]) if live[t] else "" for t in steps])
    values = [snapshot.value(output, t) if live[t] else None for t in steps]
    lines = [first, _Line(f"|{write(output)}|", ["" if value is None else _size(value[row]) for value in values])]
    if snapshot.moment.learned:
        name = _gradient(snapshot)
        gradients = [snapshot.value(name, t) if live[t] else None for t in steps]
        lines.append(_Line(f"|{write(name)}|", ["" if value is None else _size(value[row]) for value in gradients]))
    if (expected := expected_output(snapshot)) is not None:
        pairs = zip(values, steps, strict=True)
        lines.append(_Line(_OFF, ["" if value is None else difference_shown(value[row] - expected[t, row]) for value, t in pairs]))
    return lines


def expected_output(snapshot: Snapshot) -> Array | None:
    """Return the given expected output of the batch; None if there is none, or its shape is not that of the shown output."""
    batch = snapshot.config.source.batch(snapshot.position.batch)
    expected = None if batch is None else batch.expected
    fits = expected is not None and expected.shape == snapshot.record.array(_output(snapshot)).shape
    return expected if fits else None


def _size(vector: Array) -> str:
    """Format the Euclidean norm, in four cells unless it is very large."""
    return four(float(np.linalg.norm(vector.astype(np.float64))))


def difference_shown(difference: Array) -> str:
    """Format the largest absolute difference in four cells; below 1e-9 it is `~0`."""
    largest = float(np.abs(difference).max(initial=0))
    return "~0" if 0 < largest < 9.5e-10 else f"{largest:.0e}".replace("e-0", "e-").replace("0e+00", "0")


def loss_title(snapshot: Snapshot) -> str:
    """Return the title in the place of the loss."""
    return "gradient of the loss" if snapshot.program.goes_back else "loss"


def title(snapshot: Snapshot) -> str:
    """Return the title in the place of the prediction."""
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
    rows: list[SegmentRow] = [(Segment(head, palette.dim),)]
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
    batch, why = snapshot.config.source.batch(snapshot.position.batch), snapshot.config.source.refusals.get(Ability.BACKWARD)
    if batch is None or why is not None:
        return _words(palette, why or "", width, height)
    if snapshot.position.phase != "backward":
        return _words(palette, "the gradient of the loss is given: your script's head and loss computed it", width, height)
    return _words(palette, batch.remarks(), width, height)


def _words(palette: Palette, words: str, width: int, height: int) -> Box:
    lines = fill(transliterate(words, palette.glyphs), max(width, 1))
    return clip(palette, vstack(text(palette, lines, palette.dim)), width, height)
