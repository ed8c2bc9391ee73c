"""The segments of a timeline in order, with lookups: the segment in force at a tick, and the batches that learn."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.steps import StepIndex

if TYPE_CHECKING:
    from tui_gru.debugger.timeline.segment import HistorySegment

MOST = 4


@dataclass(frozen=True, eq=False, slots=True)
class Chain:
    """A segment and the segments before it, without those that another segment replaced at the same tick.

    `runs` lists (first batch, learns). Whether a batch learns is decided when its loss has been computed.
    """

    program: Program
    segments: tuple[HistorySegment, ...] = ()
    starts: tuple[int, ...] = ()
    first_batches: tuple[int, ...] = ()
    runs: tuple[tuple[int, bool], ...] = ()
    _indices: dict[str, StepIndex] = field(default_factory=dict)

    def then(self, more: Iterable[HistorySegment]) -> Chain:
        """Return the chain with more segments, each of which takes over from the one before it."""
        segments, starts, firsts, runs = list(self.segments), list(self.starts), list(self.first_batches), list(self.runs)
        for segment in more:
            if starts and starts[-1] == segment.start:
                del segments[-1], starts[-1], firsts[-1]
            segments.append(segment)
            starts.append(segment.start)
            firsts.append(segment.first_batch)
            _add(runs, segment, self.program)
        return Chain(self.program, tuple(segments), tuple(starts), tuple(firsts), tuple(runs))

    def at(self, tick: int) -> HistorySegment:
        """Return the segment in force at a tick: the last one that began at or before it."""
        return self.segments[bisect_right(self.starts, tick) - 1]

    def beginning_at(self, tick: int) -> HistorySegment | None:
        """Return the segment that begins at a tick; None if there is none."""
        i = bisect_left(self.starts, tick)
        return self.segments[i] if i < len(self.starts) and self.starts[i] == tick else None

    def owner(self, batch: int) -> int:
        """Return the index of the last segment in force in a batch."""
        return bisect_right(self.first_batches, batch) - 1

    def step_index(self, level: str) -> StepIndex:
        """Return the step index of one level."""
        if level not in self._indices:
            self._indices[level] = StepIndex(self.program, level, self.runs)
        return self._indices[level]

    def shared(self, other: Chain) -> int:
        """Return the number of leading segments that two chains share."""
        mine, theirs = self.segments, other.segments
        return bisect_left(range(min(len(mine), len(theirs))), True, key=lambda i: mine[i] is not theirs[i])


def _add(runs: list[tuple[int, bool]], segment: HistorySegment, program: Program) -> None:
    """Add which batches learn from the start of a segment on."""
    batch = max(0, -(-(segment.start - program.loss_tick) // program.ticks))
    while runs and runs[-1][0] >= batch:
        runs.pop()
    for first, learns in ((batch, segment.settings.learns(batch)), (batch + 1, segment.settings.learning)):
        if not runs or runs[-1][1] != learns:
            runs.append((first, learns))


class Chains:
    """A cache of the chains used last. Others are built again from their last segments."""

    def __init__(self, program: Program) -> None:
        self._none, self._lock = Chain(program), threading.Lock()  # the screen reads losses during a run
        self._cached: OrderedDict[HistorySegment, Chain] = OrderedDict()

    def of(self, last: HistorySegment) -> Chain:
        """Return the chain that ends with a segment."""
        with self._lock:
            if last not in self._cached:
                self._build(last)
            self._cached.move_to_end(last)
            return self._cached[last]

    def _build(self, last: HistorySegment) -> None:
        missing: list[HistorySegment] = []
        segment: HistorySegment | None = last
        while segment is not None and segment not in self._cached:
            missing.append(segment)
            segment = segment.before
        chain = self._none if segment is None else self._cached[segment]
        self._cached[last] = chain.then(reversed(missing))
        while len(self._cached) > MOST:
            self._cached.popitem(last=False)
