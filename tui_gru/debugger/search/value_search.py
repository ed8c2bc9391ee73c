"""Finding a moment by what happens in it: a condition is tested each time something that it reads is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.checkpoints.scalars import COLUMNS
from tui_gru.debugger.expressions.conditions import Condition, ConditionError
from tui_gru.debugger.program.position import Position
from tui_gru.debugger.search.probe import Found, Probe
from tui_gru.debugger.timeline.segment import Monitor
from tui_gru.debugger.timeline.timeline import BLOCK, Timeline
from tui_gru.engine.batch import BatchRecord

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

    for low, high in _spans(condition, timeline, first, None if end is None else end.number):
        stopped = timeline.walk(low, high, visit)
        if (found := found or probe.settle()) or stopped:
            break
        reached = reached if high is None else high
    return found or Found(max(tick, timeline.end_of(reached)))


def search_back(condition: Condition, timeline: Timeline, tick: int, end: Position | None, monitor: Monitor) -> Found:
    """The last place before `tick` where the condition holds or fails; the beginning if there is none."""
    probe = Probe(condition, timeline, before=tick, last=True)
    found: Found | None = None

    def visit(batch: int, record: BatchRecord) -> bool:
        nonlocal found
        found = probe.add(batch, record) or found
        return monitor(batch, record)

    for first, last in _spans_back(condition, timeline, max(tick - 1, 0) // timeline.program.ticks):
        if timeline.walk(first, last, visit):
            return Found(min(tick, timeline.end_of(last)))
        if found := probe.settle() or found:
            return found
    return Found(0)


def _spans(condition: Condition, timeline: Timeline, first: int, end: int | None) -> Iterator[tuple[int, int | None]]:
    """(first, last) of the batches to look into from batch `first` on, to batch `end` or without end, in order."""
    if _on_columns(condition, timeline):
        for low, high in timeline.blocks(first, timeline.computed):
            candidates = _batches_that_may(condition, timeline, low, high)
            yield from ((low, high),) if candidates is None else ((batch, batch) for batch in candidates.tolist())
        first = max(first, timeline.computed + 1)
    yield first, end


def _spans_back(condition: Condition, timeline: Timeline, last: int) -> Iterator[tuple[int, int]]:
    """(first, last) of the batches to look into from batch `last` back to the first, the latest first."""
    on_columns = _on_columns(condition, timeline)
    while last >= 0:
        low = max(0, last + 1 - BLOCK)
        candidates = _batches_that_may(condition, timeline, low, last) if on_columns else None
        if candidates is not None:
            yield from ((batch, batch) for batch in reversed(candidates.tolist()))
            last = low - 1
        while last >= low:
            first = timeline.replay_start(max(0, last - CHUNK + 1))
            yield first, last
            last = first - 1


def _on_columns(condition: Condition, timeline: Timeline) -> bool:
    """Whether it can be tested for many batches at once: it reads whole columns, and nothing both before and after the update."""
    names = condition.names
    return condition.scalar(timeline.whole_columns) and not ("max_weight" in names and names & {"loss", "grad_norm"})


def _batches_that_may(condition: Condition, timeline: Timeline, first: int, last: int) -> NDArray[np.intp] | None:
    """For a condition on columns: the batches `first` … `last` in which it may hold, in order; None where that cannot be told."""
    names = condition.names
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
