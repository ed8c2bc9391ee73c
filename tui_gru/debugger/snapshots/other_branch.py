"""The branch that the current one is compared with, as of the same moment."""

from __future__ import annotations

from dataclasses import dataclass

from tui_gru.debugger.timeline.moment import Moment
from tui_gru.debugger.timeline.series import Series
from tui_gru.engine.running.batch import BatchRecord


@dataclass(frozen=True, eq=False)
class OtherBranch:
    """Another branch: its name, its moment at the same tick, and the losses of its computed batches.

    `moment` is None if the branch has not reached the tick; if it does not execute the line at the tick, it is the moment before.
    `previous` is the record of the batch before on that branch, `parted` the last tick that both branches share.
    """

    name: str
    moment: Moment | None
    previous: BatchRecord | None
    losses: Series
    parted: int = 0
