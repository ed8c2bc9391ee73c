"""Sheets: all parameters of a small model, or their gradients, or their last changes, as matrices side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.tui.look.themes import Palette
from tui_gru.tui.widgets.boxes import Box, flow, hstack, text, titled, vstack
from tui_gru.tui.widgets.refs import Refs, refs_of
from tui_gru.tui.widgets.written import ENTRIES, AnyArray, matrix, scale_of

#: The most numbers shown as a sheet.
MOST_ENTRIES = 400


@dataclass(frozen=True)
class Sheet:
    """A quantity of every parameter: `read` returns it from a snapshot, `sign` is written before the parameter's name."""

    name: str
    sign: str
    read: Callable[[Snapshot, str], AnyArray | None]

    def fresh(self, snapshot: Snapshot, parameter: str) -> bool:
        """Return True if the line just executed has computed the quantity of this parameter."""
        line = snapshot.line
        if line is None:
            return False
        return line.target == (f"d{parameter}" if self.sign == "d" else parameter)

    def refs(self, program: Program, parameter: str) -> Refs:
        """Return the function from row and column to the reference of that number."""
        if self.sign == "d" and program.goes_back:
            return refs_of(program, f"d{parameter}")
        return refs_of(program, parameter, change=self.sign == "Δ")

    def there(self, snapshot: Snapshot) -> bool:
        """Return True if the quantity has been computed for any parameter."""
        return any(self.read(snapshot, name) is not None for name in snapshot.program.parameters)


WEIGHTS = Sheet("weights", "", lambda snapshot, name: snapshot.parameter(name))
GRADIENTS = Sheet("gradients", "d", lambda snapshot, name: snapshot.gradient(name))
RECORDED = Sheet("p.grad", "p.grad ", lambda snapshot, name: _recorded(snapshot, name))
CHANGES = Sheet("last change", "Δ", lambda snapshot, name: snapshot.last_step(name))


def computed_by(snapshot: Snapshot) -> Sheet:
    """Return the sheet with the result of the current line: the gradients, or the weights by default."""
    gradients = any(GRADIENTS.fresh(snapshot, parameter) for parameter in snapshot.program.parameters)
    return GRADIENTS if gradients else WEIGHTS


def _recorded(snapshot: Snapshot, name: str) -> AnyArray | None:
    """Return the recorded gradient that the optimizer used; None before the derived one is computed, or if not recorded."""
    given = snapshot.config.given
    recorded = None if given is None else given.batches[snapshot.position.batch].recorded
    there = recorded is not None and snapshot.gradient(name) is not None
    return recorded[name] if recorded is not None and there and not np.isnan(recorded[name]).all() else None


def fits(program: Program, names: Sequence[str], width: int) -> bool:
    """Return True if parameters can be shown as sheets: they have at most MOST_ENTRIES numbers, and none exceeds the width."""
    entry = ENTRIES["signed", True].width + 1
    shapes = {name: program.config.compiled.layout.shapes[name] for name in names}
    widest = max(shape[-1] * entry + 1 + (len(f"{name} ") if len(shape) == 1 else 0) for name, shape in shapes.items())
    return sum(map(prod, shapes.values())) <= MOST_ENTRIES and widest <= width


class _Entry(NamedTuple):
    """All that the drawing of a parameter depends on, with the array as bytes, such that it is a cache key."""

    name: str
    shape: tuple[int, int]
    data: bytes | None
    dtype: str
    fresh: bool
    picked: bool


def sheet(palette: Palette, snapshot: Snapshot, names: Sequence[str], kind: Sheet, width: int, *, compact: bool) -> Box:
    """Draw the parameters `names` as a sheet: the matrices of each gate in a column, then those of the head, and the biases.

    The names that the line just executed reads are highlighted.
    """
    line = snapshot.line
    entries = []
    for name in names:
        parameter = snapshot.record.before[name]
        array = kind.read(snapshot, name)
        fresh = kind.fresh(snapshot, name)
        picked = fresh or (line is not None and kind.sign + name in line.reads)
        shape = (1, *parameter.shape)[-2:]
        data = None if array is None else array.tobytes()
        entries.append(_Entry(name, (shape[0], shape[1]), data, (parameter if array is None else array).dtype.str, fresh, picked))
    return _drawn(palette, kind, snapshot.program, tuple(entries), width, compact)


@lru_cache(maxsize=16)
def _drawn(palette: Palette, kind: Sheet, program: Program, entries: tuple[_Entry, ...], width: int, compact: bool) -> Box:
    arrays = [None if e.data is None else np.frombuffer(e.data, e.dtype).reshape(e.shape) for e in entries]
    scale = max((scale_of(array) for array in arrays if array is not None), default=1.0)
    boxes = {}
    for entry, array in zip(entries, arrays, strict=True):
        refs = kind.refs(program, entry.name)
        box = matrix(palette, array, shape=entry.shape, scale=scale, fresh=entry.fresh, compact=compact, refs=refs)
        ink = palette.accent if entry.picked else palette.dim
        title = text(palette, kind.sign + entry.name, ink)
        above = len(program.names[entry.name].axes) == 2 and entry.name not in program.of_head
        boxes[entry.name] = titled(title, box) if above else hstack(title, replace(box, axis=0))
    columns = [_column(*(boxes[name] for name in names), leading=1) for names in program.matrices_by_gate if names[0] in boxes]
    vectors = [name for name in boxes if len(program.names[name].axes) != 2]
    head = [boxes[name] for name in program.of_head if name not in vectors]
    own, biases = ([boxes[name] for name in vectors if (name in program.of_head) is of_head] for of_head in (True, False))
    together = _column(*own, *biases)
    roomy = sum(box.height for box in head) + together.height < max((column.height for column in columns), default=0)
    beside = [_column(*biases)] if biases else []
    ways = (
        [*columns, _column(*head, together, leading=int(roomy))],
        [*columns, *beside, _column(*head, *own)],
        [*columns, *beside, *head, *own],
    )
    return min((flow(way, width, gap=2) for way in ways), key=lambda box: box.height)


def _column(*boxes: Box, leading: int = 0) -> Box:
    """Stack boxes to a column; columns side by side are aligned at their tops."""
    return replace(vstack(*boxes, gap=leading), axis=0)
