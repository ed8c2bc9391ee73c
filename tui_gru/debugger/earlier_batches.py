"""What carry `notebook` adds to a gradient: each earlier batch of the epoch, along what it computed then and the weights of now.

The deltas there belong to no batch of the run, so they are computed again, by the kernels that computed them the first time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np

from tui_gru.debugger.evaluation import Index
from tui_gru.debugger.formula import Formula, Name
from tui_gru.debugger.line_terms import LineTerms
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.naming import spoken
from tui_gru.debugger.origin import Expansion, Node, Number, given
from tui_gru.debugger.position import position_of
from tui_gru.debugger.segment import Monitor
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine.backward import gains_of_earlier
from tui_gru.engine.parameters import Array, parameter_names
from tui_gru.engine.record import BACKWARD_NAMES, BatchRecord, Deltas

AT_HAND = 2  # batches whose deltas are kept: a gradient flows from one to the one before it


class EarlierBatches:
    """Those before one batch. `here` is that batch once its gradient is complete; `node` gives a number of it, or of theirs, and
    `part` says how a recorded part of a line was made there.

    Of each earlier batch only the gradient (B, H) that comes into it is kept; its deltas are worked out when they are asked for.
    """

    def __init__(
        self,
        timeline: Timeline,
        here: Moment,
        node: Callable[[Number, int], Node],
        part: Callable[[Formula, str, Index, int, int], Expansion],
        monitor: Monitor | None = None,
    ) -> None:
        self._timeline, self._program, self._here, self._node = timeline, here.program, here, node
        self._parameters = parameter_names(here.program.config.reset)
        self._stored = timeline.earlier(here.position.number, monitor)
        self._flows: list[Array] = []
        self._moment_of = lru_cache(maxsize=AT_HAND)(self._worked_out)
        self._lines = LineTerms(here.program, here.vocabulary, self._moment_at, self._term, part)

    def terms(self, line: str, index: Index) -> tuple[Node, ...]:
        """What each adds to entry `index` of the gradient that `line` computes (dUz), the latest batch first."""
        assert self._here.record.deltas is not None
        name, flow = line[1:], self._here.record.deltas.flow[0]
        scratch, flows, terms = self._scratch(), [flow.copy()], []
        with np.errstate(all="ignore"):
            for k, gain in enumerate(gains_of_earlier(self._here.record.parameters, flow, self._stored, scratch)):
                terms.append(self._batch_term(line, index, self._here.position.number - 1 - k, float(gain[name][index])))
                flows.append(scratch.flow[0].copy())
        self._flows = flows
        return tuple(terms)

    def _batch_term(self, line: str, index: Index, batch: int, value: float) -> Node:
        at = position_of(self._program, self._end(batch))
        label = f"epoch {at.epoch + 1} · batch {at.batch + 1}"
        latex = rf"\text{{epoch {at.epoch + 1}, batch {at.batch + 1}}}"
        return Node(label, value, partial(self._shares, line, index, batch), exact=True, latex=latex)

    def _shares(self, line: str, index: Index, batch: int) -> Expansion:
        """What the timesteps of one earlier batch add, the last first."""
        formula, text = self._program.made_by(line)

        def share(t: int) -> Node:
            value = float(self._lines.numbers(self._end(batch), t).value(formula, index))
            return Node(
                f"t {t + 1}",
                value,
                lambda: replace(self._lines.formula(formula, index, self._end(batch), t), formula=text),
                latex=rf"\left({formula.latex}\right)_{{t={t + 1}}}",
            )

        def shares() -> tuple[Node, ...]:
            return tuple(share(t) for t in reversed(range(self._program.seq_length)))

        return Expansion("sum", shares, note="along what it computed then, and the weights as they are now")

    def _term(self, number: Number, sign: int) -> Node:
        """A name in a line, read in an earlier batch: a delta of its own there, else a number of the run."""
        if number.name in self._parameters:
            return self._node(replace(number, tick=self._here.position.tick), sign)
        batch = self._batch(number.tick)
        if number.name not in BACKWARD_NAMES:
            return self._node(replace(number, tick=self._timeline.end_of(batch)), sign)
        assert number.t is not None
        value = self._lines.numbers(number.tick, number.t).entry(number.name, number.index)
        label = spoken(number.name, number.index, self._here.vocabulary)
        return Node(label, value, partial(self._delta, number), sign=sign, exact=True, latex=Name(number.name).latex)

    def _delta(self, number: Number) -> Expansion:
        t, last = number.t, self._program.seq_length - 1
        assert t is not None
        if number.name == "dh_output":
            return given("the loss of an earlier batch is not counted again")
        if number.name == "dh_future":
            if t < last:
                return Expansion(
                    "copy", (self._term(replace(number, name="dh_prev", t=t + 1), 1),), note=f"what t {t + 2} hands back"
                )
            return Expansion("copy", partial(self._from_batch_after, number), note="what t 1 of the batch after it hands back")
        formula, text = self._program.made_by(number.name)
        return replace(self._lines.formula(formula, number.index, number.tick, t), formula=text)

    def _from_batch_after(self, number: Number) -> tuple[Node, ...]:
        batch = self._batch(number.tick) + 1
        if batch == self._here.position.number:
            return (self._node(replace(number, name="dh_prev", t=0, tick=self._here.position.tick), 1),)
        return (self._term(replace(number, name="dh_prev", t=0, tick=self._end(batch)), 1),)

    # The batches

    def _moment_at(self, tick: int) -> Moment:
        return self._moment_of(self._batch(tick))

    def _worked_out(self, batch: int) -> Moment:
        """An earlier batch with the deltas that this one's gradient gives it, at the end of its backward pass."""
        k = self._here.position.number - 1 - batch
        scratch, parameters = self._scratch(), self._here.record.parameters
        with np.errstate(all="ignore"):
            gain = next(gains_of_earlier(parameters, self._flows[k], self._stored[k : k + 1], scratch))
        record = BatchRecord(self._stored[k], scratch, gain)
        record.parameters = record.updated = parameters
        return Moment(self._program, position_of(self._program, self._end(batch)), record, self._here.vocabulary)

    def _scratch(self) -> Deltas:
        return Deltas(self._program.config)

    def _end(self, batch: int) -> int:
        return batch * self._program.ticks + self._program.backward_end

    def _batch(self, tick: int) -> int:
        return (tick - 1) // self._program.ticks
