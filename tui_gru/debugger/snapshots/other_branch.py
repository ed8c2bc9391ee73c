"""The branch that the present one is compared with, as of the same moment."""

from __future__ import annotations

from dataclasses import dataclass

from tui_gru.debugger.timeline.moment import Moment
from tui_gru.debugger.timeline.series import Series
from tui_gru.engine.batch import BatchRecord


@dataclass(frozen=True, eq=False)
class OtherBranch:
    """Another branch: its name, what can be read on it at the same tick, and the loss of every batch run so far on it.

    `moment` is None where it has not come so far; where it steps over the line that is at work here, it is the place before.
    `previous` is the record of its batch before.
    """

    name: str
    moment: Moment | None
    previous: BatchRecord | None
    losses: Series
