"""Derives a number: finds the line that computed it, the numbers it read, earlier batches that contributed, and edits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from tui_gru.debugger.derivation import Derivation, Node, ValueRef, not_computed, total_of
from tui_gru.debugger.edits import changeable
from tui_gru.debugger.evaluate import AnyIndex, TermBuilder
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.position import in_words, position_of
from tui_gru.debugger.program import Store, ValueKind, no_entry, shown_char, spoken, unknown_name
from tui_gru.debugger.segment import HistorySegment, Monitor
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine import numbers
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.config import FROM_FILE
from tui_gru.engine.data import Corpus, SeriesCorpus
from tui_gru.engine.source import Ability, Imported, ModuleLink
from tui_gru.engine.training import Earlier, flows_out_of, gains_of_earlier, is_drawn
from tui_gru.engine.weights import Array, Weights
from tui_gru.equations import syntax as e
from tui_gru.equations.syntax import Expression, Name, with_word
from tui_gru.errors import TuiGruError

# ------------------------------------------------------------------------------
# The contributions of earlier batches of the epoch to a gradient, with carry `notebook`.
#
# They use the recorded values of each batch and the current weights. Their deltas are not recorded, so they are computed again,
# by the same code that computed them first.


CACHED_BATCHES = 2  # batches whose deltas are cached; a gradient flows from one batch to the one before it


class CarriedGradient:
    """The earlier batches of one batch. `here` is the moment at which its gradient is complete; `node` gives the node of a number,
    `part` the derivation of a recorded part of a line, `activation` that of a part of a forward line without a name.

    Of each earlier batch, only the gradients that enter it, (B, ·), are kept; its deltas are computed on demand.
    """

    def __init__(
        self,
        timeline: Timeline,
        moment: Moment,
        node: Callable[[ValueRef, int], Node],
        part: Callable[[Expression, str, AnyIndex, int, int], Derivation],
        activation: Callable[[Expression, AnyIndex, int, int], Derivation],
        monitor: Monitor | None = None,
    ) -> None:
        self._timeline, self._program, self._here, self._node = timeline, moment.program, moment, node
        self._stored = timeline.earlier(moment.position.number, monitor)
        self._flows: list[list[Array]] = []  # by batch: the gradients of its states
        self._moment_of = lru_cache(maxsize=CACHED_BATCHES)(self._compute_moment)
        self._lines = TermBuilder(moment.program, self._moment_at, self._term, part, activation)

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
        label = in_words(at.epoch, at.batch, step=at.step, between=" · ")
        latex = rf"\text{{{in_words(at.epoch, at.batch, step=at.step)}}}"
        return Node(label, value, partial(self._shares, line, index, batch), exact=True, latex=latex)

    def _shares(self, line: str, index: AnyIndex, batch: int) -> Derivation:
        """Return the contributions of the timesteps of one earlier batch, last timestep first."""
        formula, text = self._program.made_by(line)

        def shares() -> tuple[Node, ...]:
            timesteps = reversed(range(self._program.seq_length))
            made = self._lines.shares(
                formula, index, self._end(batch), timesteps, lambda derivation, _: replace(derivation, formula=text)
            )
            return tuple(made)

        return Derivation("sum", shares, note="from its recorded values and the current weights")

    def _term(self, number: ValueRef, sign: int) -> Node:
        """Return the node of a name read by a line in an earlier batch: a delta computed here, or a number of the run."""
        if self._program.names[number.name].kind.is_weight:
            return self._node(replace(number, tick=self._here.position.tick), sign)
        batch = self._batch(number.tick)
        if number.name not in self._program.deltas:
            return self._node(replace(number, tick=self._timeline.end_of(batch)), sign)
        assert number.t is not None
        value = self._lines.numbers(number.tick, number.t).entry(number.name, number.index)
        label, latex = spoken(self._program, number.name, number.index), self._program.writer.symbols.latex(number.name)
        return Node(label, value, partial(self._delta, number), sign=sign, exact=True, latex=latex)

    def _delta(self, number: ValueRef) -> Derivation:
        t, last, page = number.t, self._program.seq_length - 1, self._program.model.page
        assert t is not None
        state = self._program.state_receiving(number.name)
        if state is not None:
            handed = replace(number, name=f"d{page.before(state)}")
            if t < last:
                return Derivation("copy", (self._term(replace(handed, t=t + 1), 1),), note=f"what t {t + 2} hands back")
            return Derivation("copy", partial(self._from_batch_after, handed), note="what t 1 of the batch after it hands back")
        if self._here.record.compiled.is_zero_in_earlier(number.name):
            return not_computed("the loss of an earlier batch is not counted again")
        formula, text = self._program.made_by(number.name)
        return replace(self._lines.formula(e.without_label(formula), number.index, number.tick, t), formula=text)

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
        for name in self._program.deltas:
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


# ------------------------------------------------------------------------------
# Finds the numbers of a run that were edited, with the place of the edit and the value before.


class ManualEdits:
    """Finds edits in one timeline: a number was edited where its values before and after the start of a segment differ.

    `node` gives the node of a number, `line` the derivation of an entry of a line, executed at a tick for a timestep.
    """

    def __init__(
        self, timeline: Timeline, node: Callable[[ValueRef], Node], line: Callable[[Expression, AnyIndex, int, int], Derivation]
    ) -> None:
        self._timeline, self._node, self._line = timeline, node, line
        program = timeline.program
        self._weights = frozenset(program.weights)
        self._changeable = frozenset(changeable(program)) - self._weights
        self._starts = frozenset(segment.start for segment in timeline.segments if segment.action.kind != "begin")

    def at(self, tick: int) -> bool:
        """Return True if a change was made at a tick, so that values before and after it differ."""
        return tick in self._starts

    def change(self, number: ValueRef, since: int) -> HistorySegment | None:
        """Return the segment of the last edit of a number since tick `since`; None if there was none."""
        at = self._timeline.position(number.tick)
        number = replace(number, t=at.t if number.t is None else number.t)
        for segment in self._upto(number):
            if segment.start < since:
                return None
            edited, is_parameter = segment.edited, number.name in self._weights
            is_of_this_batch = number.name in self._changeable and self._timeline.position(segment.start).number == at.number
            if (number.name in edited if is_parameter else edited and is_of_this_batch) and self._differs(number, segment):
                return segment
        return None

    def derivation(self, number: ValueRef, since: int) -> Derivation | None:
        """Return the derivation of a number that was edited after `since`, where it was computed; None if it was not edited."""
        segment = self.change(number, since)
        if segment is None:
            return None
        tick, last = segment.start, segment.edited[-1]
        if last != number.name and self._is_part_of(last, number.name):
            return self._from_parts(number, tick)
        old = self._node_before(replace(number, tick=tick, before=True))
        note = self.note(tick, numbers.significant(old.value))
        if not math.isfinite(old.value):
            return not_computed(note, tick=tick)
        change = Node(
            "set by hand", self._node(number).value - old.value, lambda: not_computed(note), exact=True, latex=r"\text{set by hand}"
        )
        return Derivation("sum", (old, change), tick=tick, note=note)

    def _is_part_of(self, part: str, name: str) -> bool:
        program = self._timeline.program
        made = name in program.lines or name in program.parts
        return made and any(node.label == part for node in program.made_by(name)[0].walk())

    def _node_before(self, number: ValueRef) -> Node:
        """Return the node of a number before its edit."""
        node = self._node(number)
        return replace(node, label=f"{node.label} before")

    def _from_parts(self, number: ValueRef, tick: int) -> Derivation:
        """Return the derivation of a number whose line was completed again after an edit of one of its parts."""
        formula, text = self._timeline.program.made_by(number.name)
        t = self._timeline.position(tick).t if number.t is None else number.t
        return replace(self._line(_named_parts(formula), number.index, tick, t), tick=tick, formula=text)

    def setting(self, number: ValueRef) -> str:
        """Return the place where a setting of the update rule was last edited, as of `number`, in words; empty if it never was."""
        begun_with = self._timeline.program.config.settings
        for segment, before in self._pairs(number):
            was = (begun_with if before is None else before.settings.rule)[number.name]
            if segment.settings.rule[number.name] != was:
                return self.note(segment.start, numbers.significant(was + 0))
        return ""

    def character(self, place: int, number: ValueRef) -> str:
        """Return the place where character `place` of the text was last edited, as of `number`, in words; empty if it never was."""
        for segment, before in self._pairs(number):
            was = self._timeline.program.config.text if before is None else before.trainer.config.text
            if segment.trainer.config.text[place] != was[place]:
                return self.note(segment.start, f"“{shown_char(was[place])}”")
        return ""

    def note(self, tick: int, was: str) -> str:
        """Return the note of an edit: `set by hand at epoch 1, batch 2, t 1; it was 0.25`."""
        at = self._timeline.position(tick)
        where = f"at {in_words(at.epoch, at.batch, at.t, step=at.step)}" if tick else "before the first line"
        return f"set by hand {where}; it was {was}"

    def _upto(self, number: ValueRef) -> Iterator[HistorySegment]:
        """Return the segments that began at or before the tick of a number, latest first."""
        last = number.tick - number.before
        return (segment for segment in reversed(self._timeline.segments) if segment.start <= last)

    def _pairs(self, number: ValueRef) -> Iterator[tuple[HistorySegment, HistorySegment | None]]:
        """Return the same, each with the segment before it; None for the first."""
        segments = list(self._upto(number))
        return zip(segments, [*segments[1:], None], strict=True)

    def _differs(self, number: ValueRef, segment: HistorySegment) -> bool:
        before, after = self._timeline.moment_before(segment.start), self._timeline.moment(segment.start)
        was, now = self._value(number, before), self._value(number, after)
        return not numbers.same(was, now)

    def _value(self, number: ValueRef, moment: Moment) -> float:
        """Return a number in a record, even if it has not been computed at the moment."""
        name, record, program = number.name, moment.record, self._timeline.program
        if name in self._weights:
            return float(moment.weights[name][number.index])
        named = program.names[name]
        if not record.learned and named.kind.learned:
            return math.nan
        return float(named.complete(record, number.t if named.timed else None)[number.index])


def _named_parts(node: Expression) -> Expression:
    """Return an expression with each labelled part replaced by its name."""
    children = tuple(Name(child.label) if child.label else _named_parts(child) for child in node.children)
    return node.with_children(children) if children else node


# ------------------------------------------------------------------------------
# Derives a number: finds the line that computed it, and the terms of that line with the numbers it read.


class Silenced(NamedTuple):
    """A unit (0-based) of the value `name` that is held at 0 in the batch of `moment`, which has the numbers without it."""

    moment: Moment
    name: str
    unit: int


class Explainer:
    """Derives numbers of one timeline. Replays batches as needed; `monitor` sees replayed batches and may raise an error.

    In the batch of `silenced`, numbers are those with a unit held at 0; what it received from other batches is that of the run.
    """

    def __init__(self, timeline: Timeline, monitor: Monitor | None = None, silenced: Silenced | None = None) -> None:
        self._monitor, self._silenced = monitor, silenced
        self._timeline, self._program = timeline, timeline.program
        self._config = timeline.program.config
        self._edits = ManualEdits(timeline, self._node, lambda *line: self._after_lines.formula(*line))
        self._after = lru_cache(maxsize=16)(lambda tick: self._without_unit(timeline.moment(tick, monitor)))
        self._before = lru_cache(maxsize=16)(lambda tick: self._without_unit(timeline.moment_before(tick)))
        self._earlier = lru_cache(maxsize=2)(self._earlier_batches)
        read = lru_cache(maxsize=16)(self._read_by_lines)
        self._lines = TermBuilder(timeline.program, read, self._node_as_read, self._part_as_read, self._activation)
        # Reads numbers as of a tick; for a line of the update, the tick before it.
        self._after_lines = TermBuilder(timeline.program, self._after, self._not_updated, self._part, self._activation)

    def explain(self, number: ValueRef) -> Node:
        """Return the derivation of a number. Raises `TuiGruError` if the number does not exist at that place."""
        self._check(number)
        return self._node(number)

    def _check(self, number: ValueRef) -> None:
        names = self._program.names
        explained = [name for name, named in names.items() if named.kind.store is not Store.NOTHING]
        if number.name not in explained:
            raise TuiGruError(unknown_name(number.name, explained))
        moment = self._moment(number)
        value = moment.value(number.name, number.t)
        if value is None:
            why = moment.why_missing(number.name)
            raise TuiGruError(why or f"{number.name} has not been computed yet; step over its line first")
        shape = np.shape(value)
        if len(number.index) != len(shape) or any(not 0 <= i < n for i, n in zip(number.index, shape, strict=True)):
            raise TuiGruError(no_entry(self._program, number.name, shape, number.index))

    # A unit held at 0: the line that computes it is multiplied by 0, and so is the gradient that this line receives

    def _without_unit(self, moment: Moment) -> Moment:
        silenced = self._silenced
        if silenced is None or moment.position.number != silenced.moment.position.number:
            return moment
        return replace(silenced.moment, position=moment.position)

    def _read_by_lines(self, tick: int) -> Moment:
        moment = self._before(tick)
        if self._silenced is None or moment.record is not self._silenced.moment.record:
            return moment
        return replace(moment, record=self._handed_back)

    @cached_property
    def _handed_back(self) -> BatchRecord:
        """The record of the batch without the unit, in which its gradient is 0, as other lines read it."""
        assert self._silenced is not None
        record, name = self._silenced.moment.record.copy(), f"d{self._silenced.name}"
        if name in self._program.names:
            record.array(name)[..., self._silenced.unit] = 0
        return record

    def _is_held(self, number: ValueRef, name: str) -> bool:
        """Return True for an entry of `name` that belongs to the unit, in the batch in which it is held at 0."""
        silenced = self._silenced
        if silenced is None or number.name != name or number.index[-1:] != (silenced.unit,):
            return False
        return self._batch(number) == silenced.moment.position.number

    def _silenced_unit(self, number: ValueRef) -> Derivation:
        """Return the derivation of the unit itself: 0 times what its line gives."""
        tick, t = self._computed_at(number), self._t(number)
        formula, text = self._program.made_by(number.name)
        value = float(self._lines.numbers(tick, t).value(e.without_label(formula), number.index))
        line = partial(self._lines.formula, formula, number.index, tick, t)
        zero = Node(
            "held at 0", 0.0, partial(not_computed, f"{self._label(number)} is held at 0 in all panels"), exact=True, latex="0"
        )
        terms = zero, Node("its line gives", value, line, latex=r"\text{its line}")
        return Derivation("product", terms, tick=tick, formula=text)

    def _label(self, number: ValueRef) -> str:
        return spoken(self._program, number.name, number.index)

    # Numbers of the run

    def _node(self, number: ValueRef, sign: int = 1) -> Node:
        value = float(np.asarray(self._value(number))[number.index])
        return Node(self._label(number), value, partial(self._expand, number), number, sign, exact=True, latex=self._latex(number))

    def _node_as_read(self, number: ValueRef, sign: int = 1) -> Node:
        """Return a number as the line at its tick reads it, before any edit at that tick."""
        if self._silenced is not None and self._is_held(number, f"d{self._silenced.name}"):
            words = f"{spoken(self._program, self._silenced.name, number.index)} is held at 0, so nothing goes back through it"
            latex = self._latex(number)
            return Node(f"{self._label(number)} through 0", 0.0, partial(not_computed, words), sign=sign, exact=True, latex=latex)
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
        if value is None and self._program.names[number.name].kind.is_read:
            value = moment.record.array(number.name)[self._t(number)]
        return value

    def _moment(self, number: ValueRef) -> Moment:
        return (self._before if number.before else self._after)(number.tick)

    def _t(self, number: ValueRef) -> int:
        return self._timeline.position(number.tick).t if number.t is None else number.t

    def _expand(self, number: ValueRef) -> Derivation:
        derivation = self._derived(number)
        computed_here = self._value_computed_here(number, derivation)
        if computed_here is None:
            return derivation
        digits = numbers.exact(self._config.compiled.dtype.type(computed_here)).removeprefix("+")
        note = f"as recorded on another machine; here {digits}"
        return replace(derivation, note=f"{derivation.note}; {note}" if derivation.note else note)

    def _value_computed_here(self, number: ValueRef, derivation: Derivation) -> float | None:
        """Return what this machine computed in the place of a number that another machine recorded; None if it is the same."""
        if derivation.kind == "given" or self._timeline.last.own:
            return None
        value, computed_here = float(np.asarray(self._value(number))[number.index]), None
        kind = self._program.names[number.name].kind
        if kind is ValueKind.STATE and derivation.kind == "copy":  # from the batch before, after which a checkpoint follows
            computed_here = derivation.terms[0].value
        elif kind.is_weight or kind is ValueKind.NUMBER:
            record = self._after(number.tick if derivation.tick is None else derivation.tick).record
            results = record.own_results
            if results is not None and kind is ValueKind.NUMBER:
                computed_here = getattr(results, number.name, None)
            elif results is not None and results.after is not None:
                computed_here = float(Weights(record.compiled.layout, results.after)[number.name][number.index])
        return None if computed_here is None or numbers.same(computed_here, value) else computed_here

    def _derived(self, number: ValueRef) -> Derivation:
        name = number.name
        if isinstance(self._config.source, Imported) and (derivation := self._imported(number, self._config.source)) is not None:
            return derivation
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
                return not_computed(
                    self._edits.setting(number) or "a setting of the update rule, with the value that the run began with"
                )
            case ValueKind.NUMBER if name == "grad_norm":
                return self._gradient_norm(number)
            case ValueKind.NUMBER if name == "max_weight":
                return self._largest_weight(number)
        state = self._program.state_receiving(name)
        return self._computed(number) if state is None else self._from_next(number, state)

    def _imported(self, number: ValueRef, source: Imported) -> Derivation | None:
        """Return the derivation of a number that a run on imported batches received; None for a computed number."""
        name, batch = number.name, self._batch(number)
        kind, at = self._program.names[name].kind, f" at {source.step(batch)}" if source.steps else ""
        begin = batch * self._program.ticks
        if kind is ValueKind.INPUT:
            return not_computed(f"{name} as it was given{at}: {source.inputs_from}", tick=number.tick)
        if kind is ValueKind.PARAMETER:
            return self._edits.derivation(number, begin) or not_computed(f"a weight of {source.origin}{at}", tick=begin)
        if name == "loss":
            words = f"the loss that your script gave{at}: it is computed there, from the output of this model"
            return not_computed(words, tick=number.tick)
        own = self._moment(number).record.own_results if name == "grad_norm" and source.numbers is not None else None
        if own is not None:
            words = f"the norm of p.grad as your script's optimizer used it{at}; that of the derived gradients is "
            words += numbers.significant(own.grad_norm, 4)
            return not_computed(words, tick=number.tick)
        output = next((output for output in self._program.model.page.outputs if with_word(f"d{output}", "given") == name), "")
        if output:
            words = f"the gradient from outside{at}: your head and loss"
            link = self._link_of_gradient(number, output)
            if link is not None:
                words += f", and {link.module}, which begins with this state"
            return self._edits.derivation(number, begin) or not_computed(words, tick=begin, link=link)
        return None

    def _link_of_gradient(self, number: ValueRef, state: str) -> ModuleLink | None:
        """Return where another module hands back the gradient of the last state; None at another timestep, or if none does."""
        batch = self._config.source.batch(self._batch(number))
        if batch is None or state not in self._program.model.page.states:
            return None
        last = 0 if self._program.model.page.states[state].backwards else self._program.seq_length - 1
        return batch.links().get(f"d{state}") if self._t(number) == last else None

    def _computed(self, number: ValueRef) -> Derivation:
        """Return the derivation of a number computed by a line, or by a labelled part of one."""
        if self._silenced is not None and self._is_held(number, self._silenced.name):
            return self._silenced_unit(number)
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
        return self._lines.formula(part if part.children else e.without_label(part), number.index, tick, self._t(number))

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
        direction = -1 if page.states[state].backwards else 1
        shown, last = self._program.writer.name(state), self._program.seq_length - 1
        if 0 <= t - direction <= last:
            return self._copy(replace(number, name=state, t=t - direction), f"{shown} at t {t - direction + 1}")
        if self._silenced is not None and state == self._silenced.name and self._is_held(number, number.name):
            return not_computed(f"{spoken(self._program, state, number.index)} is held at 0, before the first timestep too")
        if (edit := self._edits.derivation(number, batch * self._program.ticks)) is not None:
            return edit
        if not self._config.source.can(Ability.TRAIN):
            imported = self._config.source.batch(batch)
            if imported is not None and (link := imported.links().get(state)) is not None:
                return not_computed(f"the last state of {link.module}, {link.name} at t {link.t + 1}", link=link)
            return not_computed(f"{shown} as given with the batch: h0")
        if batch % self._program.num_batches == 0:
            return not_computed(f"every epoch begins with {shown} = 0")
        if not self._config.carried_batches(batch % self._program.num_batches):
            noun = "batch" if self._config.carry == "reset" else "series"
            return not_computed(f"every {noun} begins with {shown} = 0")
        read = ValueRef(state, number.index, last if direction > 0 else 0, self._timeline.end_of(batch - 1))
        return self._copy(read, f"{shown} at the end of the batch before")

    def _from_next(self, number: ValueRef, state: str) -> Derivation:
        """Return the derivation of the gradient that a state receives from the timestep that reads it."""
        t, page = self._t(number), self._program.model.page
        direction = -1 if page.states[state].backwards else 1
        if not 0 <= t + direction < self._program.seq_length:
            if not self._config.source.can(Ability.TRAIN):
                if (link := self._link_of_gradient(number, state)) is not None:
                    return not_computed(f"the gradient of the last state, which {link.module} begins with", link=link)
                return not_computed("the gradient of the last state, given from outside")
            return not_computed(
                "nothing comes after the last timestep" if direction > 0 else "nothing comes before the first timestep"
            )
        handed = replace(number, name=f"d{page.before(state)}", t=t + direction)
        return self._copy(handed, f"what t {t + direction + 1} hands back")

    def _copy(self, of: ValueRef, note: str) -> Derivation:
        node = self._node(of)
        return Derivation("copy", (node,), note=note, tick=self._expand(of).tick)

    def _character(self, number: ValueRef) -> Derivation:
        t, batch = self._t(number), self._batch(number) % self._program.num_batches
        row = number.index[0]
        moment = self._moment(number)
        corpus = self._timeline.segment_at(number.tick).trainer.corpus
        if isinstance(corpus, SeriesCorpus):
            role = "to be predicted" if self._program.model.page.inputs[number.name].target else "read"
            return not_computed(f"{role} here: {corpus.place(batch, t, row)}", tick=number.tick)
        assert isinstance(corpus, Corpus)  # imported inputs were handled above
        is_target = self._program.model.page.inputs[number.name].target
        place = corpus.position_in_text(batch, t, row) + is_target
        # The record is read, not the text: an edit of the text changes only timesteps that had not begun.
        char = shown_char(corpus.vocabulary[int(np.argmax(moment.value(number.name, t)[row]))])
        role = "to be predicted" if is_target else "read"
        begun = self._program.readable_from(number.name, t)
        assert begun is not None
        loaded = self._batch(number) * self._program.ticks + begun - 1  # just before the timestep began
        by_hand = self._edits.character(place, replace(number, tick=loaded, before=False))
        note = f"“{char}” is {role} here: character {place + 1} of the text"
        return not_computed(f"{note}, {by_hand}" if by_hand else note, tick=number.tick)

    # Parameters and gradients

    def _weight(self, number: ValueRef) -> Derivation:
        """Return the derivation of a parameter or a state of the update rule, from its last update or from the start of the run."""
        name, (batch, offset) = number.name, self._place(number)
        update = self._program.tick_of(name)
        assert update is not None
        moment = self._moment(number)
        learned: int | None = batch if moment.learned and offset >= update else self._timeline.learned_before(batch)
        tick = 0 if learned is None else learned * self._program.ticks + update
        if (edit := self._edits.derivation(number, tick)) is not None:
            return edit
        if learned is None:
            return not_computed(self._initial(name), tick=0)
        at = self._timeline.position(tick)
        note = f"from the update of {in_words(at.epoch, at.batch, step=at.step)}"
        text = self._program.lines[name].text
        return Derivation("sum", partial(self._update, number, tick), tick=tick, formula=text, note=note)

    def _initial(self, name: str) -> str:
        if self._program.names[name].kind is ValueKind.OPTIMIZER_STATE:
            return f"{self._program.writer.name(name)} begins at 0"
        if self._config.init == FROM_FILE:
            return "a weight of the file that was opened"
        if (number := self._config.model.page.initial.get(name)) is not None:
            return f"{self._program.writer.name(name)} begins at {number:g}"
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
        if not block.direction and not earlier:
            return replace(
                self._lines.formula(line.formula, number.index, tick, program.seq_length - 1), tick=tick, formula=line.text
            )

        def expanded(made: Derivation, t: int) -> Derivation:
            return replace(made, tick=batch * program.ticks + (program.tick_of(line.target, t) or 0), formula=line.text)

        terms = self._lines.shares(line.formula, number.index, tick, map(block.timestep, range(done)), expanded)
        if earlier:
            all_earlier = Derivation("sum", earlier, note="the gradient continues through the epoch's earlier batches")
            label = "earlier batches"
            value = total_of([node.contribution for node in earlier])
            terms.append(Node(label, value, lambda: all_earlier, latex=rf"\text{{{label}}}"))
        return Derivation("sum", tuple(terms), tick=tick, formula=line.text, note="a share of each timestep")

    def _earlier_batches(self, tick: int) -> CarriedGradient:
        """Return the earlier batches of the batch whose gradient is complete at `tick`."""
        moment = self._before(tick)
        return CarriedGradient(self._timeline, moment, self._node_of_earlier, self._part, self._activation, self._monitor)

    def _node_of_earlier(self, number: ValueRef, sign: int) -> Node:
        """Return a number of an earlier batch as of its end; of the batch whose gradient continues, as the line read it."""
        at_end = number.tick == self._timeline.end_of(self._batch(number))
        return (self._node if at_end else self._node_as_read)(number, sign)

    def _gradient_norm(self, number: ValueRef) -> Derivation:
        record = self._moment(number).record
        assert record.gradients is not None
        terms, squared = [], partial(not_computed, "the root of the sum of its squares")
        for name, gradient in record.gradients.items():
            flat = np.asarray(gradient, np.float64).ravel()
            norm = math.sqrt(float(flat @ flat))
            terms.append(
                Node(f"‖d{name}‖", norm, squared, latex=rf"\lVert {self._program.writer.symbols.latex(f'd{name}')} \rVert")
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
