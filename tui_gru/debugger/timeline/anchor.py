"""A reference to a moment of a run, to check later whether the moment is unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tui_gru.debugger.timeline.changes import changeable
from tui_gru.debugger.timeline.timeline import Timeline


@dataclass(frozen=True, eq=False)
class Anchor:
    """The moment after `tick` on a timeline."""

    timeline: Timeline
    tick: int

    def holds_in(self, timeline: Timeline) -> bool:
        """Whether a timeline has this moment too, with all its numbers."""
        parted = timeline.parted(self.timeline)
        if parted != self.tick:
            return parted > self.tick
        here, there = self.timeline.moment(self.tick), timeline.moment(self.tick)
        return all(_same(here.value(name), there.value(name)) for name in changeable(timeline.program))


def _same(mine: Any, theirs: Any) -> bool:
    """Whether two values are equal, NaN to NaN; None is a value that is not computed."""
    if mine is None or theirs is None:
        return mine is theirs
    return np.array_equal(mine, theirs, equal_nan=True)
