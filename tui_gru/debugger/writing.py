"""The part of a session that remembers, for each branch, where runs have stopped and what log points have written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tui_gru.debugger.branches import Branches
from tui_gru.debugger.finite import FiniteWatch
from tui_gru.debugger.journal import Action, Settings
from tui_gru.debugger.position import Position
from tui_gru.debugger.setting_stops import SettingStops
from tui_gru.debugger.state import State
from tui_gru.debugger.stops import LogLine
from tui_gru.debugger.travelling import Progress

if TYPE_CHECKING:
    from tui_gru.debugger.tallies import Tallies

MOST_HITS, MOST_LINES = 256, 1000


class Writing(SettingStops):
    """What a run leaves behind. A branch that is new has that of the one it forked from, up to there."""

    def _begin(self, state: State) -> None:
        self._hits_of: dict[str, tuple[int, ...]] = {}  # by branch: ticks, the one stopped at last at the end
        self._log_of: dict[str, tuple[LogLine, ...]] = {}
        self._tallies: Tallies | None = None
        super()._begin(state)

    @property
    def _hits(self) -> tuple[int, ...]:
        """The ticks of this branch at which runs have stopped."""
        return tuple(tick for tick in self._hits_of.get(self.branch, ()) if tick <= self._branches.newest)

    @property
    def _log(self) -> tuple[LogLine, ...]:
        """What log points have written on this branch."""
        return tuple(line for line in self._log_of.get(self.branch, ()) if line.tick <= self._branches.newest)

    @property
    def branch(self) -> str:
        """The name of the branch one is on."""
        return self._branches.current

    def _note_hit(self, tick: int) -> None:
        """A run has stopped at something."""
        others = [each for each in self._hits_of.get(self.branch, ()) if each != tick]
        self._hits_of[self.branch] = (*others, tick)[-MOST_HITS:]

    def _stopped(self, watch: FiniteWatch | None, tick: int) -> int:
        place = super()._stopped(watch, tick)
        if self.notice:
            self._note_hit(place)
        return place

    def _ask(self, condition: str, forwards: bool, progress: Progress | None) -> bool:
        with self._writing(progress):
            matched = super()._ask(condition, forwards, progress)
        if matched:
            self._note_hit(self.position.tick)
        return matched

    def run_to(self, line: str, *, progress: Progress | None = None) -> Position:
        with self._writing(progress):
            return super().run_to(line, progress=progress)

    def sgd(self, count: int = 1, *, progress: Progress | None = None) -> Position:
        with self._writing(progress):
            return super().sgd(count, progress=progress)

    # Logs

    @contextmanager
    def _writing(self, progress: Progress | None = None) -> Iterator[None]:
        """A run: what log points write at the places that it passes on its way onwards is in the log after it."""
        logs = any(stop.enabled and stop.log for stop in self._stops.breakpoints)
        before = self.position.tick
        try:
            yield
        finally:
            if logs and self.position.tick > before:
                self._interrupted.clear()  # what has ended the run is not to keep it from being written down
                try:
                    self._write(before, progress)
                finally:
                    self._interrupted.clear()

    def _write(self, before: int, progress: Progress | None) -> None:
        from tui_gru.debugger.log_lines import lines_between, merged

        here, old, monitor = self.position.tick, self._log_of.get(self.branch, ()), self._monitor(None, progress)
        logs = (trigger for trigger in self._active_triggers() if trigger.log is not None)
        triggers = [trigger for trigger in logs if trigger.tested_between(before, here, self.program.ticks)]
        lines = lines_between(triggers, self._timeline, self._all_tallies(), before, here, monitor, MOST_LINES)
        self._log_of[self.branch] = merged(old, lines, MOST_LINES)

    def _all_tallies(self) -> Tallies:
        if self._tallies is None:
            from tui_gru.debugger.tallies import Tallies

            self._tallies = Tallies()
        return self._tallies

    # Branches

    def _change(self, settings: Settings, action: Action) -> None:
        source, tick = self.branch, self.position.tick
        super()._change(settings, action)
        if self.branch != source:
            self._take_over(source, tick)

    def _stand(self, branches: Branches, tick: int) -> None:
        was = self._branches.named.get(branches.current)
        super()._stand(branches, tick)
        if was is not None and was.timeline is not branches.timeline:
            self._take_over(self.branch, was.timeline.parted(branches.timeline))

    def _take_over(self, source: str, upto: int) -> None:
        """This branch has of what was left behind on another, or on it as it was, only what came up to a tick."""
        self._hits_of[self.branch] = tuple(tick for tick in self._hits_of.get(source, ()) if tick <= upto)
        self._log_of[self.branch] = tuple(line for line in self._log_of.get(source, ()) if line.tick <= upto)
