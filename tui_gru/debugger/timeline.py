"""One line of history: segments, each taking over from the one before where something was changed."""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.changeable import gradients_of, values_of
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.position import Position, position_of
from tui_gru.debugger.program import Program
from tui_gru.debugger.segment import Action, Memory, Monitor, Segment, Settings
from tui_gru.debugger.steps import Ruler
from tui_gru.engine.initial import initial_parameters
from tui_gru.engine.parameters import Parameters, parameter_names
from tui_gru.engine.record import Activations, BatchRecord
from tui_gru.engine.trainer import Resume

Change = Callable[[BatchRecord, Parameters], None]


def nothing(record: BatchRecord, parameters: Parameters) -> None:
    """The change that only changes settings."""


@dataclass(frozen=True, eq=False)
class Timeline:
    """An immutable chain of segments. Changing the future at a position gives another timeline that shares the past."""

    program: Program
    segments: tuple[Segment, ...]
    memory: Memory

    @classmethod
    def begin(cls, program: Program, settings: Settings, parameters: Parameters, memory: Memory) -> Timeline:
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
        return cls(program, (Segment(0, 0, record, settings, memory, Action("begin")),), memory)

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
            position = self.position(self.end_of(batch))
        return Moment(self.program, position, record, segment.settings.trainer.corpus.vocabulary)

    def moment_before(self, tick: int) -> Moment:
        """The moment at a tick as it was before anything was changed there: as the line that had just been executed found it."""
        i, position = bisect_left(self._starts, tick), self.position(tick)
        if i == len(self.segments) or self._starts[i] != tick:
            return self.moment(tick)
        if i:
            record = self.segments[i - 1].record(position.number)[1]
        else:
            record = self.segments[0].first.copy()
            record.parameters = initial_parameters(self.program.config)
            record.activations.states[0] = 0
        return Moment(self.program, position, record, self.segment_at(tick).settings.trainer.corpus.vocabulary)

    def place(self, tick: int) -> int:
        """The last tick at or before `tick` that is a place: not one of a line that is stepped over."""
        places = self.ruler("op")
        return places.tick(places.count(tick))

    def end_of(self, batch: int) -> int:
        """The last place of a batch: after its update, or after its loss where it does not learn."""
        return self.place((batch + 1) * self.program.ticks)

    def learns(self, batch: int) -> bool:
        """Whether a batch ends with backward and update."""
        return bool(self.learned(batch, batch)[0])

    def learned(self, first: int, last: int) -> NDArray[np.bool_]:
        """Which of the batches `first` … `last` end with backward and update."""
        learned = np.zeros(max(last + 1 - first, 0), bool)
        for batch, learns in self._runs:
            learned[max(batch - first, 0) :] = learns
        return learned

    def learned_before(self, batch: int) -> int | None:
        """The last batch before `batch` that ends with backward and update; None if none does."""
        upto = batch
        for first, learns in reversed(self._runs):
            if learns and first < upto:
                return upto - 1
            upto = min(upto, first)
        return None

    def record(self, batch: int, monitor: Monitor | None = None) -> BatchRecord:
        """The finished record of a batch, counted through all epochs; of an earlier one if `monitor` stopped it."""
        return self.segments[self._owner(batch)].record(batch, monitor)[1]

    def before(self, batch: int) -> BatchRecord:
        """The finished record of the batch before; of the first batch, its own with the parameters that the run began with."""
        return self.record(batch - 1) if batch else self.segments[0].first

    def walk(self, first: int, last: int | None, visit: Monitor) -> bool:
        """Show `visit` the finished records of the batches `first` … `last` (None: without end) until it returns True."""
        last = sys.maxsize if last is None else last
        while first <= last:
            i = self._owner(first)
            upto = min(last, self.segments[i + 1].first_batch - 1) if i + 1 < len(self.segments) else last
            if self.segments[i].walk(first, upto, visit):
                return True
            first = upto + 1
        return False

    def replay_start(self, batch: int) -> int:
        """The first batch that is replayed on the way to `batch` when nothing is at hand."""
        return self.segments[self._owner(batch)].replay_start(batch)

    @property
    def computed(self) -> int:
        """The newest batch that has been run."""
        return self.segments[-1].computed

    def changed_in(self, batch: int) -> bool:
        """Whether a segment takes over within a batch, so that its finished record does not hold for all its places."""
        return batch in self.changed_batches

    @cached_property
    def changed_batches(self) -> frozenset[int]:
        """The batches within which a segment takes over."""
        return frozenset(segment.first_batch for segment in self.segments if segment.start > 0)

    def _owner(self, batch: int) -> int:
        """The last segment that has a part in this batch, or the one that runs on into it."""
        return bisect_right(self._first_batches, batch) - 1

    @cached_property
    def _first_batches(self) -> list[int]:
        return [segment.first_batch for segment in self.segments]

    def column(self, name: str, first: int, last: int) -> NDArray[np.float64]:
        """loss, grad_norm or max_weight of the batches `first` … `last`, as far as they have been run; read-only."""
        kept = self._columns.get(name)
        if kept is not None and kept[0] == (first, last):
            return kept[1]
        pieces = []
        for segment, end in zip(self.segments, (*self._first_batches[1:], sys.maxsize), strict=True):
            low, high = max(first, segment.first_batch), min(last + 1, end)
            if low < high:
                pieces.append(segment.history.column(name)[low - segment.first_batch : high - segment.first_batch])
        if len(pieces) == 1:
            return pieces[0]
        joined = np.concatenate(pieces) if pieces else np.empty(0)
        joined.flags.writeable = False
        if len(joined) == last + 1 - first:  # all of them have been run, so that it stays as it is
            self._columns[name] = (first, last), joined
        return joined

    @cached_property
    def _columns(self) -> dict[str, tuple[tuple[int, int], NDArray[np.float64]]]:
        """What was put together last of each name: a screen asks for the same again at every step within a batch."""
        return {}

    def loss(self, batch: int) -> float:
        """The loss of a batch that has been run."""
        segment = self.segments[self._owner(batch)]
        return float(segment.history.column("loss")[batch - segment.first_batch])

    def parted(self, other: Timeline) -> int:
        """The tick to which this timeline and another are the same."""
        mine, theirs = self.segments, other.segments
        shared = bisect_left(range(min(len(mine), len(theirs))), True, key=lambda i: mine[i] is not theirs[i])
        return min((segments[shared].start for segments in (mine, theirs) if shared < len(segments)), default=sys.maxsize)

    def changed(self, at: Position, settings: Settings, change: Change, action: Action) -> Timeline:
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
        kept = self.segments[: bisect_left(self._starts, at.tick)]
        if len(kept) < len(self.segments) and self.segments[len(kept)].start == at.tick:
            action = action.following(self.segments[len(kept)].action)
        return replace(self, segments=(*kept, Segment(at.tick, at.number, record, settings, self.memory, action, earlier)))

    def changed_at(self, tick: int) -> frozenset[str]:
        """What was changed at a tick: parameters, values, gradients, the rate; the line there had been executed with others."""
        i = bisect_left(self._starts, tick)
        if i in (0, len(self.segments)) or self._starts[i] != tick:
            return frozenset()
        here, before = self.moment(tick), self.moment_before(tick)
        reset = self.program.config.reset
        names = (*parameter_names(reset), *values_of(reset), *gradients_of(reset), "learning_rate")
        return frozenset(n for n in names if not np.array_equal(before.value(n), here.value(n)))

    def common(self, other: Timeline) -> int:
        """How many of the first segments two timelines have in common."""
        pairs = zip(self.segments, other.segments, strict=False)
        shorter = min(len(self.segments), len(other.segments))
        return next((i for i, (mine, theirs) in enumerate(pairs) if mine is not theirs), shorter)

    def earlier(self, batch: int, monitor: Monitor | None = None) -> tuple[Activations, ...]:
        """The activations of the epoch's batches before `batch`, the latest first (carry `notebook`; empty for any other).

        `monitor` may raise where they are run again.
        """
        if not self.program.earlier:
            return ()
        begin = batch - batch % self.program.num_batches
        return tuple(self.record(b, monitor).activations for b in range(begin, batch))[::-1]

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
