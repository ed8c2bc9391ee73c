"""The comparison of two branches. While one of the two is the current branch, the other is shown beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_gru.debugger.session.guards import SearchProgress
from tui_gru.debugger.session.run import Run
from tui_gru.debugger.timeline.timeline import ScalarSeries
from tui_gru.engine import arguments
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.running.batch import BatchRecord

if TYPE_CHECKING:
    from tui_gru.debugger.analysis.branches_apart import BranchComparison
    from tui_gru.debugger.snapshots.differences import OtherBranch


def comparing(run: Run) -> str | None:
    """Return the branch that the current one is compared with; None if there is no comparison or that branch no longer exists."""
    current, names = run.state.branch, run.state.branches.names
    others = [name for name in run.state.compared[::-1] if name != current and name in names]
    return others[0] if others else None


def compare(run: Run, name: str | None) -> str | None:
    """Compare this branch with `name`, or with its closest relative if `name` is empty; None ends the comparison.

    Raises `TuiGruError` if there is no other branch of this name.
    """
    current = run.state.branch
    if name is None:
        run.update(compared=())
        return None
    name = arguments.text("a branch", name) or _relative(run)
    if name == current:
        raise TuiGruError(f"{name} is the branch you are on; compare it with another: {', '.join(_others(run))}")
    if name not in run.state.branches.names:
        raise TuiGruError(f"there is no branch {name!r}; there are: {', '.join(run.state.branches.names)}")
    run.update(compared=(current, name))
    return name


def apart(run: Run, name: str, progress: SearchProgress | None) -> BranchComparison:
    """Compare two branches: their first difference, and the differences of their losses and their samples at this moment.

    An empty name means the branch compared with, or else the closest relative. Raises `TuiGruError` if there is no such branch or
    it is interrupted.
    """
    from tui_gru.debugger.analysis import branches_apart  # imported late: seldom needed

    state, here, mine = run.state, run.state.tick, run.timeline
    name = arguments.text("a branch", name) or comparing(run) or _relative(run)
    if name not in state.branches.names or name == state.branch:
        raise TuiGruError(f"there is no other branch {name!r}; there are: {', '.join(_others(run))}")

    def monitor(batch: int, record: BatchRecord) -> bool:
        if run.interrupts.asked():
            raise TuiGruError("stopped before the branches had been compared")
        if progress is not None:
            progress(f"batch {batch + 1:,} of {name}")
        return False

    other = state.branches.named[name]
    theirs, upto = other.timeline, min(state.branches.newest, other.newest)
    last, at = run.program.last_loss(upto), run.program.last_loss(here)
    return branches_apart.BranchComparison(
        state.branch,
        name,
        mine.parted(theirs),
        branches_apart.first_difference(mine, theirs, upto, monitor),
        None if at < 0 or at > last else branches_apart.BatchLosses(at, mine.loss(at), theirs.loss(at)),
        branches_apart.losses_apart(mine, theirs, 0, last),
        None if here > other.newest else branches_apart.samples_apart(run.moment, theirs.moment(theirs.place(here))),
        here <= other.newest,
    )


def other(run: Run) -> OtherBranch | None:
    """Return the compared branch at this moment; None if there is no comparison."""
    name = comparing(run)
    if name is None:
        return None
    from tui_gru.debugger.snapshots.differences import OtherBranch  # imported late: only needed for a comparison

    branch, tick = run.state.branches.named[name], run.state.tick
    timeline = branch.timeline
    losses = ScalarSeries(timeline, "loss", run.program.last_loss(branch.newest) + 1)
    parted = timeline.parted(run.timeline)
    if tick > branch.newest:
        return OtherBranch(name, None, None, losses, parted)
    moment = timeline.moment(timeline.place(tick))
    number = moment.position.number
    return OtherBranch(name, moment, timeline.previous(number), losses, parted)


def _others(run: Run) -> tuple[str, ...]:
    others = tuple(name for name in run.state.branches.names if name != run.state.branch)
    if not others:
        raise TuiGruError("there is only this branch; a change made in the past forks another")
    return others


def _relative(run: Run) -> str:
    """Return the source of the current branch, else the newest branch that forked from it, else the newest other branch."""
    others, current = _others(run), run.state.branch
    forks = run.tree.of(run.state.branches)
    source = next(fork.source for fork in forks if fork.name == current)
    left = [fork.name for fork in forks if fork.source == current]
    return source or (left or others)[-1]
