"""Creates the lines that log points write at the places that a run has passed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tui_gru.debugger.breakpoints.hit_counter import HitCounter, ScalarCache
from tui_gru.debugger.breakpoints.resolved import ResolvedStop
from tui_gru.debugger.breakpoints.stop_search import StopSearch
from tui_gru.debugger.expressions.text import ConditionError
from tui_gru.debugger.state.hit_counts import HitCache
from tui_gru.debugger.state.stops import LogLine
from tui_gru.debugger.timeline.moment import Moment, value_before
from tui_gru.debugger.timeline.segment import Monitor
from tui_gru.debugger.timeline.timeline import Timeline

MOST_LINES = 1000  # per branch


def lines_between(
    stops: Sequence[ResolvedStop], timeline: Timeline, cache: HitCache, after: int, upto: int, monitor: Monitor, most: int
) -> list[LogLine]:
    """Return the last `most` lines that log points write at places after `after`, up to `upto`, in order."""
    passed: list[tuple[int, int, ResolvedStop]] = []
    columns = ScalarCache(timeline)
    for stop in stops:
        counter = HitCounter(stop, timeline, cache.of(timeline, stop.key), columns, matters=True)
        ticks = StopSearch(timeline, [counter], monitor).latest(counter, after, upto, most)
        passed += [(tick, stop.id, stop) for tick in ticks]
    passed.sort(key=lambda each: each[:2])
    lines: list[LogLine] = []
    for tick, id, stop in passed[-most:]:
        moment = timeline.moment(tick)
        if monitor(moment.position.number, moment.record):
            break
        lines.append(LogLine(tick, id, _rendered(stop, timeline, moment)))
    return lines


def merged(old: Sequence[LogLine], new: Sequence[LogLine], most: int) -> tuple[LogLine, ...]:
    """Merge old and new lines in order; for each place and log point the newer line is used. Returns the last `most`."""
    by_place = {(line.tick, line.id): line for line in (*old, *new)}
    return tuple(sorted(by_place.values()))[-most:]


def _rendered(stop: ResolvedStop, timeline: Timeline, moment: Moment) -> str:
    assert stop.log is not None
    previous = timeline.before(moment.position.number) if stop.log.previous else None
    try:
        return stop.log.render(moment.value, partial(value_before, moment, previous))
    except ConditionError as error:
        return f"cannot be written: {error}"
