"""What stops a run before its goal: an interrupt, a number that is not finite or explodes, or a batch that fails its check."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from tui_gru.debugger.analysis.checks.trouble_watch import TroubleWatch
from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.position import Position, position_of
from tui_gru.debugger.state.outcome import Notice, StopEvent
from tui_gru.debugger.timeline.segment import Monitor
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine.running.batch import BatchRecord

if TYPE_CHECKING:
    from tui_gru.debugger.analysis.checks.checked_run import CheckTotals, CheckWatch

SearchProgress = Callable[[Position | str], None]  # called with the progress of a run, as a position or in words


class Interrupts:
    """A request to stop the current run, made by another thread. `count` is the number of requests so far."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self.count = 0

    def interrupt(self) -> None:
        """Stop the current run, or the next one if none is under way."""
        self.count += 1
        self._asked.set()

    def forget(self) -> None:
        """Withdraw a pending request."""
        self._asked.clear()

    def asked(self) -> bool:
        """Return True if the run is to stop."""
        return self._asked.is_set()


class BatchChecks:
    """The comparison of every finished batch with PyTorch's autograd. `totals` is None while it is disabled."""

    def __init__(self) -> None:
        self.totals: CheckTotals | None = None
        self._done: tuple[Timeline | None, range] = (None, range(0))  # the batches of this timeline that are checked already

    def turn(self, on: bool) -> None:
        """Enable or disable the checks; disabling discards the totals. Raises `TuiGruError` if PyTorch is not installed."""
        from tui_gru.debugger.analysis.checks.checked_run import CheckTotals  # imported late: seldom needed
        from tui_gru.engine.reference.torch_loading import is_installed, require_torch

        if on and not is_installed():  # said now, or every later run would stop with it
            require_torch("the check of every batch")
        self.totals = (self.totals or CheckTotals()) if on else None
        self._done = self._done if on else (None, range(0))

    def watch(self, timeline: Timeline, tick: int, last: int | None) -> CheckWatch | None:
        """Return an object that checks the batches from `tick` on up to `last` (None: no end); None if checks are disabled."""
        if self.totals is None:
            return None
        from tui_gru.debugger.analysis.checks.checked_run import CheckWatch

        of, done = self._done
        return CheckWatch(timeline, tick // timeline.program.ticks, last, self.totals, done if of is timeline else range(0))

    def note(self, watch: CheckWatch, timeline: Timeline, tick: int) -> StopEvent | None:
        """Store the results of a watch up to `tick`. Returns the event that stops the run there, or None."""
        self.totals, self._done = watch.totals(tick), (timeline, watch.done(tick))
        if watch.problem and tick >= timeline.end_of(watch.stopped_at):
            return StopEvent(tick, "check", Notice(watch.problem, warning=True))
        return None


def monitor(program: Program, interrupts: Interrupts, watch: TroubleWatch | None, progress: SearchProgress | None) -> Monitor:
    """Create a monitor that reports every batch to `progress`, and stops the run if it is interrupted or `watch` finds trouble."""
    ticks = program.ticks

    def visit(batch: int, record: BatchRecord) -> bool:
        if progress is not None:
            progress(position_of(program, (batch + 1) * ticks))
        return interrupts.asked() or (watch is not None and watch.sees(batch, record))

    return visit


def either(monitor: Monitor, checks: CheckWatch | None) -> Monitor:
    """Combine two monitors; the run stops if either does. `checks` does not see a batch at which `monitor` stops."""
    return monitor if checks is None else lambda batch, record: monitor(batch, record) or checks.sees(batch, record)
