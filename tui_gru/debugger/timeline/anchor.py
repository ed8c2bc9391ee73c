"""A reference to a moment of a run, to check later whether the moment is unchanged (`Timeline.still_has`)."""

from __future__ import annotations

from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.immutable import immutable


@immutable(eq=False)
class Anchor:
    """The moment after `tick` on a timeline."""

    timeline: Timeline
    tick: int
