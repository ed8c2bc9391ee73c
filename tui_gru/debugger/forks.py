"""How the branches of a session hang together: where each has left another, how far it has come, and its last loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tui_gru.debugger.branches import Branch, Branches
from tui_gru.debugger.timeline import Timeline


class Fork(NamedTuple):
    """A branch that left `source` at `tick` and has come as far as the tick `newest`; `loss` is the last one on it.

    The past before `tick` is that of `source`. The branch that all others come from has the source None and the tick 0; `loss` is
    None where none has been computed.
    """

    name: str
    source: str | None
    tick: int
    newest: int
    loss: float | None


class Forks:
    """Reads the forks off the branches. Which has left which is remembered until a timeline is another."""

    def __init__(self) -> None:
        self._timelines: tuple[Timeline, ...] = ()
        self._origins: list[tuple[int, int]] = []

    def of(self, branches: Branches) -> tuple[Fork, ...]:
        """A fork for every branch, in the order of `branches.names`: a branch comes after the one that it has left."""
        names, timelines = branches.names, tuple(branch.timeline for branch in branches.named.values())
        if timelines != self._timelines:
            self._timelines, self._origins = timelines, [_origin(timelines[:i], timelines[i]) for i in range(len(timelines))]
        return tuple(
            Fork(name, names[source] if source >= 0 else None, tick, branch.newest, _last_loss(branch))
            for (name, branch), (source, tick) in zip(branches.named.items(), self._origins, strict=True)
        )


def _origin(older: Sequence[Timeline], timeline: Timeline) -> tuple[int, int]:
    """Which of the older timelines goes on longest as this one does, and to which tick; (−1, 0) where there is none."""
    parted = [each.parted(timeline) for each in older]
    return (parted.index(max(parted)), max(parted)) if parted else (-1, 0)


def _last_loss(branch: Branch) -> float | None:
    batch = branch.timeline.program.last_loss(branch.newest)
    return None if batch < 0 else branch.timeline.loss(batch)
