"""A reference to a moment of a run, to check later whether the moment is unchanged (`Timeline.still_has`)."""

from __future__ import annotations

from dataclasses import dataclass

from tui_gru.debugger.timeline.timeline import Timeline


@dataclass(frozen=True, eq=False)
class Anchor:
    """The moment after `tick` on a timeline."""

    timeline: Timeline
    tick: int
