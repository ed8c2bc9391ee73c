"""Finds the origin of a number: the line that computed it, and the terms of that line with the numbers it read."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np

from tui_gru.debugger.by_hand import ByHand
from tui_gru.debugger.earlier_batches import EarlierBatches
from tui_gru.debugger.evaluation import Index
from tui_gru.debugger.formula import Formula, Name
from tui_gru.debugger.line_terms import LineTerms
from tui_gru.debugger.moment import Moment, readable_names, unknown_name
from tui_gru.debugger.naming import printable, spoken
from tui_gru.debugger.origin import Expansion, Node, Number, given
from tui_gru.debugger.program import Line
from tui_gru.debugger.segment import Monitor
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.initial import DRAWN
from tui_gru.engine.parameters import parameter_names

COUNTED = ("epoch", "batch", "t", "char", "target")


class Explainer:
    """Reads one timeline. Batches that are needed are replayed, as for any reading; `monitor` may raise where they are."""

    def __init__(self, timeline: Timeline, monitor: Monitor | None = None) -> None:
        self._monitor = monitor
        self._timeline, self._program = timeline, timeline.program
        self._config = timeline.program.config
        self._parameters = parameter_names(self._config.reset)
        self._vocabulary = timeline.segments[0].settings.trainer.corpus.vocabulary
        self._by_hand = ByHand(timeline, self._node)
        self._after = lru_cache(maxsize=16)(partial(timeline.moment, monitor=monitor))
        self._before = lru_cache(maxsize=16)(timeline.moment_before)
        self._earlier = lru_cache(maxsize=2)(self._earlier_batches)
        self._lines = LineTerms(timeline.program, self._vocabulary, self._before, self._found, self._part)

    def explain(self, number: Number) -> Node:
        """The number and where it comes from. Raises `TuiGruError` where there is no such number at that place."""
        self._check(number)
        return self._node(number)

    def _check(self, number: Number) -> None:
        known = readable_names(self._config.reset)
        if number.name not in known or number.name in COUNTED:
            raise TuiGruError(unknown_name(number.name, tuple(n for n in known if n not in COUNTED)))
        value = self._moment(number).value(number.name, number.t)
        if value is None:
            raise TuiGruError(f"{number.name} is not computed yet at this place; step on to where it is")
        shape = np.shape(value)
        if len(number.index) != len(shape) or any(not 0 <= i < n for i, n in zip(number.index, shape, strict=True)):
            where = ", ".join(map(str, number.index))
            raise TuiGruError(f"{number.name} has the shape {shape} and no entry [{where}]; indices are counted from 0")

    # Numbers of the run

    def _node(self, number: Number, sign: int = 1) -> Node:
        value = float(np.asarray(self._moment(number).value(number.name, number.t))[number.index])
        label = spoken(number.name, number.index, self._vocabulary)
        return Node(label, value, partial(self._expand, number), number, sign, exact=True, latex=_latex(number))

    def _found(self, number: Number, sign: int = 1) -> Node:
        """A number as the line that is executed at its tick finds it, before anything was changed there by hand."""
        return self._node(replace(number, before=self._by_hand.at(number.tick)), sign)

    def _moment(self, number: Number) -> Moment:
        return (self._before if number.before else self._after)(number.tick)

    def _t(self, number: Number) -> int:
        return self._timeline.position(number.tick).t if number.t is None else number.t

    def _expand(self, number: Number) -> Expansion:
        name = number.name
        if name in self._parameters:
            return self._parameter(number)
        if name[1:] in self._parameters and name[0] == "d":
            return self._gradient(number)
        match name:
            case "x" | "y":
                return self._character(number)
            case "h_prev":
                return self._state_before(number)
            case "dh_future":
                return self._from_future(number)
            case "learning_rate":
                return given(self._by_hand.rate(number) or "the learning rate that the run began with")
            case "grad_norm":
                return self._gradient_norm(number)
            case "max_weight":
                return self._largest_weight(number)
        return self._computed(number)

    def _computed(self, number: Number) -> Expansion:
        """What a line computes for a timestep, or a part of it that has a name."""
        name, t = number.name, self._t(number)
        offset = self._program.tick_of(name, t)
        assert offset is not None
        tick = self._batch(number) * self._program.ticks + offset
        if (edit := self._by_hand.expansion(number, tick)) is not None:
            return edit
        formula, text = self._program.made_by(name)
        return replace(self._lines.formula(formula, number.index, tick, t), tick=tick, formula=text)

    def _part(self, part: Formula, name: str, index: Index, tick: int, t: int) -> Expansion:
        """How a recorded part of a line was made, by the first line that it stands in."""
        offset = self._program.tick_of(name, t)
        assert offset is not None
        return self._lines.formula(part, index, self._batch_of(tick) * self._program.ticks + offset, t)

    def _state_before(self, number: Number) -> Expansion:
        t, batch = self._t(number), self._batch(number)
        if t > 0:
            return self._copy(replace(number, name="h", t=t - 1), f"h at t {t}")
        if (edit := self._by_hand.expansion(number, batch * self._program.ticks)) is not None:
            return edit
        if batch % self._program.num_batches == 0:
            return given("every epoch begins with h = 0")
        if self._config.carry == "reset":
            return given("every batch begins with h = 0")
        last = self._program.seq_length - 1
        read = Number("h", number.index, last, self._timeline.end_of(batch - 1))
        return self._copy(read, "h at the end of the batch before")

    def _from_future(self, number: Number) -> Expansion:
        t = self._t(number)
        if t == self._program.seq_length - 1:
            return given("nothing comes after the last timestep")
        return self._copy(replace(number, name="dh_prev", t=t + 1), f"what t {t + 2} hands back")

    def _copy(self, of: Number, note: str) -> Expansion:
        node = self._node(of)
        return Expansion("copy", (node,), note=note, tick=self._expand(of).tick)

    def _character(self, number: Number) -> Expansion:
        t, batch = self._t(number), self._batch(number) % self._program.num_batches
        row = number.index[0]
        moment = self._moment(number)
        corpus = self._timeline.segment_at(number.tick).settings.trainer.corpus
        place = corpus.position_in_text(batch, t, row) + (number.name == "y")
        char = printable(str(moment.value("char" if number.name == "x" else "target", t)[row]))
        role = "read" if number.name == "x" else "to be predicted"
        loaded = self._batch(number) * self._program.ticks + t * len(self._program.forward)  # just before the timestep began
        by_hand = self._by_hand.character(place, replace(number, tick=loaded, before=False))
        note = f"“{char}” is {role} here: character {place + 1} of the text"
        return given(f"{note}, {by_hand}" if by_hand else note, tick=number.tick)

    # Parameters and gradients

    def _parameter(self, number: Number) -> Expansion:
        name, (batch, offset) = number.name, self._place(number)
        update = self._program.tick_of(name)
        assert update is not None
        here = self._moment(number)
        learned: int | None = batch if here.learned and offset >= update else self._timeline.learned_before(batch)
        tick = 0 if learned is None else learned * self._program.ticks + update
        if (edit := self._by_hand.expansion(number, tick)) is not None:
            return edit
        if learned is None:
            drawn = f"an initial weight, drawn with seed {self._config.seed}" if name in DRAWN else "biases begin at 0"
            return given(drawn, tick=0)
        at = self._timeline.position(tick)
        note = f"from the update of epoch {at.epoch + 1}, batch {at.batch + 1}"
        text = self._program.lines[name].text
        return Expansion("sum", partial(self._step, number, tick), tick=tick, formula=text, note=note)

    def _step(self, number: Number, tick: int) -> tuple[Node, ...]:
        """What a parameter was before its update at `tick`, and what that took from it."""
        old = self._node(replace(number, tick=tick - 1))
        old = replace(old, label=f"prev({old.label})")
        rate = self._found(Number("learning_rate", (), None, tick))
        gradient = self._found(Number(f"d{number.name}", number.index, None, tick))
        formula = self._program.lines[number.name].formula
        assert formula is not None
        value = rate.value * gradient.value
        step = Node(formula.text, value, lambda: Expansion("product", (rate, gradient)), sign=-1, latex=formula.latex)
        return old, step

    def _gradient(self, number: Number) -> Expansion:
        """A gradient: the shares of the timesteps done so far, and what carry `notebook` adds."""
        line, last = self._program.lines[number.name], self._program.seq_length - 1
        name, (batch, offset) = number.name[1:], self._place(number)
        first = self._program.tick_of(number.name, last)
        assert first is not None
        done = min((offset - first) // len(self._program.backward) + 1, self._program.seq_length)
        tick = batch * self._program.ticks + first + (done - 1) * len(self._program.backward)
        complete = batch * self._program.ticks + self._program.backward_end
        if offset >= self._program.backward_end and (edit := self._by_hand.expansion(number, complete)) is not None:
            return edit
        on = self._program.earlier and offset >= self._program.backward_end and name not in ("Wy", "by")
        if on:
            tick = complete
        terms = [self._share(line, number.index, tick, t) for t in range(last, last - done, -1)]
        if on:
            earlier = self._earlier(tick).terms(number.name, number.index)
            if earlier:
                every = Expansion("sum", earlier, note="the gradient runs on through the epoch's earlier batches")
                label = "earlier batches"
                terms.append(Node(label, every.combined, lambda: every, latex=rf"\text{{{label}}}"))
        return Expansion("sum", tuple(terms), tick=tick, formula=line.text, note="a share of each timestep")

    def _share(self, line: Line, index: Index, tick: int, t: int) -> Node:
        assert line.formula is not None
        value = float(self._lines.numbers(tick, t).value(line.formula, index))
        at = self._batch_of(tick) * self._program.ticks + (self._program.tick_of(line.target, t) or 0)

        def expand() -> Expansion:
            assert line.formula is not None
            return replace(self._lines.formula(line.formula, index, tick, t), tick=at, formula=line.text)

        return Node(f"t {t + 1}", value, expand, latex=rf"\left({line.formula.latex}\right)_{{t={t + 1}}}")

    def _earlier_batches(self, tick: int) -> EarlierBatches:
        """Those before the batch whose gradient is complete at `tick`."""
        return EarlierBatches(self._timeline, self._before(tick), self._found_there, self._part, self._monitor)

    def _found_there(self, number: Number, sign: int) -> Node:
        """A number of an earlier batch as it was at its end; of the batch whose gradient runs on, as it was found then."""
        at_end = number.tick == self._timeline.end_of(self._batch(number))
        return (self._node if at_end else self._found)(number, sign)

    def _gradient_norm(self, number: Number) -> Expansion:
        record = self._moment(number).record
        assert record.gradients is not None
        terms = []
        for name, gradient in record.gradients.items():
            flat = np.asarray(gradient, np.float64).ravel()
            norm = math.sqrt(float(flat @ flat))
            terms.append(Node(f"‖d{name}‖", norm, _squared, latex=rf"\lVert d{name} \rVert"))
        tick = self._batch(number) * self._program.ticks + self._program.backward_end
        return Expansion("norm", tuple(terms), tick=tick, note="the root of the sum of the squares")

    def _largest_weight(self, number: Number) -> Expansion:
        parameters = self._moment(number).parameters
        name = max(parameters.names, key=lambda n: float(np.abs(parameters[n]).max()))
        where = tuple(int(i) for i in np.unravel_index(int(np.argmax(np.abs(parameters[name]))), parameters[name].shape))
        node = self._node(replace(number, name=name, index=where))
        return Expansion("copy", (replace(node, sign=-1 if node.value < 0 else 1),), tick=number.tick, note="the largest |weight|")

    # Places

    def _batch_of(self, tick: int) -> int:
        return self._timeline.position(tick).number

    def _batch(self, number: Number) -> int:
        return self._batch_of(number.tick)

    def _place(self, number: Number) -> tuple[int, int]:
        position = self._timeline.position(number.tick)
        return position.number, position.offset


def _squared() -> Expansion:
    return given("the root of the sum of its squares")


def _latex(number: Number) -> str:
    """`h^{(2)}_{2,1}`: timestep, row and unit, counted from 1."""
    name = Name(number.name).latex
    above = f"^{{({number.t + 1})}}" if number.t is not None else ""
    below = f"_{{{','.join(str(i + 1) for i in number.index)}}}" if number.index else ""
    return f"{{{name}}}{above}{below}" if above or below else name
