"""Derives a number: finds the line that computed it, and the terms of that line with the numbers it read."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from tui_gru.debugger.derivation.carried_gradient import CarriedGradient
from tui_gru.debugger.derivation.evaluation import AnyIndex
from tui_gru.debugger.derivation.manual_edits import ManualEdits
from tui_gru.debugger.derivation.origin import Derivation, Node, ValueRef, given, total_of
from tui_gru.debugger.derivation.term_builder import TermBuilder
from tui_gru.debugger.program.names import ValueKind, unknown_name
from tui_gru.debugger.program.naming import no_entry, shown_char, spoken
from tui_gru.debugger.program.position import in_words
from tui_gru.debugger.timeline.moment import Moment
from tui_gru.debugger.timeline.segment import Monitor
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine import numbers
from tui_gru.engine.config import FROM_FILE
from tui_gru.engine.data.corpus import Corpus
from tui_gru.engine.data.given import Given
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.running.initial import is_drawn
from tui_gru.engine.running.weights import Weights
from tui_gru.equations import expression as e
from tui_gru.equations.expression import Expression


class Explainer:
    """Derives numbers of one timeline. Replays batches as needed; `monitor` sees replayed batches and may raise an error."""

    def __init__(self, timeline: Timeline, monitor: Monitor | None = None) -> None:
        self._monitor = monitor
        self._timeline, self._program = timeline, timeline.program
        self._config = timeline.program.config
        self._edits = ManualEdits(timeline, self._node, lambda *line: self._after_lines.formula(*line))
        self._after = lru_cache(maxsize=16)(partial(timeline.moment, monitor=monitor))
        self._before = lru_cache(maxsize=16)(timeline.moment_before)
        self._earlier = lru_cache(maxsize=2)(self._earlier_batches)
        self._lines = TermBuilder(timeline.program, self._before, self._node_as_read, self._part_as_read, self._activation)
        # Reads numbers as of a tick; for a line of the update, the tick before it.
        self._after_lines = TermBuilder(timeline.program, self._after, self._not_updated, self._part, self._activation)

    def explain(self, number: ValueRef) -> Node:
        """Return the derivation of a number. Raises `TuiGruError` if the number does not exist at that place."""
        self._check(number)
        return self._node(number)

    def _check(self, number: ValueRef) -> None:
        names = self._program.names
        if number.name not in names or names[number.name].kind in (ValueKind.COUNTER, ValueKind.CHARACTER):
            explained = [name for name, named in names.items() if named.kind not in (ValueKind.COUNTER, ValueKind.CHARACTER)]
            raise TuiGruError(unknown_name(number.name, explained))
        value = self._moment(number).value(number.name, number.t)
        if value is None:
            raise TuiGruError(f"{number.name} has not been computed yet; step over its line first")
        shape = np.shape(value)
        if len(number.index) != len(shape) or any(not 0 <= i < n for i, n in zip(number.index, shape, strict=True)):
            raise TuiGruError(no_entry(number.name, shape, number.index))

    # Numbers of the run

    def _node(self, number: ValueRef, sign: int = 1) -> Node:
        value = float(np.asarray(self._value(number))[number.index])
        label = spoken(self._program, number.name, number.index)
        return Node(label, value, partial(self._expand, number), number, sign, exact=True, latex=self._latex(number))

    def _node_as_read(self, number: ValueRef, sign: int = 1) -> Node:
        """Return a number as the line at its tick reads it, before any edit at that tick."""
        return self._node(replace(number, before=self._edits.at(number.tick)), sign)

    def _not_updated(self, number: ValueRef, sign: int = 1) -> Node:
        """Return a number as a line of the update rule reads it: the target of the line has its old value."""
        node, update = self._node(number, sign), self._program.tick_of(number.name)
        if self._program.names[number.name].kind is ValueKind.OPTIMIZER_STATE and update == self._place(number)[1] + 1:
            return replace(node, label=f"prev({node.label})")
        return node

    def _value(self, number: ValueRef) -> Any:
        moment = self._moment(number)
        value = moment.value(number.name, number.t)
        # A state that is edited before the timestep that reads it begins; an input of a sum over the timesteps.
        if value is None and self._program.names[number.name].kind in (ValueKind.STATE, ValueKind.INPUT):
            value = moment.record.array(number.name)[self._t(number)]
        return value

    def _moment(self, number: ValueRef) -> Moment:
        return (self._before if number.before else self._after)(number.tick)

    def _t(self, number: ValueRef) -> int:
        return self._timeline.position(number.tick).t if number.t is None else number.t

    def _expand(self, number: ValueRef) -> Derivation:
        found = self._derived(number)
        own = self._own_value(number, found)
        if own is None:
            return found
        note = f"as recorded on another machine; here {numbers.exact(self._config.compiled.dtype.type(own)).removeprefix('+')}"
        return replace(found, note=f"{found.note}; {note}" if found.note else note)

    def _own_value(self, number: ValueRef, found: Derivation) -> float | None:
        """Return what this machine computed in the place of a number that another machine recorded; None if it is the same."""
        if found.kind == "given" or self._timeline.last.own:
            return None
        value, own = float(np.asarray(self._value(number))[number.index]), None
        kind = self._program.names[number.name].kind
        if kind is ValueKind.STATE and found.kind == "copy":  # from the batch before, after which a checkpoint follows
            own = found.terms[0].value
        elif kind in (ValueKind.PARAMETER, ValueKind.OPTIMIZER_STATE, ValueKind.NUMBER):
            record = self._after(number.tick if found.tick is None else found.tick).record
            results = record.own_results
            if results is not None and kind is ValueKind.NUMBER:
                own = getattr(results, number.name, None)
            elif results is not None and results.after is not None:
                own = float(Weights(record.compiled.layout, results.after)[number.name][number.index])
        return None if own is None or numbers.same(own, value) else own

    def _derived(self, number: ValueRef) -> Derivation:
        name = number.name
        if (source := self._config.given) is not None and (found := self._given(number, source)) is not None:
            return found
        match self._program.names[name].kind:
            case ValueKind.PARAMETER | ValueKind.OPTIMIZER_STATE:
                return self._weight(number)
            case ValueKind.GRADIENT:
                return self._gradient(number)
            case ValueKind.INPUT:
                return self._character(number)
            case ValueKind.STATE:
                return self._state_before(number, self._program.names[name].read_in)
            case ValueKind.SETTING:
                return given(self._edits.setting(number) or "a setting of the update rule, with the value that the run began with")
            case ValueKind.NUMBER if name == "grad_norm":
                return self._gradient_norm(number)
            case ValueKind.NUMBER if name == "max_weight":
                return self._largest_weight(number)
        state = self._program.state_ahead(name)
        return self._computed(number) if state is None else self._from_next(number, state)

    def _given(self, number: ValueRef, source: Given) -> Derivation | None:
        """Return the derivation of a number that a run on given batches received; None for a computed number."""
        name, batch = number.name, self._batch(number)
        kind, at = self._program.names[name].kind, f" at step {source.steps[batch]:,}" if source.steps else ""
        begin = batch * self._program.ticks
        if kind is ValueKind.INPUT:
            return given(f"{name} as it was given{at}: {source.inputs_from}", tick=number.tick)
        if kind is ValueKind.PARAMETER:
            return self._edits.derivation(number, begin) or given(f"a weight of {source.origin}{at}", tick=begin)
        if name in {line.target for line in self._program.outside}:
            return self._edits.derivation(number, begin) or given(f"the gradient from outside{at}: your head and loss", tick=begin)
        return None

    def _computed(self, number: ValueRef) -> Derivation:
        """Return the derivation of a number computed by a line, or by a labelled part of one."""
        tick = self._computed_at(number)
        if (edit := self._edits.derivation(number, tick)) is not None:
            return edit
        formula, text = self._program.made_by(number.name)
        return replace(self._lines.formula(formula, number.index, tick, self._t(number)), tick=tick, formula=text)

    def _part(self, part: Expression, name: str, index: AnyIndex, tick: int, t: int) -> Derivation:
        """Return the derivation of a recorded part, from the first line that contains it, or from an edit."""
        return self._part_of(part, ValueRef(name, index, t, tick))

    def _part_as_read(self, part: Expression, name: str, index: AnyIndex, tick: int, t: int) -> Derivation:
        """Return the same, as the line at a tick reads it."""
        return self._part_of(part, ValueRef(name, index, t, tick, before=self._edits.at(tick)))

    def _part_of(self, part: Expression, number: ValueRef) -> Derivation:
        tick = self._computed_at(number)
        if (edit := self._edits.derivation(number, tick)) is not None:
            return edit
        return self._lines.formula(part if part.children else e.plain(part), number.index, tick, self._t(number))

    def _activation(self, part: Expression, index: AnyIndex, tick: int, t: int) -> Derivation:
        """Return the derivation of a part of a forward line that has no name, from what the line read when it was executed."""
        schedule = self._program.config.compiled.schedule
        line = schedule.phases["forward"].lines[schedule.activation(part).line]
        offset = self._program.tick_of(line.target, t)
        assert offset is not None
        at = self._batch_of(tick) * self._program.ticks + offset
        return replace(self._lines.formula(part, index, at, t), tick=at)

    def _computed_at(self, number: ValueRef) -> int:
        """Return the tick at which the line of a number was executed."""
        offset = self._program.tick_of(number.name, self._t(number))
        assert offset is not None
        return self._batch(number) * self._program.ticks + offset

    def _state_before(self, number: ValueRef, state: str) -> Derivation:
        """Return the derivation of a state that a timestep reads, from the timestep before (after, for a backward state)."""
        t, batch, page = self._t(number), self._batch(number), self._program.model.page
        way = -1 if page.states[state].backwards else 1
        shown, last = self._program.writer.name(state), self._program.seq_length - 1
        if 0 <= t - way <= last:
            return self._copy(replace(number, name=state, t=t - way), f"{shown} at t {t - way + 1}")
        if (edit := self._edits.derivation(number, batch * self._program.ticks)) is not None:
            return edit
        if self._config.given is not None:
            return given(f"{shown} as given with the batch: h0")
        if batch % self._program.num_batches == 0:
            return given(f"every epoch begins with {shown} = 0")
        if self._config.carry == "reset":
            return given(f"every batch begins with {shown} = 0")
        read = ValueRef(state, number.index, last if way > 0 else 0, self._timeline.end_of(batch - 1))
        return self._copy(read, f"{shown} at the end of the batch before")

    def _from_next(self, number: ValueRef, state: str) -> Derivation:
        """Return the derivation of the gradient that a state receives from the timestep that reads it."""
        t, page = self._t(number), self._program.model.page
        way = -1 if page.states[state].backwards else 1
        if not 0 <= t + way < self._program.seq_length:
            if self._config.given is not None:
                return given("the gradient of the last state, given from outside")
            return given("nothing comes after the last timestep" if way > 0 else "nothing comes before the first timestep")
        handed = replace(number, name=f"d{page.before(state)}", t=t + way)
        return self._copy(handed, f"what t {t + way + 1} hands back")

    def _copy(self, of: ValueRef, note: str) -> Derivation:
        node = self._node(of)
        return Derivation("copy", (node,), note=note, tick=self._expand(of).tick)

    def _character(self, number: ValueRef) -> Derivation:
        t, batch = self._t(number), self._batch(number) % self._program.num_batches
        row = number.index[0]
        moment = self._moment(number)
        corpus = self._timeline.segment_at(number.tick).trainer.corpus
        assert isinstance(corpus, Corpus)  # given inputs were handled above
        is_target = self._program.model.page.inputs[number.name].target
        place = corpus.position_in_text(batch, t, row) + is_target
        char = shown_char(str(moment.value("target" if is_target else "char", t)[row]))
        role = "to be predicted" if is_target else "read"
        begun = self._program.there_at(number.name, t)
        assert begun is not None
        loaded = self._batch(number) * self._program.ticks + begun - 1  # just before the timestep began
        by_hand = self._edits.character(place, replace(number, tick=loaded, before=False))
        note = f"“{char}” is {role} here: character {place + 1} of the text"
        return given(f"{note}, {by_hand}" if by_hand else note, tick=number.tick)

    # Parameters and gradients

    def _weight(self, number: ValueRef) -> Derivation:
        """Return the derivation of a parameter or a state of the update rule, from its last update or from the start of the run."""
        name, (batch, offset) = number.name, self._place(number)
        update = self._program.tick_of(name)
        assert update is not None
        here = self._moment(number)
        learned: int | None = batch if here.learned and offset >= update else self._timeline.learned_before(batch)
        tick = 0 if learned is None else learned * self._program.ticks + update
        if (edit := self._edits.derivation(number, tick)) is not None:
            return edit
        if learned is None:
            return given(self._initial(name), tick=0)
        at = self._timeline.position(tick)
        note = f"from the update of {in_words(at.epoch, at.batch)}"
        text = self._program.lines[name].text
        return Derivation("sum", partial(self._update, number, tick), tick=tick, formula=text, note=note)

    def _initial(self, name: str) -> str:
        if self._program.names[name].kind is ValueKind.OPTIMIZER_STATE:
            return f"{self._program.writer.name(name)} begins at 0"
        if self._config.init == FROM_FILE:
            return "a weight of the file that was opened"
        return f"an initial weight, drawn with seed {self._config.seed}" if is_drawn(self._config, name) else "biases begin at 0"

    def _update(self, number: ValueRef, tick: int) -> tuple[Node, ...]:
        """Return the terms of a line of the update rule at `tick`: the old value, and the change."""
        line = self._program.lines[number.name]
        assert line.formula is not None
        before, t = tick - 1, self._program.seq_length - 1
        if line.op == "=":
            terms = self._after_lines.formula(line.formula, number.index, before, t)
            return terms.terms if terms.kind == "sum" else (self._after_lines.entry(line.formula, number.index, before, t),)
        old = self._node(replace(number, tick=before))
        return replace(old, label=f"prev({old.label})"), self._after_lines.entry(line.formula, number.index, before, t, -1)

    def _gradient(self, number: ValueRef) -> Derivation:
        """Return the derivation of a gradient: the contributions of the timesteps so far, and those of carry `notebook`."""
        program, line = self._program, self._program.lines[number.name]
        batch, offset = self._place(number)
        place = program.place_of(number.name)
        assert place is not None
        block, index = place
        done = program.steps_done(number.name, offset)
        tick = batch * program.ticks + block.start + (done - 1) * len(block.lines) + index + 1
        complete = batch * program.ticks + program.backward_end
        if offset >= program.backward_end and (edit := self._edits.derivation(number, complete)) is not None:
            return edit
        earlier: tuple[Node, ...] = ()
        if program.earlier and offset >= program.backward_end:
            tick = complete
            earlier = self._earlier(tick).terms(number.name, number.index)
        assert line.formula is not None
        if not block.way and not earlier:
            return replace(
                self._lines.formula(line.formula, number.index, tick, program.seq_length - 1), tick=tick, formula=line.text
            )

        def expanded(made: Derivation, t: int) -> Derivation:
            return replace(made, tick=batch * program.ticks + (program.tick_of(line.target, t) or 0), formula=line.text)

        terms = self._lines.shares(line.formula, number.index, tick, map(block.timestep, range(done)), expanded)
        if earlier:
            every = Derivation("sum", earlier, note="the gradient continues through the epoch's earlier batches")
            label = "earlier batches"
            value = total_of([node.contribution for node in earlier])
            terms.append(Node(label, value, lambda: every, latex=rf"\text{{{label}}}"))
        return Derivation("sum", tuple(terms), tick=tick, formula=line.text, note="a share of each timestep")

    def _earlier_batches(self, tick: int) -> CarriedGradient:
        """Return the earlier batches of the batch whose gradient is complete at `tick`."""
        here = self._before(tick)
        return CarriedGradient(self._timeline, here, self._node_of_earlier, self._part, self._activation, self._monitor)

    def _node_of_earlier(self, number: ValueRef, sign: int) -> Node:
        """Return a number of an earlier batch as of its end; of the batch whose gradient continues, as the line read it."""
        at_end = number.tick == self._timeline.end_of(self._batch(number))
        return (self._node if at_end else self._node_as_read)(number, sign)

    def _gradient_norm(self, number: ValueRef) -> Derivation:
        record = self._moment(number).record
        assert record.gradients is not None
        terms = []
        for name, gradient in record.gradients.items():
            flat = np.asarray(gradient, np.float64).ravel()
            norm = math.sqrt(float(flat @ flat))
            terms.append(
                Node(f"‖d{name}‖", norm, _squared, latex=rf"\lVert {self._program.writer.symbols.latex(f'd{name}')} \rVert")
            )
        offset = self._program.tick_of("grad_norm") or self._program.backward_end
        tick = self._batch(number) * self._program.ticks + offset
        return Derivation("norm", tuple(terms), tick=tick, note="the root of the sum of the squares")

    def _largest_weight(self, number: ValueRef) -> Derivation:
        weights = self._moment(number).weights
        name = max(weights.names, key=lambda n: float(np.abs(weights[n]).max()))
        where = tuple(int(i) for i in np.unravel_index(int(np.argmax(np.abs(weights[name]))), weights[name].shape))
        node = self._node(replace(number, name=name, index=where))
        return Derivation("copy", (replace(node, sign=-1 if node.value < 0 else 1),), tick=number.tick, note="the largest |weight|")

    def _latex(self, number: ValueRef) -> str:
        """Return a number as LaTeX, `h^{(2)}_{2,1}`: timestep, row and unit, counted from 1."""
        name = self._program.writer.symbols.latex(number.name)
        above = f"^{{({number.t + 1})}}" if number.t is not None else ""
        below = f"_{{{','.join(str(i + 1) for i in number.index)}}}" if number.index else ""
        return f"{{{name}}}{above}{below}" if above or below else name

    # Places

    def _batch_of(self, tick: int) -> int:
        return self._timeline.position(tick).number

    def _batch(self, number: ValueRef) -> int:
        return self._batch_of(number.tick)

    def _place(self, number: ValueRef) -> tuple[int, int]:
        position = self._timeline.position(number.tick)
        return position.number, position.offset


def _squared() -> Derivation:
    return given("the root of the sum of its squares")
