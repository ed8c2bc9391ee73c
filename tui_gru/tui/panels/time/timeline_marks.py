"""Collects the signs of the time line: marks, stops, and forks of other branches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.debugger.timeline.branch_tree import BranchInfo


class TimelineMark(NamedTuple):
    """A sign at `tick`: `kind` is mark, stop or fork, `name` the letter of a mark or the other branch, `note` a description."""

    tick: int
    kind: str
    name: str
    note: str


def timeline_marks(snapshot: Snapshot) -> tuple[TimelineMark, ...]:
    """Return the signs of the current branch. If two are in the same column, the first one in this list is shown.

    A mark of another branch counts as one of this branch if it is in their shared past.
    """
    here = snapshot.branch
    shared = dict(partings(snapshot.forks, here))
    marks = [
        TimelineMark(mark.tick, "mark", mark.letter, f"mark {mark.letter}")
        for mark in snapshot.marks
        if mark.branch == here or mark.tick <= shared.get(mark.branch, -1)
    ]
    forks = [TimelineMark(tick, "fork", name, f"{name} leaves {here} here") for name, tick in shared.items()]
    stops = [TimelineMark(tick, "stop", "", "a run stopped here") for tick in snapshot.hits]
    return (*marks, *forks, *stops)


def partings(forks: Sequence[BranchInfo], current: str) -> Iterator[tuple[str, int]]:
    """Yield (name, tick) for every other branch: the tick up to which it equals the current one."""
    by_name = {fork.name: fork for fork in forks}
    if current not in by_name:
        return
    mine = dict(_lineage(by_name, current))
    for name in by_name:
        if name == current:
            continue
        for ancestor, tick in _lineage(by_name, name):
            if ancestor in mine:  # they can fork from their common ancestor at different ticks
                yield name, min(tick, mine[ancestor])
                break


def _lineage(forks: dict[str, BranchInfo], name: str) -> Iterator[tuple[str, int]]:
    """Yield a branch and its ancestors, each with the tick up to which the branch shares its past."""
    upto = forks[name].newest
    while True:
        yield name, upto
        fork = forks[name]
        if fork.source is None or fork.source not in forks:
            return
        name, upto = fork.source, min(upto, fork.tick)
