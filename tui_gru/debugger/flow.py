"""How the gradient flows back through time: how large it is at each timestep, and by which paths it goes on to the one before.

All of it are Euclidean norms, over the rows of the batch and the units, or over the units of one row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np

from tui_gru.debugger.moment import Moment
from tui_gru.debugger.program import PATHS
from tui_gru.engine.parameters import Array
from tui_gru.engine.record import BatchRecord


@dataclass(frozen=True)
class Flow:
    """The gradient at one timestep: the norm of dh, and of its parts from this timestep's output and from the future.

    `handed_on` is the norm of dh_prev, `paths` of each of the four that are its sum, in the order of `PATHS`; None until the line
    that computes them has been executed.
    """

    t: int
    dh: float
    from_output: float
    from_future: float
    handed_on: float | None = None
    paths: tuple[float, ...] | None = None

    @property
    def shares(self) -> tuple[float, ...] | None:
        """Each path's norm over the sum of the four norms: they add up to 1. None where none of them is more than 0, or finite."""
        total = math.fsum(self.paths or ())
        if self.paths is None or total == 0 or not math.isfinite(total):
            return None
        return tuple(path / total for path in self.paths)


def flow(moment: Moment, row: int | None = None) -> tuple[Flow | None, ...]:
    """The flow at every timestep, of all rows of the batch or of one (0-based); None where dh has not been computed yet."""
    steps = range(moment.program.seq_length)
    if not moment.learned or not moment.executed("dh", steps[-1]):
        return (None,) * len(steps)
    norms = _norms(moment.record, row)

    def at(t: int) -> Flow | None:
        if not moment.executed("dh", t):
            return None
        reached = Flow(t, norms["dh"][t], norms["dh_output"][t], norms["dh_future"][t])
        if not moment.executed("dh_prev", t):
            return reached
        return replace(reached, handed_on=norms["dh_prev"][t], paths=tuple(norms[name][t] for name in PATHS))

    return tuple(at(t) for t in steps)


_known: WeakKeyDictionary[BatchRecord, dict[int | None, dict[str, list[float]]]] = WeakKeyDictionary()


def _norms(record: BatchRecord, row: int | None) -> dict[str, list[float]]:
    """The norm of each delta at each timestep. Taken once for a record, since it takes a while in a large one."""
    found = _known.setdefault(record, {})
    if row not in found:
        chosen = slice(None) if row is None else slice(row, row + 1)
        with np.errstate(all="ignore"):
            found[row] = {
                name: _norm(record.array(name)[:, chosen]) for name in ("dh", "dh_output", "dh_future", "dh_prev", *PATHS)
            }
    return found[row]


def _norm(array: Array) -> list[float]:
    """Of each timestep, in float64: squares of large numbers would not fit a float32."""
    wide = array.reshape(len(array), -1).astype(np.float64)
    norms: list[float] = np.sqrt(np.einsum("tn,tn->t", wide, wide)).tolist()
    return norms
