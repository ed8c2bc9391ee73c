"""What ends a run before its goal: an interrupt, a number that is not finite or explodes, a batch that fails its check."""

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

Progress = Callable[[Position | str], None]  # how far a run has come, in time or in words


class Interrupts:
    """Whether a run is to stop, which another thread asks for. `count` says how often that was asked."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self.count = 0

    def interrupt(self) -> None:
        """Stop the run that is under way, or that begins next."""
        self.count += 1
        self._asked.set()

    def forget(self) -> None:
        """Let no interrupt that has come until now stop what is begun next."""
        self._asked.clear()

    def asked(self) -> bool:
        """Whether the run is to stop."""
        return self._asked.is_set()


class BatchChecks:
    """The comparison of every batch that a run finishes with PyTorch's autograd. `totals` is None where it is off."""

    def __init__(self) -> None:
        self.totals: CheckTotals | None = None
        self._done: tuple[Timeline | None, range] = (None, range(0))  # the batches of a timeline that have been checked

    def turn(self, on: bool) -> None:
        """Turn it on, or off, which forgets what has come of it."""
        from tui_gru.debugger.analysis.checks.checked_run import CheckTotals  # late, as all that is not needed to begin with

        self.totals = (self.totals or CheckTotals()) if on else None
        self._done = self._done if on else (None, range(0))

    def watch(self, timeline: Timeline, tick: int, last: int | None) -> CheckWatch | None:
        """What checks the batches from `tick` on, up to batch `last` (None: without end); None where it is off."""
        if self.totals is None:
            return None
        from tui_gru.debugger.analysis.checks.checked_run import CheckWatch

        of, done = self._done
        return CheckWatch(timeline, tick // timeline.program.ticks, last, self.totals, done if of is timeline else range(0))

    def note(self, watch: CheckWatch, timeline: Timeline, tick: int) -> StopEvent | None:
        """Take over what a watch has found on the way to `tick`; the batch that stops the run there, if one does."""
        self.totals, self._done = watch.totals(tick), (timeline, watch.done(tick))
        if watch.problem and tick >= timeline.end_of(watch.stopped_at):
            return StopEvent(tick, "check", Notice(watch.problem, warning=True))
        return None


def monitor(program: Program, interrupts: Interrupts, watch: TroubleWatch | None, progress: Progress | None) -> Monitor:
    """Tells `progress` of every batch on the way, and stops where it is interrupted, or where `watch` sees something."""
    ticks = program.ticks

    def seen(batch: int, record: BatchRecord) -> bool:
        if progress is not None:
            progress(position_of(program, (batch + 1) * ticks))
        return interrupts.asked() or (watch is not None and watch.sees(batch, record))

    return seen


def either(monitor: Monitor, checks: CheckWatch | None) -> Monitor:
    """Stops where either does; what is not finite is not checked."""
    return monitor if checks is None else lambda batch, record: monitor(batch, record) or checks.sees(batch, record)
