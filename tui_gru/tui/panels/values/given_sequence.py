"""A batch of given numbers: for each row and timestep the norms of input, output and gradient, and the output's difference."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from rich.segment import Segment
from textual.geometry import Size

from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.engine.numbers import four
from tui_gru.engine.running.weights import Array
from tui_gru.equations.compose import LIVE
from tui_gru.tui.look.palette import Palette
from tui_gru.tui.widgets.boxes import Box, Row, from_rows
from tui_gru.tui.widgets.written import kept

_CELL = 5  # cells of a timestep
_OFF = "off by"


class _Line(NamedTuple):
    """A line of a row of the batch: its name, and a text per timestep, empty if not computed yet."""

    name: str
    cells: list[str]


def whole_size(snapshot: Snapshot) -> Size:
    """Return the size of the batch with all rows and timesteps, in cells."""
    lines = len(_lines(snapshot, 0, range(1)))
    return Size(_label(snapshot) + _CELL * snapshot.config.seq_length, 1 + lines * snapshot.config.batch_size)


def given_sequence(palette: Palette, snapshot: Snapshot, row: int | None, width: int, height: int) -> Box:
    """Draw as many rows as fit, with the timesteps around the current one."""
    T, label = snapshot.config.seq_length, _label(snapshot)
    count = max(min((width - label) // _CELL, T), 1)
    start = min(max(snapshot.position.t - count // 2, 0), T - count)
    steps = range(start, start + count)
    current = snapshot.timestep
    heads = ((f"t {t + 1}".rjust(_CELL)[-_CELL:], palette.accent if t == current else palette.dim) for t in steps)
    lines: list[Row] = [(Segment(" " * label), *(Segment(*head) for head in heads))] if height > 2 else []
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
    given = snapshot.config.given
    expected = None if given is None else given.batches[snapshot.position.batch].expected
    fits = expected is not None and expected.shape == snapshot.record.array(_output(snapshot)).shape
    return expected if fits else None


def _size(vector: Array) -> str:
    """Format the Euclidean norm, in four cells unless it is very large."""
    return four(float(np.linalg.norm(vector.astype(np.float64))))


def difference_shown(difference: Array) -> str:
    """Format the largest absolute difference in four cells; below 1e-9 it is `~0`."""
    largest = float(np.abs(difference).max(initial=0))
    return "~0" if 0 < largest < 9.5e-10 else f"{largest:.0e}".replace("e-0", "e-").replace("0e+00", "0")
