"""Where a condition is tested: at the places of each batch where something that it reads is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from tui_gru.debugger.columns import Batch, WholeBatch
from tui_gru.debugger.conditions import Condition, ConditionError
from tui_gru.debugger.moment import INPUTS, WRITTEN_WITH, Moment, value_before
from tui_gru.debugger.position import position_of
from tui_gru.debugger.program import Program
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine.parameters import parameter_names
from tui_gru.engine.record import BatchRecord


@dataclass(frozen=True)
class Found:
    """Where a search ended, whether the condition held there, and why it could not be evaluated there, if so."""

    tick: int
    matched: bool = False
    error: ConditionError | None = None


def tested_ticks(program: Program, names: frozenset[str], learns: bool) -> tuple[int, ...]:
    """The ticks within a batch at which something in `names` is computed, in order.

    Gradients count once they are complete; parameters, which a batch that does not learn leaves as they are, at its end; counters
    where nothing else is read: `t` where a timestep begins, the others at the first line.
    """
    T, last = program.seq_length, program.ticks if learns else program.loss_tick
    begins = [t * len(program.forward) + 1 for t in range(T)]
    parameters = parameter_names(program.config.reset)
    ticks: set[int | None] = set()
    for name in names:
        if name in INPUTS:
            ticks.update(begins)
        elif name == "max_weight" or (name in parameters and not learns):
            ticks.add(last)
        elif name == "grad_norm" or (name[1:] in parameters and program.earlier):
            ticks.add(program.backward_end)
        elif name[1:] in parameters:
            ticks.add(program.tick_of(name, 0))
        else:
            ticks.update(program.tick_of(WRITTEN_WITH.get(name, name), t) for t in range(T))
    computed = ticks - {None}
    if not computed:
        computed = set(begins) if "t" in names else {1}
    return tuple(sorted(tick for tick in computed if tick is not None and tick <= last))


class Probe:
    """One condition, to be tested in batch after batch of one timeline."""

    def __init__(self, condition: Condition, timeline: Timeline) -> None:
        self._condition, self._timeline, self._program = condition, timeline, timeline.program
        self._vocabulary = timeline.segments[0].settings.trainer.corpus.vocabulary
        self._ticks = {learns: tested_ticks(self._program, condition.names, learns) for learns in (False, True)}
        self._whole: dict[bool, WholeBatch | None] = {}
        self._seen: tuple[int, BatchRecord | None] = -1, None

    def first(self, batch: int, record: BatchRecord, after: int = -1) -> Found | None:
        """The first place of a batch after tick `after` where the condition holds, or fails; None if there is none."""
        return next(self._found(batch, record, lambda k: k > after - batch * self._program.ticks, 1), None)

    def last(self, batch: int, record: BatchRecord, before: int | None = None) -> Found | None:
        """The last place of a batch before tick `before` where the condition holds, or fails; None if there is none."""
        limit = self._program.ticks + 1 if before is None else before - batch * self._program.ticks
        return next(self._found(batch, record, lambda k: k < limit, -1), None)

    def _found(self, batch: int, record: BatchRecord, wanted: Callable[[int], bool], way: int) -> Iterator[Found]:
        """The places of a batch where the condition holds, or fails, in the order of time or (`way` −1) against it."""
        start, previous = batch * self._program.ticks, self._batch_before(batch, record)
        whole = self._whole_batch(batch, record, previous)
        if whole is not None and (held := whole.holds(self._condition, Batch(batch, record, previous))) is not None:
            yield from (Found(start + k, True) for k in held[::way] if wanted(k))
            return
        for k in filter(wanted, self._ticks[record.gradients is not None][::way]):
            moment = self._moment(start + k, record)
            try:
                if self._condition.test(moment.value, partial(value_before, moment, previous)):
                    yield Found(start + k, True)
            except ConditionError as error:
                yield Found(start + k, False, error)

    def _moment(self, tick: int, record: BatchRecord) -> Moment:
        position = position_of(self._program, tick)
        if self._timeline.changed_in(position.number):
            return self._timeline.moment(tick)
        return Moment(self._program, position, record, self._vocabulary)

    def _batch_before(self, batch: int, record: BatchRecord) -> BatchRecord | None:
        if batch == 0 or not self._condition.previous:
            return None
        seen, previous = self._seen
        self._seen = batch, record
        return previous if seen == batch - 1 else self._timeline.record(batch - 1)

    def _whole_batch(self, batch: int, record: BatchRecord, previous: BatchRecord | None) -> WholeBatch | None:
        """How to test all places of a batch at once; None where they have to be tested one by one."""
        learns = record.gradients is not None
        if self._timeline.changed_in(batch):
            return None
        if self._condition.previous and (previous is None or (previous.gradients is not None) != learns):
            return None
        if learns not in self._whole:
            like = Moment(self._program, position_of(self._program, 0), record, self._vocabulary)
            self._whole[learns] = WholeBatch.of(self._condition, self._ticks[learns], like)
        return self._whole[learns]
