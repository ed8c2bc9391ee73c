"""The part of a session that stops: the runs and steps that heed breakpoints and watches."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tui_gru.debugger.program.position import Position
from tui_gru.debugger.session.surviving import recorded
from tui_gru.debugger.session.travelling import Progress, either
from tui_gru.debugger.session.writing import Writing
from tui_gru.debugger.state.state import State
from tui_gru.debugger.state.stops import Stops
from tui_gru.debugger.state.trouble import Trouble, joined
from tui_gru.debugger.timeline.timeline import Timeline

# Searching is imported once there is something to stop at.
if TYPE_CHECKING:
    from tui_gru.debugger.breakpoints.counting import Columns
    from tui_gru.debugger.breakpoints.lookout import Lookout
    from tui_gru.debugger.breakpoints.stop_search import Halt
    from tui_gru.debugger.breakpoints.triggers import Trigger

FAR = 10**15  # ticks, which no run without an end comes to


class Stopping(Writing):
    """Runs until something stops it; steps heed what is on their way, too. Seeks, searches and SGD steps do not."""

    def _begin(self, state: State) -> None:
        self._lookouts: tuple[Timeline, Stops, Columns, dict[Trigger, Lookout]] | None = None
        super()._begin(state)

    @recorded
    def continue_(self, progress: Progress | None = None) -> bool:
        """Run until something stops it: True; else to the end of the run, or to where it was interrupted.

        Raises `ConditionError` where a condition cannot be evaluated, and stops there.
        """
        end = self.end
        with self._under_way(), self._writing():
            return self._continued(self._timeline.place(FAR) if end is None else end.tick, progress)

    @recorded
    def reverse_continue(self, progress: Progress | None = None) -> bool:
        """Go back to the last place before this one where something stops: True; else to the beginning, or until interrupted.

        Raises `ConditionError` where a condition cannot be evaluated, and stops there.
        """
        with self._under_way():
            return self._continued(0, progress)

    def _continued(self, tick: int, progress: Progress | None) -> bool:
        halt = self._halted(tick, progress)
        if halt is None:
            self._go(tick, progress)
            return bool(self.notice)
        if halt.broken_off or not halt.by:
            self._arrive(halt.tick)
        if halt.error is not None and self.position.tick == halt.tick:
            raise halt.error
        return bool(self.notice)

    def _walk(self, tick: int, progress: Progress | None) -> Position:
        if not self._active_triggers():
            return self._go(tick, progress)
        end = self.end
        tick = self._timeline.place(tick if end is None else min(tick, end.tick))
        with self._writing():
            halt = self._halted(tick, progress)
            if halt is None or not (halt.by or halt.broken_off):
                return self._go(tick, progress)
            if halt.broken_off and halt.tick > self.position.tick:  # a way back that is broken off leads nowhere
                self._arrive(halt.tick)
            return self.position

    def _halted(self, tick: int, progress: Progress | None) -> Halt | None:
        """Find what stops one on the way to `tick`, and if something does, go there; None where there is nothing that could."""
        here, N = self.position.tick, self.program.ticks
        ahead = tick > here
        after, upto = (here, tick) if ahead else (max(tick - 1, 0), here - 1)
        triggers = [each for each in self._active_triggers() if (ahead or each.log is None) and each.tested_between(after, upto, N)]
        if not triggers or tick == here:
            return None
        from tui_gru.debugger.breakpoints.stop_search import StopSearch

        timeline = self._timeline
        lookouts = [self._lookout(each) for each in triggers]
        monitor, checks = self._monitor(self._watch(ahead), progress), self._check_watch(None) if ahead else None
        search = StopSearch(timeline, lookouts, either(monitor, checks))
        try:
            halt = search.forward(here, tick) if ahead else search.back(here, tick)
        except BaseException:
            self._lookouts = None  # what they were waiting for is not known
            raise
        if checks is not None and (upto := self._checked_whole(checks, halt.tick)) < halt.tick:
            halt = replace(halt, tick=upto, by=(), broken_off=True)
        if halt.by:
            self._arrive(halt.tick, halt)
        return halt

    def _lookout(self, trigger: Trigger) -> Lookout:
        """What looks for the hits of a trigger on this timeline. It is kept, since making it ready costs more than a step."""
        from tui_gru.debugger.breakpoints.counting import Columns
        from tui_gru.debugger.breakpoints.lookout import Lookout

        timeline, stops = self._timeline, self._stops
        if self._lookouts is None or self._lookouts[:2] != (timeline, stops):
            self._lookouts = timeline, stops, Columns(timeline), {}
        *_, columns, lookouts = self._lookouts
        if trigger not in lookouts:
            tally = self._all_tallies().of(timeline, trigger.key)
            lookouts[trigger] = Lookout(trigger, timeline, tally, columns, matters=trigger.log is None)
        lookouts[trigger].begin()
        return lookouts[trigger]

    def _arrive(self, tick: int, halt: Halt | None = None) -> None:
        """Be where a run has ended, or where a number ceased to be finite before that; with `halt`, that is what stopped it."""
        tick_there = self._stopped(self._watch(tick > self.position.tick), tick)
        self._stand(self._branches, tick_there)
        if halt is not None and tick_there == tick:
            from tui_gru.debugger.breakpoints.stop_words import why

            said = why(halt, self._timeline)
            self.notice = joined(said if halt.error is None else Trouble(said), self.notice)
            self._note_hit(tick)
