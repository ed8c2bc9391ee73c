"""Finding a moment by what happens in it: a condition is tested each time something that it reads is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.conditions import Condition, ConditionError
from tui_gru.debugger.history import COLUMNS
from tui_gru.debugger.position import Position
from tui_gru.debugger.probe import Found, Probe
from tui_gru.debugger.segment import Monitor
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine.batch import BatchRecord

WHOLE_COLUMNS = frozenset({*COLUMNS, "epoch", "batch"})
CHUNK = 32  # batches, at least, that a search against time goes through at once, in the order of time

Search = Callable[[Condition, Timeline, int, Position | None, Monitor], Found]


def search_forward(condition: Condition, timeline: Timeline, tick: int, end: Position | None, monitor: Monitor) -> Found:
    """The first place after `tick` where the condition holds or fails; where the run ended or was stopped if there is none."""
    probe = Probe(condition, timeline, after=tick)
    found: Found | None = None
    first = reached = max(tick - 1, 0) // timeline.program.ticks

    def visit(batch: int, record: BatchRecord) -> bool:
        nonlocal found, reached
        found, reached = probe.add(batch, record), batch
        return found is not None or monitor(batch, record)

    candidates = _batches_that_may(condition, timeline, first, timeline.computed)
    if candidates is not None:
        for batch in candidates.tolist():
            stopped = visit(batch, timeline.record(batch))
            if (found := found or probe.settle()) or stopped:
                return found or Found(max(tick, timeline.end_of(reached)))
        first, reached = timeline.computed + 1, timeline.computed
    timeline.walk(first, None if end is None else end.number, visit)
    return found or probe.settle() or Found(max(tick, timeline.end_of(reached)))


def search_back(condition: Condition, timeline: Timeline, tick: int, end: Position | None, monitor: Monitor) -> Found:
    """The last place before `tick` where the condition holds or fails; the beginning if there is none."""
    probe = Probe(condition, timeline, before=tick, last=True)
    found: Found | None = None
    last = max(tick - 1, 0) // timeline.program.ticks

    def visit(batch: int, record: BatchRecord) -> bool:
        nonlocal found
        found = probe.add(batch, record) or found
        return monitor(batch, record)

    candidates = _batches_that_may(condition, timeline, 0, last)
    while last >= 0:
        if candidates is None:
            first = timeline.replay_start(max(0, last - CHUNK + 1))
        elif candidates.size:
            first = last = int(candidates[-1])
            candidates = candidates[:-1]
        else:
            break
        if timeline.walk(first, last, visit):
            return Found(min(tick, timeline.end_of(last)))
        if found := probe.settle() or found:
            return found
        last = first - 1
    return Found(0)


def _batches_that_may(condition: Condition, timeline: Timeline, first: int, last: int) -> NDArray[np.intp] | None:
    """For a condition on whole columns: the batches `first` … `last` in which it may hold, in order.

    None for any other, for one that is tested before and after the update, and for one that cannot be evaluated somewhere.
    """
    names = condition.names
    if not condition.scalar(WHOLE_COLUMNS) or ("max_weight" in names and names & {"loss", "grad_norm"}):
        return None
    begin = max(first - 1, 0) if condition.previous else first
    numbers, learned = np.arange(begin, last + 1), timeline.learned(begin, last)
    columns: dict[str, Any] = {name: timeline.column(name, begin, last) for name in names & set(COLUMNS)}
    columns["epoch"], columns["batch"] = np.divmod(numbers, timeline.program.num_batches)
    before = None
    if condition.previous:
        before = {name: column[:-1] for name, column in columns.items()}
        columns = {name: column[1:] for name, column in columns.items()}
        numbers, learned = numbers[1:], learned[:-1] if "grad_norm" in condition.previous else learned[1:]
    try:
        holds = condition.over_columns(columns, before)
    except ConditionError:
        return None
    return numbers[holds & learned if "grad_norm" in names else holds]
