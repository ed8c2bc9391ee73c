"""A batch of given numbers, row by row: how large input and output are at each timestep, and how far off the expected output."""

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

_CELL = 5  # of a timestep
_OFF = "off by"


class _Line(NamedTuple):
    """One line of a row of the batch: what it is called, and a text for each timestep; empty where there is nothing yet."""

    name: str
    cells: list[str]


def whole_size(snapshot: Snapshot) -> Size:
    """The cells that the batch takes with all rows and timesteps."""
    lines = len(_lines(snapshot, 0, range(1)))
    return Size(_label(snapshot) + _CELL * snapshot.config.seq_length, 1 + lines * snapshot.config.batch_size)


def given_sequence(palette: Palette, snapshot: Snapshot, row: int | None, width: int, height: int) -> Box:
    """As many rows as fit, with the timesteps around the one at work."""
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
    """The gradient of the state that the model hands on."""
    return f"d{snapshot.program.main_state}"


def _lines(snapshot: Snapshot, row: int, steps: range) -> list[_Line]:
    """|x|, or the token that is read; |h| and |dh| where they have been computed; how far h is off, where one is expected."""
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
        lines.append(_Line(_OFF, ["" if value is None else _off(value[row] - expected[t, row]) for value, t in pairs]))
    return lines


def expected_output(snapshot: Snapshot) -> Array | None:
    """The output that the batch should have, as its owner computed it; None where it is not known, or is not what is shown."""
    given = snapshot.config.given
    expected = None if given is None else given.batches[snapshot.position.batch].expected
    fits = expected is not None and expected.shape == snapshot.record.array(_output(snapshot)).shape
    return expected if fits else None


def _size(vector: Array) -> str:
    """The Euclidean norm, in four cells where it is no larger than usual."""
    return four(float(np.linalg.norm(vector.astype(np.float64))))


def _off(difference: Array) -> str:
    """The largest difference in four cells; one below 1e-9 is `~0`."""
    largest = float(np.abs(difference).max(initial=0))
    return "~0" if 0 < largest < 9.5e-10 else f"{largest:.0e}".replace("e-0", "e-").replace("0e+00", "0")
