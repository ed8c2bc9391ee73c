"""The branch tree of a session: where each branch forked, its newest tick, and its last loss."""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

from tui_gru.debugger.timeline.branches import Branch, Branches
from tui_gru.debugger.timeline.segment import Segment

Origin = tuple[int, int]  # the index of an older branch, and the tick up to which a branch equals it
_TICK = itemgetter(1)


class BranchInfo(NamedTuple):
    """A branch that forked from `source` at `tick`, has reached the tick `newest`, and has the last loss `loss`.

    Up to `tick` it shares the past of `source`. The root branch has the source None and the tick 0. `loss` is None if none has been
    computed.
    """

    name: str
    source: str | None
    tick: int
    newest: int
    loss: float | None


class BranchTree:
    """Computes the branch tree. Caches it: only branches that changed are computed again."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._branches: tuple[Branch, ...] = ()
        self._lasts: list[Segment] = []
        self._origins: list[Origin] = []
        self._forks: tuple[BranchInfo, ...] = ()

    def of(self, branches: Branches) -> tuple[BranchInfo, ...]:
        """Return the information on every branch, in the order of `branches.names`; a branch comes after its source."""
        names, there = branches.names, tuple(branches.named.values())
        if (names, there) != (self._names, self._branches):
            lasts = [branch.timeline.last for branch in there]
            origins = self._origins if lasts == self._lasts else _origins(lasts)
            known = dict(zip(self._branches, zip(self._origins, self._forks, strict=True), strict=True))
            if names != self._names:
                known = {}
            forks = []
            for i, branch in enumerate(there):
                origin, fork = known.get(branch, (None, None))
                forks.append(fork if fork is not None and origin == origins[i] else _fork(names, i, origins[i], branch))
            self._forks, self._names, self._branches, self._lasts, self._origins = tuple(forks), names, there, lasts, origins
        return self._forks


def _fork(names: Sequence[str], i: int, origin: Origin, branch: Branch) -> BranchInfo:
    source, tick = origin
    return BranchInfo(names[i], names[source] if source >= 0 else None, tick, branch.newest, _last_loss(branch))


def _origins(lasts: Sequence[Segment]) -> list[Origin]:
    """Return, for the last segment of each branch, the earlier branch that it shares most with; (−1, 0) if there is none."""
    seen: dict[Segment, list[Origin]] = {}  # by segment: (branch, last shared tick), ascending in both
    origins: list[Origin] = []
    for i, last in enumerate(lasts):
        segment: Segment | None = last
        until = sys.maxsize  # the tick up to which this branch follows the segment
        while segment is not None and segment not in seen:
            seen[segment] = [(i, until)]
            until = segment.start
            segment = segment.base
        if segment is None:
            origins.append((0 if i else -1, 0))
            continue
        others = seen[segment]
        k, tick = others[min(bisect_left(others, until, key=_TICK), len(others) - 1)]
        origins.append((k, min(tick, until)))
        if until > others[-1][1]:
            others.append((i, until))
    return origins


def _last_loss(branch: Branch) -> float | None:
    batch = branch.timeline.program.last_loss(branch.newest)
    return None if batch < 0 else branch.timeline.loss(batch)
