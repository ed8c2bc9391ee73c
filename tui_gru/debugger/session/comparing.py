"""The part of a session that compares the branch one is on with another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tui_gru.debugger.session.stopping import Stopping
from tui_gru.debugger.session.surviving import COMPARED
from tui_gru.debugger.session.travelling import Progress
from tui_gru.debugger.snapshots.other_branch import OtherBranch
from tui_gru.debugger.state.state import State
from tui_gru.debugger.timeline.branch_tree import BranchTree
from tui_gru.debugger.timeline.series import Series
from tui_gru.engine import arguments
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.errors import TuiGruError

if TYPE_CHECKING:
    from tui_gru.debugger.analysis.branches_apart import Apart


class Comparing(Stopping):
    """Keeps two branches that are compared, so that on either of them the other is the one compared with."""

    def _begin(self, state: State) -> None:
        self._forks = BranchTree()
        super()._begin(state)
        self._compared: tuple[str, ...] = self._restored(COMPARED, _pair, ())

    @property
    def comparing(self) -> str | None:
        """The branch that this one is compared with; None if it is compared with none, or that one is gone."""
        current, names = self._branches.current, self._branches.names
        others = [name for name in self._compared[::-1] if name != current and name in names]
        return others[0] if others else None

    def compare(self, name: str | None = "") -> str | None:
        """Compare this branch with another, from here on; None ends it. Returns the name of the other.

        With no name it is the branch that this one has left, or the last that has left this one. A branch switched to later is
        compared with `name`; and when that is switched to, it with this one. Raises `TuiGruError` where there is no such branch.
        """
        current = self._branches.current
        if name is None:
            self._keep_compared(())
            return None
        name = arguments.text("a branch", name) or self._relative()
        if name == current:
            raise TuiGruError(f"{name} is the branch you are on; compare it with another: {', '.join(self._others)}")
        if name not in self._branches.names:
            raise TuiGruError(f"there is no branch {name!r}; there are: {', '.join(self._branches.names)}")
        self._keep_compared((current, name))
        return name

    def apart(self, name: str = "", *, progress: Progress | None = None) -> Apart:
        """Where this branch and another first differ, and how far apart their losses and their samples of this moment are.

        With no name the other is the one compared with, else as in `compare`. Raises `TuiGruError`, also where it is interrupted.
        """
        from tui_gru.debugger.analysis import branches_apart  # late: it is asked for now and then

        name = arguments.text("a branch", name) or self.comparing or self._relative()
        if name not in self._branches.names or name == self._branches.current:
            raise TuiGruError(f"there is no other branch {name!r}; there are: {', '.join(self._others)}")

        def monitor(batch: int, record: BatchRecord) -> bool:
            if self._interrupted.is_set():
                raise TuiGruError("stopped before the branches had been compared")
            if progress is not None:
                progress(f"batch {batch + 1:,} of {name}")
            return False

        other, here = self._branches.named[name], self.position.tick
        mine, theirs, upto = self._timeline, other.timeline, min(self._branches.newest, other.newest)
        last, at = self.program.last_loss(upto), self.program.last_loss(here)
        return branches_apart.Apart(
            self._branches.current,
            name,
            mine.parted(theirs),
            branches_apart.first_difference(mine, theirs, upto, monitor),
            None if at < 0 or at > last else branches_apart.Losses(at, mine.loss(at), theirs.loss(at)),
            branches_apart.losses_apart(mine, theirs, 0, last),
            None if here > other.newest else branches_apart.samples_apart(self._moment, theirs.moment(theirs.place(here))),
            here <= other.newest,
        )

    @property
    def _others(self) -> tuple[str, ...]:
        others = tuple(name for name in self._branches.names if name != self._branches.current)
        if not others:
            raise TuiGruError("there is only this branch; a change made in the past makes another")
        return others

    def _relative(self) -> str:
        """The branch that the current one has left, else the last that has left it."""
        others, current = self._others, self._branches.current
        forks = self._forks.of(self._branches)
        source = next(fork.source for fork in forks if fork.name == current)
        left = [fork.name for fork in forks if fork.source == current]
        return source or (left or others)[-1]

    def _keep_compared(self, pair: tuple[str, ...]) -> None:
        self._compared = pair
        self.keep(COMPARED, pair)

    def _rename_compared(self, old: str, new: str) -> None:
        if old in self._compared:
            self._keep_compared(tuple(new if name == old else name for name in self._compared))

    def _other(self) -> OtherBranch | None:
        """The other branch at this moment."""
        name = self.comparing
        if name is None:
            return None
        branch, tick = self._branches.named[name], self.position.tick
        timeline, program = branch.timeline, self.program
        losses = Series(timeline, "loss", program.last_loss(branch.newest) + 1)
        parted = timeline.parted(self._timeline)
        if tick > branch.newest:
            return OtherBranch(name, None, None, losses, parted)
        moment = timeline.moment(timeline.place(tick))
        number = moment.position.number
        return OtherBranch(name, moment, timeline.record(number - 1) if number else None, losses, parted)


def _pair(data: Any) -> tuple[str, ...]:
    if not isinstance(data, list) or len(data) not in (0, 2) or not all(isinstance(name, str) for name in data):
        raise ValueError("these are no two branches")
    return tuple(data)
