"""The data that a state stores by branch name: the ticks at which runs have stopped, and the lines in the log.

A new branch copies the data of the branch that it forked from, up to the fork. Renaming or deleting a branch renames or deletes
its data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from tui_gru.debugger.state.state import State
from tui_gru.debugger.state.stops import LogLine

MOST_HITS = 256

T = TypeVar("T")


def hits_here(state: State) -> tuple[int, ...]:
    """Return the ticks of the current branch at which runs have stopped."""
    return tuple(tick for tick in state.hits.get(state.branch, ()) if tick <= state.branches.newest)


def log_here(state: State) -> tuple[LogLine, ...]:
    """Return the log lines of the current branch."""
    return tuple(line for line in state.log.get(state.branch, ()) if line.tick <= state.branches.newest)


def with_hit(state: State, tick: int) -> dict[str, Any]:
    """Return the fields of a state that change when a run stops at `tick` of the current branch."""
    others = [each for each in state.hits.get(state.branch, ()) if each != tick]
    return {"hits": _with_branch(state.hits, state.branch, (*others, tick)[-MOST_HITS:])}


def with_log(state: State, lines: tuple[LogLine, ...]) -> dict[str, Any]:
    """Return the fields of a state that change when the log of the current branch is replaced by `lines`."""
    return {"log": _with_branch(state.log, state.branch, lines)}


def taken_over(state: State, source: str, target: str, upto: int) -> dict[str, Any]:
    """Return the fields of a state that change when the data of `target` is replaced by that of `source` up to a tick."""
    return {
        "hits": _with_branch(state.hits, target, tuple(tick for tick in state.hits.get(source, ()) if tick <= upto)),
        "log": _with_branch(state.log, target, tuple(line for line in state.log.get(source, ()) if line.tick <= upto)),
    }


def moved(state: State, old: str, new: str | None) -> dict[str, Any]:
    """Return the fields of a state that change when a branch is renamed, or deleted if `new` is None: hits, log, marks, last place,
    and, for a new name, the compared branches."""
    changes: dict[str, Any] = {}
    for name, by_branch in (("hits", state.hits), ("log", state.log)):
        without: Mapping[str, Any] = _with_branch(by_branch, old, ())
        changes[name] = without if new is None else _with_branch(without, new, by_branch.get(old, ()))
    if any(mark.branch == old for mark in state.marks.sorted):
        changes["marks"] = state.marks.with_branch(old, new)
    if state.left is not None and state.left[0] == old:
        changes["left"] = None if new is None else (new, state.left[1])
    if new is not None:
        changes["compared"] = tuple(new if name == old else name for name in state.compared)
    return changes


def _with_branch(by_branch: Mapping[str, tuple[T, ...]], branch: str, items: tuple[T, ...]) -> Mapping[str, tuple[T, ...]]:
    """Replace the items of a branch; a branch without items has no entry."""
    if items == by_branch.get(branch, ()):
        return by_branch
    return {name: each for name, each in {**by_branch, branch: items}.items() if each}
