"""The places of a run that are worth a sign on the time line: marks, stops, and where another branch parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.debugger.timeline.branch_tree import BranchInfo


class Remarkable(NamedTuple):
    """A place: `kind` is mark, stop or fork, `name` the letter of a mark or the branch that parts here, `note` says it in words."""

    tick: int
    kind: str
    name: str
    note: str


def remarkable(snapshot: Snapshot) -> tuple[Remarkable, ...]:
    """What is worth a sign on the current branch; of two in one column the earlier of this list is seen.

    A mark that was set on another branch is one of this branch too where it lies in the past that they share.
    """
    here = snapshot.branch
    shared = dict(partings(snapshot.forks, here))
    marks = [
        Remarkable(mark.tick, "mark", mark.letter, f"mark {mark.letter}")
        for mark in snapshot.marks
        if mark.branch == here or mark.tick <= shared.get(mark.branch, -1)
    ]
    forks = [Remarkable(tick, "fork", name, f"{name} parts from {here} here") for name, tick in shared.items()]
    stops = [Remarkable(tick, "stop", "", "a run stopped here") for tick in snapshot.hits]
    return (*marks, *forks, *stops)


def partings(forks: Sequence[BranchInfo], current: str) -> Iterator[tuple[str, int]]:
    """(name, tick) of every other branch: to which tick it is the same as the current one."""
    by_name = {fork.name: fork for fork in forks}
    if current not in by_name:
        return
    mine = dict(_lineage(by_name, current))
    for name in by_name:
        if name == current:
            continue
        for ancestor, tick in _lineage(by_name, name):
            if ancestor in mine:  # one of them may have left their common ancestor before the other
                yield name, min(tick, mine[ancestor])
                break


def _lineage(forks: dict[str, BranchInfo], name: str) -> Iterator[tuple[str, int]]:
    """A branch and what it has come from, one after the other, each with the tick to which the branch shares its past."""
    upto = forks[name].newest
    while True:
        yield name, upto
        fork = forks[name]
        if fork.source is None or fork.source not in forks:
            return
        name, upto = fork.source, min(upto, fork.tick)
