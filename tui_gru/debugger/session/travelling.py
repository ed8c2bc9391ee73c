"""The half of a session that moves in time: steps, seeks, SGD steps and searches, any of which can be stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from tui_gru.debugger.analysis.trouble_watch import TroubleWatch
from tui_gru.debugger.program.line_table import Program, program_of
from tui_gru.debugger.program.position import Position, position_of, tick_of
from tui_gru.debugger.program.steps import StepMemory, check_level
from tui_gru.debugger.session.surviving import Surviving, recorded
from tui_gru.debugger.state.state import State
from tui_gru.debugger.state.trouble import Trouble
from tui_gru.debugger.timeline.branches import Branches
from tui_gru.debugger.timeline.journal import JournalEntry, Settings
from tui_gru.debugger.timeline.segment import Monitor
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine import arguments
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.errors import TuiGruError

if TYPE_CHECKING:
    from tui_gru.debugger.analysis.checked_run import CheckTotals, CheckWatch
    from tui_gru.debugger.expressions.conditions import Condition

Progress = Callable[[Position | str], None]  # how far a run has come, in time or in words


class Travelling(Surviving):
    """Stands at one place of one branch. What can take long comes before anything of it changes, so that it can be broken off."""

    def _begin(self, state: State) -> None:
        self.config, self.epochs = state.config, state.epochs
        self.program: Program = program_of(state.config)
        self.stop_on_nan = state.stop_on_nan
        self.checked: CheckTotals | None = None
        self._done: tuple[Timeline | None, range] = (None, range(0))  # the batches of a timeline that have been checked
        self._branches, self._stride = state.branches, state.stride
        self._interrupted = threading.Event()
        self.interrupts = 0  # how often `interrupt` was called
        self._moment = self._timeline.moment(state.tick)
        super()._begin(state)

    # Where one is

    @property
    def position(self) -> Position:
        """The place in time: it says which line has just been executed."""
        return self._moment.position

    @property
    def newest(self) -> Position:
        """The furthest place reached on this branch."""
        return self._timeline.position(self._branches.newest)

    def batches_to(self, tick: int | None = None) -> int:
        """At most how many batches are run, or run again, on the way to a tick of this branch; None: to where it stands."""
        batch = max((self.position.tick if tick is None else tick) - 1, 0) // self.program.ticks
        ahead = batch - self._timeline.computed
        return ahead if ahead > 0 else batch - self._timeline.replay_start(batch) + 1

    @property
    def end(self) -> Position | None:
        """The last place of a run of `epochs`; None where the run has no end."""
        if self.epochs is None:
            return None
        return self._timeline.position(self._timeline.step_index("epoch").tick(self.epochs))

    @property
    def stop_on_nan(self) -> bool:
        """Whether a run stops where the loss or a weight is not finite, or where the loss, the gradient's norm or a weight grows
        a thousandfold within a batch."""
        return self._stop_on_nan

    @stop_on_nan.setter
    def stop_on_nan(self, value: bool) -> None:
        self._stop_on_nan = arguments.truth("stop_on_nan", value)

    @property
    def check_every_batch(self) -> bool:
        """Whether each batch that a run finishes is compared with PyTorch's autograd; a run stops where they do not agree.

        What has come of it is in `checked`. It takes ten to twenty times as long as training the batch.
        """
        return self.checked is not None

    @check_every_batch.setter
    def check_every_batch(self, value: bool) -> None:
        from tui_gru.debugger.analysis.checked_run import CheckTotals  # late, as all that is not needed to begin with

        value = arguments.truth("check_every_batch", value)
        self.checked = (self.checked or CheckTotals()) if value else None
        self._done = self._done if value else (None, range(0))

    @property
    def _timeline(self) -> Timeline:
        return self._branches.timeline

    @property
    def _settings(self) -> Settings:
        return self._timeline.segment_at(self.position.tick).settings

    # Moving in time

    @recorded
    def step(self, level: str = "timestep", count: int = 1, *, progress: Progress | None = None) -> Position:
        """Step `count` ops, timesteps, phases, batches or epochs; a negative count goes back in time. Returns the position.

        A step ends where its level does: `batch` goes to the end of the batch. In reverse it leads back to where one was.
        """
        index, here = self._timeline.step_index(check_level(level)), self.position.tick
        count = arguments.whole("count", count)
        stride = self._stride.onwards(level, here, count)
        target, cut = stride.target(index, count)
        before = self._stride
        with self._under_way():
            reached = self._walk(target, progress)
        cut = cut or reached.tick != target
        self._stride = before if cut and reached.tick == here else stride.gone(count, reached.tick, cut)
        return reached

    @recorded
    def seek(self, place: str | Position | int, *, progress: Progress | None = None) -> Position:
        """Go to `e3 b2 t1` (counted from 1: just after timestep 1 of batch 2 of epoch 3), to a `Position`, or to a tick.

        A moment not reached yet is run to.
        """
        tick = tick_of(place, self.position, self.program)
        with self._under_way():
            return self._go(tick, progress)

    @recorded
    def sgd(self, count: int = 1, *, progress: Progress | None = None) -> Position:
        """An SGD step: finish this batch from wherever one is in it, backward and update; `count` of them. Returns the position."""
        count = arguments.whole("count", count, least=0)
        self._check_trains(True)
        with self._under_way():
            for _ in range(count):
                before, end = self.position, self.end
                batch = before.tick // self.program.ticks
                if not self._timeline.learns(batch) and (end is None or batch <= end.number):
                    self._change(replace(self._settings, once=batch), JournalEntry("sgd"))
                self._go((batch + 1) * self.program.ticks, progress)
                if self._interrupted.is_set() or self.notice or self.position == before:
                    break
        return self.position

    def _check_trains(self, wanted: bool) -> None:
        """Raise `TuiGruError` where training on is wanted of a run on given batches, with the reason."""
        if wanted and self.config.given is not None:
            raise TuiGruError(self.config.given.fixed)

    @recorded
    def run_to(self, line: str, *, progress: Progress | None = None) -> Position:
        """Run to where a line, named by what it computes, is executed next: in this timestep, a later one, or the next batch."""
        line = arguments.text("a line", line)
        ticks = {self.program.tick_of(line, t) for t in range(self.program.seq_length)} - {None}
        if not ticks:
            raise TuiGruError(f"there is no line that computes {line!r}")
        here, N, place = self.position.tick, self.program.ticks, self._timeline.place
        all_ahead = [batch * N + k for batch in (here // N, here // N + 1) for k in ticks if k is not None]
        ahead = [tick for tick in all_ahead if tick > here and place(tick) == tick]
        if not ahead:
            raise TuiGruError("learning is off, so this line is stepped over; turn it on to run there")
        with self._under_way():
            return self._go(min(ahead), progress)

    @recorded
    def run_until(self, condition: str, *, progress: Progress | None = None) -> bool:
        """Run forwards until a condition holds at a place where something it reads is computed. True if it stopped there."""
        return self._search(condition, True, progress)

    @recorded
    def run_back_until(self, condition: str, *, progress: Progress | None = None) -> bool:
        """Go back to the last place before this one where a condition holds. True if it stopped there; else at the beginning."""
        return self._search(condition, False, progress)

    @recorded
    def run_to_not_finite(self, *, progress: Progress | None = None) -> bool:
        """Go to the first number of the run that is not finite, as far as it has been run; of a recording, of all its steps.

        True if there is one; `notice` says which it is.
        """
        from tui_gru.debugger.analysis.not_finite import first_not_finite

        timeline = self._timeline
        last = timeline.computed if timeline.memory.numbers is not None else self.newest.number
        with self._under_way():
            found = first_not_finite(timeline, last, self._monitor(None, progress))
            if found is not None:
                self._stand(self._branches, timeline.place(found.tick))
        words = "every number so far is finite" if found is None else found.sentence(self.program)
        self.notice = words if found is None else Trouble(words)
        return found is not None

    def interrupt(self) -> None:
        """Stop a run that another thread is in, or is about to begin, at the end of the batch it is at."""
        self.interrupts += 1
        self._interrupted.set()

    def forget_interrupt(self) -> None:
        """Let no interrupt that has come until now stop what is begun next: it came as the run before had ended by itself."""
        self._interrupted.clear()

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        """A run: what was said before it is said no more, and an interrupt is for this run alone."""
        self.notice = ""
        try:
            yield
        finally:
            self._interrupted.clear()

    def _walk(self, tick: int, progress: Progress | None) -> Position:
        """Go where steps lead."""
        return self._go(tick, progress)

    def _go(self, tick: int, progress: Progress | None) -> Position:
        """Go to the last place at or before `tick`, or to where the run ends or is stopped; stay where a way back is stopped."""
        here, end, timeline = self.position, self.end, self._timeline
        tick = timeline.place(tick if end is None else min(tick, end.tick))
        ahead = tick > here.tick
        watch = self._watch(ahead)
        tick = self._stopped(watch, tick)
        monitor = self._monitor(watch, progress)
        if ahead and self.checked is not None:
            tick = self._checked(tick, monitor)
        reached = timeline.moment(tick, monitor).position.tick
        if reached == tick or reached > here.tick:
            self._stand(self._branches, self._stopped(watch, reached))
        return self.position

    def _search(self, source: str, forwards: bool, progress: Progress | None) -> bool:
        condition = self._compiled(source)
        from tui_gru.debugger.search.value_search import search_back, search_forward

        search = search_forward if forwards else search_back
        with self._under_way():
            watch = self._watch(forwards)
            monitor = self._monitor(watch, progress)
            checks = self._check_watch(None) if forwards else None
            found = search(condition, self._timeline, self.position.tick, self.end, either(monitor, checks))
            tick = self._stopped(watch, found.tick)
            if checks is not None:
                tick = self._checked_whole(checks, tick)
            self._stand(self._branches, tick)
        if found.error is not None and tick == found.tick:
            raise found.error
        return found.matched and tick == found.tick

    def _compiled(self, source: str) -> Condition:
        """A condition, checked. Raises `TuiGruError`."""
        from tui_gru.debugger.expressions.conditions import (
            compile_condition,  # late: a tenth of the start, for what comes later if at all
        )

        return compile_condition(arguments.text("a condition", source), self.program.spellings)

    def _stand(self, branches: Branches, tick: int) -> None:
        """Be at a place of a branch."""
        moment = branches.timeline.moment(tick)
        self._branches, self._moment, self._stride = branches.reached(tick), moment, StepMemory.begin("", tick)

    def _watch(self, ahead: bool) -> TroubleWatch | None:
        return TroubleWatch(self._timeline, self.position) if ahead and self.stop_on_nan else None

    def _stopped(self, watch: TroubleWatch | None, tick: int) -> int:
        """`tick`, or the place before it where the watch stops."""
        found = watch.place(tick) if watch is not None else None
        if found is None:
            return tick
        place, words = found
        self.notice = Trouble(words)
        return place

    def _checked(self, tick: int, monitor: Monitor) -> int:
        """Check every batch that is finished on the way to `tick`; `tick`, or the end of the one where the way is broken off."""
        ticks, timeline, reached = self.program.ticks, self._timeline, -1
        first, last = self.position.tick // ticks, tick // ticks - 1
        checks = self._check_watch(last)
        assert checks is not None
        visit = either(monitor, checks)

        def see(batch: int, record: BatchRecord) -> bool:
            nonlocal reached
            reached = batch
            return visit(batch, record)

        if timeline.walk(first, last, see):
            tick = min(tick, timeline.end_of(reached))
        self._take_note(checks, tick)
        return tick

    def _check_watch(self, last: int | None) -> CheckWatch | None:
        if self.checked is None:
            return None
        from tui_gru.debugger.analysis.checked_run import CheckWatch

        timeline, done = self._done
        done = done if timeline is self._timeline else range(0)
        return CheckWatch(self._timeline, self.position.tick // self.program.ticks, last, self.checked, done)

    def _checked_whole(self, checks: CheckWatch, tick: int) -> int:
        """Check what a search that led to `tick` has passed over; `tick`, or the end of the first batch that does not agree."""
        for batch in checks.missed(tick):
            if self._interrupted.is_set():
                break
            if checks.sees(batch, self._timeline.record(batch)):
                tick = min(tick, self._timeline.end_of(batch))
                break
        self._take_note(checks, tick)
        return tick

    def _take_note(self, checks: CheckWatch, tick: int) -> None:
        self.checked, self._done = checks.tally(tick), (self._timeline, checks.done(tick))
        if checks.problem and tick >= self._timeline.end_of(checks.stopped_at):
            self.notice = Trouble(checks.problem)

    def _monitor(self, watch: TroubleWatch | None, progress: Progress | None) -> Monitor:
        ticks = self.program.ticks

        def monitor(batch: int, record: BatchRecord) -> bool:
            if progress is not None:
                progress(position_of(self.program, (batch + 1) * ticks))
            return self._interrupted.is_set() or (watch is not None and watch.sees(batch, record))

        return monitor

    def _change(self, settings: Settings, action: JournalEntry) -> None:
        here = self.position
        timeline = self._timeline.changed(here, settings, action)
        self._stand(self._branches.changed(timeline, here.tick), here.tick)


def either(monitor: Monitor, checks: CheckWatch | None) -> Monitor:
    """Stops where either does; what is not finite is not checked."""
    return monitor if checks is None else lambda batch, record: monitor(batch, record) or checks.sees(batch, record)
