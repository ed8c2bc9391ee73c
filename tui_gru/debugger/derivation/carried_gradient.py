"""The contributions of earlier batches of the epoch to a gradient, with carry `notebook`.

They use the recorded values of each batch and the current weights. Their deltas are not recorded, so they are computed again, by
the same code that computed them first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np

from tui_gru.debugger.derivation.evaluation import AnyIndex
from tui_gru.debugger.derivation.origin import Derivation, Node, ValueRef, given
from tui_gru.debugger.derivation.term_builder import TermBuilder
from tui_gru.debugger.program.names import ValueKind
from tui_gru.debugger.program.naming import spoken
from tui_gru.debugger.program.position import in_words, position_of
from tui_gru.debugger.timeline.moment import Moment
from tui_gru.debugger.timeline.segment import Monitor
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.computing import Earlier, flows_out_of, gains_of_earlier
from tui_gru.engine.running.weights import Array
from tui_gru.equations import expression as e
from tui_gru.equations.expression import Expression

CACHED_BATCHES = 2  # batches whose deltas are cached; a gradient flows from one batch to the one before it


class CarriedGradient:
    """The earlier batches of one batch. `here` is the moment at which its gradient is complete; `node` gives the node of a number,
    `part` the derivation of a recorded part of a line, `activation` that of a part of a forward line without a name.

    Of each earlier batch, only the gradients that enter it, (B, ·), are kept; its deltas are computed on demand.
    """

    def __init__(
        self,
        timeline: Timeline,
        here: Moment,
        node: Callable[[ValueRef, int], Node],
        part: Callable[[Expression, str, AnyIndex, int, int], Derivation],
        activation: Callable[[Expression, AnyIndex, int, int], Derivation],
        monitor: Monitor | None = None,
    ) -> None:
        self._timeline, self._program, self._here, self._node = timeline, here.program, here, node
        self._stored = timeline.earlier(here.position.number, monitor)
        self._flows: list[list[Array]] = []  # by batch: the gradients of its states
        self._moment_of = lru_cache(maxsize=CACHED_BATCHES)(self._compute_moment)
        self._lines = TermBuilder(here.program, self._moment_at, self._term, part, activation)

    def terms(self, line: str, index: AnyIndex) -> tuple[Node, ...]:
        """Return the contribution of each earlier batch to entry `index` of the gradient `line` (dUz), latest batch first.

        Empty for a gradient that depends only on the losses of its own batch.
        """
        if self._here.record.compiled.is_zero_in_earlier(line):
            return ()
        record, scratch, terms = self._here.record, self._scratch(), list[Node]()
        self._flows = [flows_out_of(record)]
        at, shape = record.compiled.layout.places[line[1:]]
        with np.errstate(all="ignore"):
            for k, gain in enumerate(gains_of_earlier(record, self._flows[0], Earlier(self._stored, scratch))):
                value = float(gain[at : at + math.prod(shape)].reshape(shape)[index])
                terms.append(self._batch_term(line, index, self._here.position.number - 1 - k, value))
                self._flows.append(flows_out_of(scratch))
        return tuple(terms)

    def _batch_term(self, line: str, index: AnyIndex, batch: int, value: float) -> Node:
        at = position_of(self._program, self._end(batch))
        label = in_words(at.epoch, at.batch, between=" · ")
        latex = rf"\text{{{in_words(at.epoch, at.batch)}}}"
        return Node(label, value, partial(self._shares, line, index, batch), exact=True, latex=latex)

    def _shares(self, line: str, index: AnyIndex, batch: int) -> Derivation:
        """Return the contributions of the timesteps of one earlier batch, last timestep first."""
        formula, text = self._program.made_by(line)

        def shares() -> tuple[Node, ...]:
            timesteps = reversed(range(self._program.seq_length))
            made = self._lines.shares(formula, index, self._end(batch), timesteps, lambda own, _: replace(own, formula=text))
            return tuple(made)

        return Derivation("sum", shares, note="from its recorded values and the current weights")

    def _term(self, number: ValueRef, sign: int) -> Node:
        """Return the node of a name read by a line in an earlier batch: a delta computed here, or a number of the run."""
        if self._program.names[number.name].kind in (ValueKind.PARAMETER, ValueKind.OPTIMIZER_STATE):
            return self._node(replace(number, tick=self._here.position.tick), sign)
        batch = self._batch(number.tick)
        if self._program.names[number.name].kind is not ValueKind.VALUE_GRADIENT:
            return self._node(replace(number, tick=self._timeline.end_of(batch)), sign)
        assert number.t is not None
        value = self._lines.numbers(number.tick, number.t).entry(number.name, number.index)
        label, latex = spoken(self._program, number.name, number.index), self._program.writer.symbols.latex(number.name)
        return Node(label, value, partial(self._delta, number), sign=sign, exact=True, latex=latex)

    def _delta(self, number: ValueRef) -> Derivation:
        t, last, page = number.t, self._program.seq_length - 1, self._program.model.page
        assert t is not None
        state = self._program.state_ahead(number.name)
        if state is not None:
            handed = replace(number, name=f"d{page.before(state)}")
            if t < last:
                return Derivation("copy", (self._term(replace(handed, t=t + 1), 1),), note=f"what t {t + 2} hands back")
            return Derivation("copy", partial(self._from_batch_after, handed), note="what t 1 of the batch after it hands back")
        if self._here.record.compiled.is_zero_in_earlier(number.name):
            return given("the loss of an earlier batch is not counted again")
        formula, text = self._program.made_by(number.name)
        return replace(self._lines.formula(e.plain(formula), number.index, number.tick, t), formula=text)

    def _from_batch_after(self, handed: ValueRef) -> tuple[Node, ...]:
        batch = self._batch(handed.tick) + 1
        if batch == self._here.position.number:
            return (self._node(replace(handed, t=0, tick=self._here.position.tick), 1),)
        return (self._term(replace(handed, t=0, tick=self._end(batch)), 1),)

    # The batches

    def _moment_at(self, tick: int) -> Moment:
        return self._moment_of(self._batch(tick))

    def _compute_moment(self, batch: int) -> Moment:
        """Return an earlier batch at the end of its backward pass, with the deltas from the gradient of this batch."""
        k = self._here.position.number - 1 - batch
        scratch, stored = self._scratch(), self._stored[k]
        with np.errstate(all="ignore"):
            next(gains_of_earlier(self._here.record, self._flows[k], Earlier([stored], scratch)))
        record = stored.copy()
        record.take_deltas(scratch)
        for name in self._program.names_of(ValueKind.VALUE_GRADIENT):
            if record.compiled.is_zero_in_earlier(name):  # not computed; its memory can hold a part of its line
                record.array(name).fill(0)
        record.before = self._here.record.before
        return Moment(self._program, position_of(self._program, self._end(batch)), record, self._here.vocabulary)

    def _scratch(self) -> BatchRecord:
        return BatchRecord(self._here.record.compiled)

    def _end(self, batch: int) -> int:
        return batch * self._program.ticks + self._program.backward_end

    def _batch(self, tick: int) -> int:
        return (tick - 1) // self._program.ticks
