"""The part of a session that remembers, for each branch, where runs have stopped and what log points have written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from tui_gru.debugger.analysis.trouble_watch import TroubleWatch
from tui_gru.debugger.program.position import Position
from tui_gru.debugger.session.setting_stops import SettingStops
from tui_gru.debugger.session.surviving import HITS, LOG, recorded
from tui_gru.debugger.session.travelling import Progress
from tui_gru.debugger.state.state import State
from tui_gru.debugger.state.stops import LogLine
from tui_gru.debugger.timeline.branches import Branches
from tui_gru.debugger.timeline.journal import JournalEntry, Settings

if TYPE_CHECKING:
    from tui_gru.debugger.state.tallies import Key, Tallies, Tally

MOST_HITS, MOST_LINES = 256, 1000

T = TypeVar("T")


class Writing(SettingStops):
    """What a run leaves behind. A branch that is new has that of the one it forked from, up to there."""

    def _begin(self, state: State) -> None:
        self._tallies: Tallies | None = None
        super()._begin(state)
        if state.hit_counts:
            self._all_tallies().put(self._timeline, state.hit_counts)
        # By branch: ticks, the one stopped at last at the end; and lines.
        self._hits_of: Mapping[str, tuple[int, ...]] = self._restored(HITS, _read_hits, {})
        self._log_of: Mapping[str, tuple[LogLine, ...]] = self._restored(LOG, _read_log, {})

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
        self._keep_hits(self.branch, (*others, tick)[-MOST_HITS:])

    def _stopped(self, watch: TroubleWatch | None, tick: int) -> int:
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

    @recorded
    def run_to(self, line: str, *, progress: Progress | None = None) -> Position:
        with self._writing(progress):
            return super().run_to(line, progress=progress)

    @recorded
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
        from tui_gru.debugger.breakpoints.log_lines import lines_between, merged

        here, old, monitor = self.position.tick, self._log_of.get(self.branch, ()), self._monitor(None, progress)
        logs = (trigger for trigger in self._active_triggers() if trigger.log is not None)
        triggers = [trigger for trigger in logs if trigger.tested_between(before, here, self.program.ticks)]
        lines = lines_between(triggers, self._timeline, self._all_tallies(), before, here, monitor, MOST_LINES)
        self._keep_log(self.branch, merged(old, lines, MOST_LINES))

    def _all_tallies(self) -> Tallies:
        if self._tallies is None:
            from tui_gru.debugger.state.tallies import Tallies

            self._tallies = Tallies()
        return self._tallies

    def _hit_counts(self) -> Mapping[Key, Tally]:
        """What is known of the hits of breakpoints that stop at some of them only."""
        if self._tallies is None:
            return {}
        keys = {self._made_ready(stop).key for stop in self._stops.breakpoints if stop.hits}
        tallies = {key: self._tallies.of(self._timeline, key) for key in sorted(keys)}
        return {key: tally for key, tally in tallies.items() if tally.looked}

    # Branches

    def _change(self, settings: Settings, action: JournalEntry) -> None:
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
        self._keep_hits(self.branch, tuple(tick for tick in self._hits_of.get(source, ()) if tick <= upto))
        self._keep_log(self.branch, tuple(line for line in self._log_of.get(source, ()) if line.tick <= upto))

    def _move_written(self, old: str, new: str | None) -> None:
        """A branch has another name, or, where that is None, is gone."""
        hits, log = self._hits_of.get(old, ()), self._log_of.get(old, ())
        self._keep_hits(old, ())
        self._keep_log(old, ())
        if new is not None:
            self._keep_hits(new, hits)
            self._keep_log(new, log)

    def _keep_hits(self, branch: str, hits: tuple[int, ...]) -> None:
        if hits != self._hits_of.get(branch, ()):
            self._hits_of = _with(self._hits_of, branch, hits)
            self.keep(HITS, self._hits_of)

    def _keep_log(self, branch: str, log: tuple[LogLine, ...]) -> None:
        if log != self._log_of.get(branch, ()):
            self._log_of = _with(self._log_of, branch, log)
            self.keep(LOG, self._log_of)


def _with(by_branch: Mapping[str, T], branch: str, items: T) -> Mapping[str, T]:
    """With other items of a branch; a branch that has none is left out."""
    return {name: each for name, each in {**by_branch, branch: items}.items() if each}


def _read_hits(data: Any) -> Mapping[str, tuple[int, ...]]:
    """From what was kept, checked. Raises `ValueError` where it is something else."""
    return {name: tuple(map(_tick, ticks)) for name, ticks in data.items()}


def _read_log(data: Any) -> Mapping[str, tuple[LogLine, ...]]:
    """As `_read_hits`."""
    return {name: tuple(_line(*line) for line in lines) for name, lines in data.items()}


def _line(tick: Any, id: Any, text: Any) -> LogLine:
    if not isinstance(text, str):
        raise ValueError("this is no line of a log")
    return LogLine(_tick(tick), _tick(id), text)


def _tick(data: Any) -> int:
    if type(data) is not int or data < 0:
        raise ValueError("this is no place")
    return data
