"""The flow of the gradient back through time: its norm at each timestep, and the norms of the paths to the timestep before.

All norms are Euclidean, over the rows of the batch and the units, or over the units of one row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.timeline.moment import Moment
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.weights import Array
from tui_gru.equations.expression import Name
from tui_gru.equations.names import split


class FlowNames(NamedTuple):
    """The names along which the gradient of a state flows through time.

    `delta` is the gradient of the state, `own` its part from this timestep (empty if it has no name), `ahead` its part from the
    timestep that reads the state. `handed_on` is the gradient passed on to the previous state, and `paths` are its terms. `way`
    is the direction in which the gradient flows through the timesteps, 1 or −1.
    """

    delta: str
    own: str
    ahead: str
    handed_on: str
    paths: tuple[str, ...]
    way: int


@dataclass(frozen=True)
class Flow:
    """The gradient of a state at one timestep: its norm, and the norms of its parts from this timestep and from the one that
    reads it.

    `handed_on` is the norm of the gradient passed to the timestep before, and `paths` has the norms of its terms; None until the
    line that computes them has been executed.
    """

    t: int
    dh: float
    from_output: float
    from_future: float
    handed_on: float | None = None
    paths: tuple[float, ...] | None = None

    @property
    def shares(self) -> tuple[float, ...] | None:
        """The norm of each path over the sum of all norms. None if the sum is 0 or not finite."""
        total = math.fsum(self.paths or ())
        if self.paths is None or total == 0 or not math.isfinite(total):
            return None
        return tuple(path / total for path in self.paths)


def flow_names(program: Program, state: str) -> FlowNames:
    """Return the names along which the gradient of a state flows."""
    page = program.model.page
    ahead, handed_on = page.ahead(state), f"d{page.before(state)}"
    line = program.lines[f"d{state}"]
    assert line.formula is not None
    own = [term.label for term in line.formula.terms if not (isinstance(term, Name) and term.name == ahead)]
    terms = program.lines[handed_on].formula
    assert terms is not None
    paths = tuple(term.label or (term.name if isinstance(term, Name) else "") for term in terms.terms)
    place = program.place_of(f"d{state}")
    assert place is not None
    named = paths if all(paths) else (handed_on,)
    return FlowNames(f"d{state}", own[0] if len(own) == 1 else "", ahead, handed_on, named, place[0].way)


def paths_of(program: Program, state: str) -> tuple[tuple[str, str], ...]:
    """Return a letter and a word for each path along which the gradient of a state continues.

    They come from the label or target of the line that the path passes through.
    """
    found: list[tuple[str, str]] = []
    for path in flow_names(program, state).paths:
        reading = program.model.backward.paths.get(path)
        target = program.written_with.get(reading.step, reading.step) if reading is not None else ""
        line = next((line for line in program.model.page.lines if line.target == target), None)
        word = "all" if line is None else line.label or program.writer.name(split(target)[0])
        letter = word[0] if line is None or line.target in program.model.page.states else line.target[0]
        taken = {other for other, _ in found}
        found.append((next((sign for sign in (letter, *word) if sign not in taken), letter), word))
    return tuple(found)


def flow(moment: Moment, state: str, row: int | None = None) -> tuple[Flow | None, ...]:
    """Return the flow of the gradient of a state at each timestep, of all rows of the batch or of one (0-based).

    It is None at timesteps not computed yet.
    """
    names = flow_names(moment.program, state)
    steps = range(moment.program.seq_length)
    if not moment.learned or not moment.executed(names.delta, 0 if names.way > 0 else steps[-1]):
        return (None,) * len(steps)
    norms = _delta_norms(moment.record, names, row)

    def at(t: int) -> Flow | None:
        if not moment.executed(names.delta, t):
            return None
        reached = Flow(t, norms[names.delta][t], norms[_OWN][t], norms[names.ahead][t])
        if not moment.executed(names.handed_on, t):
            return reached
        return replace(reached, handed_on=norms[names.handed_on][t], paths=tuple(norms[name][t] for name in names.paths))

    return tuple(at(t) for t in steps)


_OWN = "own"  # the part of a gradient that comes from its own timestep
_known: WeakKeyDictionary[BatchRecord, dict[tuple[FlowNames, int | None], dict[str, list[float]]]] = WeakKeyDictionary()


def _delta_norms(record: BatchRecord, names: FlowNames, row: int | None) -> dict[str, list[float]]:
    """Return the norm of each delta at each timestep; cached per record, since it is slow for large records."""
    found = _known.setdefault(record, {})
    if (names, row) not in found:
        chosen = slice(None) if row is None else slice(row, row + 1)
        arrays = {name: record.array(name)[:, chosen] for name in (names.delta, names.ahead, names.handed_on, *names.paths)}
        with np.errstate(all="ignore"):
            own = record.array(names.own)[:, chosen] if names.own else arrays[names.delta] - arrays[names.ahead]
            found[names, row] = {name: norms_over_time(array) for name, array in (*arrays.items(), (_OWN, own))}
    return found[names, row]


def norms_over_time(array: Array) -> list[float]:
    """Return the norm of each timestep, (T), computed in float64, since squares of large numbers would overflow float32."""
    wide = array.reshape(len(array), -1).astype(np.float64)
    norms: list[float] = np.sqrt(np.einsum("tn,tn->t", wide, wide)).tolist()
    return norms
