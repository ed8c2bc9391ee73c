"""The branch that this one is compared with, and a snapshot of the differences between both."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from tui_gru.debugger.program.names import CHARACTERS, COUNTERS
from tui_gru.debugger.snapshots.snapshot import Snapshot, last_step
from tui_gru.debugger.timeline.moment import Moment
from tui_gru.debugger.timeline.timeline import ScalarSeries
from tui_gru.engine.numbers import same
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.weights import Array


@dataclass(frozen=True, eq=False)
class OtherBranch:
    """Another branch: its name, its moment at the same tick, and the losses of its computed batches.

    `moment` is None if the branch has not reached the tick; if it does not execute the line at the tick, it is the moment before.
    `previous` is the record of the batch before on that branch, `parted` the last tick that both branches share.
    """

    name: str
    moment: Moment | None
    previous: BatchRecord | None
    losses: ScalarSeries
    parted: int = 0


_NOT_NUMBERS = (*CHARACTERS, *COUNTERS)


def differences(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot of the differences from the compared branch; the snapshot itself if there is none."""
    if snapshot.other is None:
        return snapshot
    return Differences(**{field.name: getattr(snapshot, field.name) for field in fields(Snapshot)})


def difference(mine: Any, theirs: Any) -> Any:
    """Return mine − theirs of two arrays or two numbers, in float64; None if one of them is None.

    It is 0 exactly where the two are equal or both NaN; different numbers never give 0. Differences of float32 values are exact
    unless one is more than 2^29 times as large as the other; differences of float64 values are rounded once.
    """
    if mine is None or theirs is None:
        return None
    a, b = np.asarray(mine, np.float64), np.asarray(theirs, np.float64)
    with np.errstate(all="ignore"):
        result = np.where(same(a, b), 0.0, a - b)
    return result if result.ndim else float(result)


class Differences(Snapshot):
    """A snapshot whose values are differences. A value is None if it is not computed yet on one of the branches."""

    @property
    def minus(self) -> str:
        assert self.other is not None
        return self.other.name

    def value(self, name: str, t: int | None = None) -> Any:
        mine = super().value(name, t)
        if name in _NOT_NUMBERS:
            return mine
        return self._difference(mine, lambda moment: moment.value(name, self.position.t if t is None else t))

    def parameter(self, name: str) -> Any:
        """Return the difference of a parameter; None if the other branch has not reached this moment."""
        return self.value(name)

    def gradient(self, name: str) -> Array | None:
        shown: Array | None = self._difference(super().gradient(name), lambda moment: moment.gradient(name))
        return shown

    def gradient_before(self, name: str) -> Array | None:
        shown: Array | None = self._difference(super().gradient_before(name), lambda moment: moment.gradient_before(name))
        return shown

    def last_step(self, name: str) -> Array | None:
        other = self.other
        assert other is not None
        previous = other.previous
        shown: Array | None = self._difference(super().last_step(name), lambda moment: last_step(moment, previous, name))
        return shown

    @property
    def tutorial_term1(self) -> None:
        """None: where term 1 of the tutorial's code matters, it is not finite and has no difference."""

    def _difference(self, mine: Any, theirs: Any) -> Any:
        assert self.other is not None
        moment = self.other.moment
        return None if moment is None else difference(mine, theirs(moment))
