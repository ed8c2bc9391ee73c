"""One line of history: segments, each taking over from the one before where something was changed."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.history import Budget
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.position import Position, position_of
from tui_gru.debugger.program import Program
from tui_gru.debugger.segment import Action, Monitor, Segment, Settings
from tui_gru.debugger.steps import Ruler
from tui_gru.engine.parameters import Parameters
from tui_gru.engine.record import Activations, BatchRecord
from tui_gru.engine.trainer import Resume

Change = Callable[[BatchRecord, Parameters], None]


@dataclass(frozen=True, eq=False)
class Timeline:
    """An immutable chain of segments. Changing the future at a position gives another timeline that shares the past."""

    program: Program
    segments: tuple[Segment, ...]

    @classmethod
    def begin(cls, program: Program, settings: Settings, parameters: Parameters, budget: Budget) -> Timeline:
        """A fresh run, before its first line."""
        trainer = settings.trainer
        record = trainer.new_record()
        trainer.run(
            record,
            0,
            parameters,
            trainer.initial_state(),
            learn=settings.learns(0),
            learning_rate=settings.learning_rate,
        )
        return cls(program, (Segment(0, 0, record, settings, budget, Action("begin")),))

    def segment_at(self, tick: int) -> Segment:
        """The segment in force at a tick: the last that has taken over by then."""
        return self.segments[bisect_right(self._starts, tick) - 1]

    @cached_property
    def _starts(self) -> list[int]:
        return [segment.start for segment in self.segments]

    def ruler(self, level: str) -> Ruler:
        """The measure of steps of one level along this timeline."""
        if level not in self._rulers:
            self._rulers[level] = Ruler(self.program, level, self._runs)
        return self._rulers[level]

    @cached_property
    def _rulers(self) -> dict[str, Ruler]:
        return {}

    @cached_property
    def _runs(self) -> list[tuple[int, bool]]:
        """(first batch, learns): whether a batch learns is decided where its loss has been computed."""
        runs: list[tuple[int, bool]] = []
        for segment in self.segments:
            batch = max(0, -(-(segment.start - self.program.loss_tick) // self.program.ticks))
            while runs and runs[-1][0] >= batch:
                runs.pop()
            if segment.settings.once == batch and not segment.settings.learning:
                runs.append((batch, True))
                batch += 1
            runs.append((batch, segment.settings.learning))
        return runs

    def position(self, tick: int) -> Position:
        return position_of(self.program, tick)

    def moment(self, tick: int, monitor: Monitor | None = None) -> Moment:
        """Everything that can be read at a tick; runs or replays what is needed. Earlier than asked if `monitor` stopped it."""
        segment, position = self.segment_at(tick), self.position(tick)
        batch, record = segment.record(position.number, monitor)
        if batch != position.number:
            position = self.position(self.ruler("batch").tick(self.ruler("batch").count((batch + 1) * self.program.ticks)))
        return Moment(self.program, position, record, segment.settings.trainer.corpus.vocabulary)

    def record(self, batch: int) -> BatchRecord:
        """The finished record of a batch, counted through all epochs."""
        return self._owner(batch).record(batch)[1]

    def walk(self, first: int, last: int | None, visit: Monitor) -> bool:
        """Show `visit` the finished records of the batches `first` … `last` (None: without end) until it returns True."""
        last = sys.maxsize if last is None else last
        while first <= last:
            owner = self._owner(first)
            i = self.segments.index(owner) + 1
            upto = min(last, self.segments[i].first_batch - 1) if i < len(self.segments) else last
            if owner.walk(first, upto, visit):
                return True
            first = upto + 1
        return False

    def _owner(self, batch: int) -> Segment:
        """The last segment that has a part in this batch, or the one that runs on into it."""
        return self.segments[bisect_right(self._first_batches, batch) - 1]

    @cached_property
    def _first_batches(self) -> list[int]:
        return [segment.first_batch for segment in self.segments]

    def column(self, name: str, upto: int) -> NDArray[np.float64]:
        """loss, grad_norm or max_weight of the batches 0 … upto, as far as they have been run."""
        pieces = []
        for i, segment in enumerate(self.segments):
            end = self.segments[i + 1].first_batch if i + 1 < len(self.segments) else upto + 1
            pieces.append(segment.history.column(name)[: max(0, min(end, upto + 1) - segment.first_batch)])
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def changed(self, at: Position, settings: Settings, change: Change, budget: Budget, action: Action) -> Timeline:
        """The timeline that goes on from `at` with other settings, after `change` has been made to the record and parameters.

        `action` is what asked for it. `change` is given copies: what lies before `at` stays as it was.
        """
        here = self.moment(at.tick)
        record, parameters = here.record.copy(), here.parameters.copy()
        record.learning_rate = settings.learning_rate
        change(record, parameters)
        earlier = self.earlier(at.number)
        learns = at.offset > self.program.loss_tick or settings.learns(at.number)
        settings.trainer.resume(record, parameters, self._resume(at, here), learn=learns, earlier=earlier)
        kept = self.segments[: bisect_right(self._starts, at.tick)]
        return Timeline(self.program, (*kept, Segment(at.tick, at.number, record, settings, budget, action, earlier)))

    def earlier(self, batch: int) -> tuple[Activations, ...]:
        """The activations of the epoch's batches before `batch`, the latest first (carry `notebook`; empty for any other)."""
        if not self.program.earlier:
            return ()
        begin = batch - batch % self.program.num_batches
        return tuple(self.record(b).activations for b in range(batch - 1, begin - 1, -1))

    def _resume(self, at: Position, here: Moment) -> Resume:
        program = self.program
        forward, backward = len(program.forward), len(program.backward)
        if at.offset <= program.loss_tick:
            t = min(at.offset // forward, program.seq_length - 1)
            return Resume("forward", t, at.offset - t * forward)
        if at.offset < program.backward_end:
            k = at.offset - program.loss_tick
            back = min(k // backward, program.seq_length - 1)
            return Resume("backward", program.seq_length - 1 - back, min(k - back * backward, program.deltas))
        return Resume("update", updated=here.updated_names)
