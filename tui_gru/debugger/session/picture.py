"""Creates the snapshot of a session: everything that a screen draws of one moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tui_gru.debugger.session.run import Run
from tui_gru.debugger.session.verbs import comparison, stops
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.debugger.state import by_branch
from tui_gru.debugger.timeline.timeline import ScalarSeries

if TYPE_CHECKING:
    from tui_gru.debugger.analysis.findings.finding import Finding


def snapshot(run: Run, findings: Sequence[Finding]) -> Snapshot:
    """Return the snapshot of the current moment, with the given findings."""
    state, position, timeline, branches = run.state, run.position, run.timeline, run.state.branches
    segment = timeline.segment_at(position.tick)
    return Snapshot(
        config=state.config,
        program=run.program,
        corpus=segment.trainer.corpus,
        moment=run.moment,
        previous=timeline.previous(position.number),
        learning=segment.settings.learning,
        settings=segment.settings.rule,
        losses=ScalarSeries(timeline, "loss", _losses_known(run)),
        newest=timeline.position(branches.newest),
        last=run.end,
        branch=branches.current,
        branches=branches.names,
        can_undo=bool(branches.done),
        can_redo=bool(branches.undone),
        samples=state.samples,
        changed=timeline.changed_at(position.tick),
        notice="" if run.notice is None else run.notice.text,
        forks=run.tree.of(branches),
        other=comparison.other(run),
        stops=state.stops,
        watched=stops.watched(run),
        log=by_branch.log_here(state),
        marks=state.marks.sorted,
        hits=by_branch.hits_here(state),
        checked=run.checks.totals,
        unrecorded=run.recorder.unrecorded or run.recorder.undecided,
        findings=tuple(findings),
        machine=timeline.report,
    )


def _losses_known(run: Run) -> int:
    """Return the number of batches, from the first on, whose loss is known."""
    given = run.state.config.given
    if given is not None and (given.numbers is not None or not given.knows_loss):
        return len(given.batches) if given.knows_loss else 0
    return run.program.last_loss(run.state.branches.newest) + 1
