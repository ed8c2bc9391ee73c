"""Compares a run with another: a batch with one number changed or a unit held at 0, or a branch with another branch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from tui_gru import arguments
from tui_gru.analysis.units import ReadingProgress, StopRequested, can_be_silent, read_silenced, values_after_characters
from tui_gru.debugger.edits import JournalEntry, changeable, check_index, checked_number, offset_of, replace_number
from tui_gru.debugger.history import COLUMNS
from tui_gru.debugger.moment import Moment, computed_in_order, largest_difference
from tui_gru.debugger.position import position_of
from tui_gru.debugger.program import Program, Store, unknown_name
from tui_gru.debugger.segment import Monitor
from tui_gru.debugger.timeline import Branches, Timeline
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.compiled import compiled
from tui_gru.engine.config import Config, Text, text_of_tokens
from tui_gru.engine.numbers import same
from tui_gru.engine.training import Point, compute, compute_from
from tui_gru.engine.weights import NUMPY_SETTINGS, Array, Weights
from tui_gru.equations.page import SILENT
from tui_gru.equations.syntax import Activation, Apply, with_word
from tui_gru.errors import TuiGruError

# ------------------------------------------------------------------------------
# What-if: the effect of a changed number on the rest of its batch, compared with the batch as it is.
#
# The run is not changed: a copy of the batch is computed from the line after the one that wrote the number.


@dataclass(frozen=True)
class LargestDifference:
    """The largest difference of an array: `name` of timestep `t` (None: of the whole batch) is `before` at `index` and would be
    `after`.

    `entries` of its entries differ. A number that would become NaN counts as the largest difference.
    """

    name: str
    t: int | None
    index: tuple[int, ...]
    before: float
    after: float
    entries: int

    @property
    def change(self) -> float:
        return self.after - self.before

    @property
    def size(self) -> float:
        """The size of the change; infinite if a number becomes NaN, or the reverse."""
        return abs(self.change) if math.isfinite(self.change) else math.inf


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction for a row at timestep `t` (both 0-based): the probabilities (V,) before and after the change.

    `target` is the index of the correct class.
    """

    row: int
    t: int
    target: int
    before: Array
    after: Array


@dataclass(frozen=True, eq=False)
class WhatIf:
    """The batch as it is (`now`) and as it would be with `value` in place of `was` (`then`), both at its end.

    None in the index stands for all along its axis; `was` is then the array of these numbers, which would all be `value`.

    `t` is None for parameters and gradients. `differences` are in the order in which the batch computes them. `tick` is the place
    of the change: just after the line that wrote the number. Both batches have the unit `silent` at 0, if there is one.
    """

    name: str
    t: int | None
    index: tuple[int | None, ...]
    was: float | Array
    value: float
    tick: int
    now: Moment
    then: Moment
    differences: tuple[LargestDifference, ...]
    silent: SilentUnit | None = None

    def __repr__(self) -> str:
        index = ", ".join(":" if i is None else str(i) for i in self.index)
        entry = f"{self.name}[{index}]" if self.index else self.name
        before, after = self.losses
        was = f", not {float(self.was):.6g}" if self.is_one else ""
        return f"<what if {entry} were {self.value:.6g}{was}: the loss {after:.6g}, not {before:.6g}>"

    @property
    def is_one(self) -> bool:
        """True if one number would be another, False if several would."""
        return None not in self.index

    @property
    def losses(self) -> tuple[float, float]:
        """The loss as it is and as it would be."""
        return self.now.record.loss, self.then.record.loss

    @cached_property
    def prediction(self) -> Prediction | None:
        """The prediction with the largest change in the probability of its target; None if there are no classes, or none
        changes."""
        program = self.now.program
        name = program.loss_names.prediction
        if not program.model.classifies:
            return None
        before, after = (
            np.stack([np.asarray(moment.value(name, t)) for t in range(program.seq_length)]) for moment in (self.now, self.then)
        )
        changes: list[tuple[float, int, int, int]] = []
        for t in range(program.seq_length):
            for row, char in enumerate(self.now.value("target", t)):
                target = program.config.vocabulary.index(char)
                change = abs(float(after[t, row, target]) - float(before[t, row, target]))
                changes.append((change if np.isfinite(change) else np.inf, -t, -row, target))
        change, t, row, target = max(changes)
        return Prediction(-row, -t, target, before[-t, -row], after[-t, -row]) if change > 0 else None

    @cached_property
    def also_read_by(self) -> tuple[str, ...]:
        """The lines of another timestep that read the changed number too, since it is one number there and at `t`.

        What a timestep reads of another one is what that one has computed: hₜ₋₁ at t is h at t − 1. Lines that were executed there
        before the change have read the number as it was.
        """
        program = self.now.program
        computed = _computed_at(program, self.name, self.t)
        if computed is None:
            return ()
        name, t = computed
        last, readers = program.backward_end if self.now.learned else program.loss_tick, dict[str, None]()
        for tick in range(self.tick - self.now.position.number * program.ticks + 1, last + 1):
            line, at = program.line_at(tick)
            if at == t and line.formula is not None and line.target not in readers and _reads(program, line.target, name):
                readers[line.target] = None
        return tuple(readers)

    @property
    def remark(self) -> str:
        """The sentence on `also_read_by`; empty if there are none."""
        computed, program = _computed_at(self.now.program, self.name, self.t), self.now.program
        if computed is None or not self.also_read_by:
            return ""
        assert self.t is not None
        readers = [program.writer.name(name) for name in self.also_read_by]
        listed = readers[0] if len(readers) == 1 else f"{', '.join(readers[:-1])} and {readers[-1]}"
        where_shown, where_computed = (f"{program.writer.name(name)} at t {t + 1}" for name, t in ((self.name, self.t), computed))
        verb = "reads" if len(readers) == 1 else "read"
        return f"{where_shown} and {where_computed} are one number: {listed} at t {computed[1] + 1} {verb} it too"

    @property
    def most_changed(self) -> tuple[LargestDifference, ...]:
        """The largest difference of each name, in descending order of size; numbers that become NaN first."""
        largest: dict[str, LargestDifference] = {}
        for difference in sorted(self.differences, key=lambda difference: -difference.size):
            largest.setdefault(difference.name, difference)
        return tuple(largest.values())

    def nudged(self, steps: int) -> float:
        """Return the value after a number of steps from `value`.

        A step is a round number, a tenth to a fiftieth of the two values.
        """
        largest = max((abs(x) for x in (*np.ravel(self.was).tolist(), self.value) if np.isfinite(x)), default=0.0) or 0.5
        power = math.floor(math.log10(largest))
        return round(self.value + steps * 2 * 10.0 ** (power - 1), max(3 - power, 0) + 1)

    @property
    def first_order(self) -> float | None:
        """The first-order change of the loss, for a batch whose loss is computed outside the model; None for other batches.

        It is Σ dout ⊙ Δout over the outputs, since only their gradients are known.
        """
        program, was, would = self.now.program, self.now.record, self.then.record
        if not program.upstream or not was.learned:
            return None
        outputs = program.model.page.outputs
        with np.errstate(all="ignore"):
            pairs = [(was.array(with_word(f"d{output}", "given")), would.array(output) - was.array(output)) for output in outputs]
            for state, flow in zip(was.compiled.states, was.flows_in, strict=True):
                pairs.append((flow, would.border(state, end=True) - was.border(state, end=True)))
            return float(sum(np.sum(gradient.astype(np.float64) * change) for gradient, change in pairs))


def what_if(
    timeline: Timeline, moment: Moment, edit: JournalEntry, t: int | None = None, silent: SilentUnit | None = None
) -> WhatIf:
    """Return the effect of `edit` on the current batch. `t` is the timestep (0-based; the position's if None).

    None in the index of the edit stands for all along its axis: a row, a unit, or the whole value. A parameter is changed from the
    beginning of the batch on, before its update; a gradient once it is complete. With `silent`, `moment` is the one without that
    unit. Raises `TuiGruError` if the number cannot be changed, has not been computed yet, or was
    computed before another edit of this batch.
    """
    program, name = moment.program, edit.name
    _check_name(program, name)
    t = None if program.names[name].kind.per_batch else _timestep(moment.position.t if t is None else t, program)
    array = _array(moment, name, t)
    index: tuple[int | None, ...] = edit.index
    check_index(program, replace(edit, index=tuple(0 if i is None else i for i in index)), array)
    value, key = checked_number(edit, program.config), tuple(slice(None) if i is None else i for i in index)
    was = np.array(array[key]) if None in index else float(array[key])
    begin = moment.position.number * program.ticks
    tick = begin + offset_of(program, name, t)
    _check_place(timeline, moment, tick)

    trainer = timeline.segment_at(moment.position.tick).trainer
    if silent is None:
        record = moment.record.copy()
        at = replace_number(record, program, name, t, key, value)
        trainer.resume(record, at, learn=moment.learned, earlier=timeline.earlier(moment.position.number))
    else:  # in the model with the mask, whose lines are those of the model and two more
        masked_record = masked(timeline, moment, silent)
        at = _with_mask(moment.record, masked_record, replace_number(masked_record, program, name, t, key, value))
        with NUMPY_SETTINGS:
            compute_from(masked_record, at, masked_record.settings if trainer.trains else None, learn=moment.learned)
        record = _without_mask(masked_record, moment.record)

    end = position_of(program, begin + (program.ticks if moment.learned else program.loss_tick))
    now = replace(moment, position=end, record=moment.record.as_computed())  # not with the loss and the weights of another machine
    differences = tuple(_differences(program, now.record, record))
    return WhatIf(name, t, index, was, value, tick, now, replace(now, record=record), differences, silent)


def _with_mask(record: BatchRecord, masked_record: BatchRecord, at: Point) -> Point:
    """Return the point of the model with the mask at which the same lines of `record` have been executed: the mask has been applied
    if the line that it follows has, and its gradient has not been passed on before a line that comes after it."""
    if at.phase == "update":
        return at
    lines, masked_lines = (batch.compiled.schedule.phases[at.phase].segments[at.segment].lines for batch in (record, masked_record))
    executed = {line.target for line in lines[: at.done]}
    return at._replace(done=max((i + 1 for i, line in enumerate(masked_lines) if line.target in executed), default=0))


def place_of_edit(program: Program, effect: WhatIf) -> tuple[str, int]:
    """Return the name to edit and the tick of the edit that make the run equal to a what-if.

    A state that a timestep reads is edited where another timestep computed it. Raises `TuiGruError` if no timestep of the run did.
    """
    page = program.model.page
    if not effect.is_one:
        raise TuiGruError("this what-if is of several numbers, and only shows its effect; set changes one number of the run")
    if effect.name in page.inputs:
        raise TuiGruError(f"{effect.name} is a given input and cannot be edited; what-if only shows the effect of another value")
    state = next((state for state in page.states if effect.name in (page.before(state), page.received(state))), None)
    if state is None:
        return effect.name, effect.tick
    assert effect.t is not None
    begin, direction = effect.now.position.number * program.ticks, program.direction_of(state)
    if effect.name == page.received(state):
        handed_on = f"d{page.before(state)}"
        if effect.tick - begin == program.readable_from(effect.name, effect.t):
            return effect.name, effect.tick
        return handed_on, begin + (program.tick_of(handed_on, effect.t + direction) or 0)
    if 0 <= effect.t - direction < program.seq_length:
        return state, effect.tick
    at, shown = position_of(program, effect.tick), program.writer.name(state)
    if at.t == effect.t and (effect.tick == 0 or effect.tick > begin):  # at the beginning of its loop over t
        return effect.name, effect.tick
    if not program.config.carried_batches(effect.now.position.batch):
        raise TuiGruError(
            f"this batch begins with {shown} = 0, which the run does not compute; change {shown} after a timestep instead"
        )
    if at.t != (program.seq_length - 1 if direction > 0 else 0):
        raise TuiGruError(f"this batch begins with {shown} of the batch before; change {shown} after a timestep instead")
    return state, effect.tick


def _computed_at(program: Program, name: str, t: int | None) -> tuple[str, int] | None:
    """Return the name and the timestep (0-based) of the line that computes what timestep `t` reads as `name` of another timestep;
    None for any other name, and if no timestep of the batch does."""
    page = program.model.page
    for state, variable in page.states.items():
        direction = -1 if variable.backwards else 1
        for read, computed, of in (
            (page.before(state), state, direction),
            (page.received(state), f"d{page.before(state)}", -direction),
        ):
            if name == read and t is not None and 0 <= t - of < program.seq_length:
                return computed, t - of
    return None


def _reads(program: Program, target: str, name: str) -> bool:
    """Return True if the line of `target` reads `name` itself when it is executed, not only parts computed from it before."""
    named = program.config.compiled.schedule.named
    waiting = [named[target]]
    while waiting:
        operation = waiting.pop()
        for arg in operation.args:
            if arg is named[name]:
                return True
            inside = arg.name not in program.names or program.written_with.get(arg.name) == target
            if arg.phase == operation.phase and inside:
                waiting.append(arg)
    return False


def _timestep(t: int, program: Program) -> int:
    return arguments.integer("the timestep t", t, least=0, most=program.seq_length - 1)


def _check_name(program: Program, name: str) -> None:
    if name in program.names and program.names[name].kind.store is Store.SETTINGS:
        tried = "; rates tries other learning rates on copies of the run" if name == "learning_rate" else ""
        words = f"{name} is a setting of the update rule and changes nothing before the update; use set or edit{tried}"
        raise TuiGruError(words)
    names = changeable(program)
    if name not in names:
        problem = (
            "is an input and cannot be changed" if name in program.model.page.inputs else "is not a number that can be changed"
        )
        raise TuiGruError(f"{name!r} {problem}; {unknown_name(name, names).split('; ')[-1]}")


def _array(moment: Moment, name: str, t: int | None) -> Array:
    """Return the array with the number to change, as shown on screen."""
    kind = moment.program.names[name].kind
    if kind.is_weight:
        return moment.record.before[name]
    value = moment.value(name, t)
    if value is None:
        raise TuiGruError(f"{name} has not been computed here yet; step over its line first")
    if kind.store is Store.GRADIENTS and moment.position.offset < moment.program.backward_end:
        raise TuiGruError(f"{name} is not complete yet; step to the end of the backward pass first")
    return np.asarray(value)


def _check_place(timeline: Timeline, moment: Moment, tick: int) -> None:
    """Raise `TuiGruError` for a number computed before an edit of this batch, whose later values do not follow from it."""
    begin = moment.position.number * moment.program.ticks
    for segment in timeline.segments:
        if max(begin, tick) < segment.start <= moment.position.tick and segment.edited:
            raise TuiGruError("a number was edited in this batch after that line; undo the edit, or choose a later number")


def _differences(program: Program, now: BatchRecord, then: BatchRecord) -> Iterator[LargestDifference]:
    """Yield every array that would differ, in the order in which the batch computes them."""
    for name, t in computed_in_order(program, learned=now.learned and then.learned):
        before, after = (program.names[name].complete(record, t) for record in (now, then))
        largest = largest_difference(before, after)
        if largest is not None:
            index, entries = largest
            yield LargestDifference(name, t, index, float(before[index]), float(after[index]), entries)


# ------------------------------------------------------------------------------
# The batch with a unit held at 0. The run is not changed: a copy of the batch is computed by the model with a mask after the line
# of the unit, and its numbers are copied into a record of the model as it is, which every panel can draw.


NEED_RESULT = ("softmax", "sqrt")  # functions whose gradient cannot be derived from the numbers on screen if a result is 0 instead


class SilentUnit(NamedTuple):
    """A unit (0-based) of the value `name` that is held at 0 after every character."""

    name: str
    unit: int

    def written(self, program: Program) -> str:
        """Return the unit as on screen: h[unit 3]."""
        return f"{program.writer.name(self.name)}[unit {self.unit + 1}]"


def checked_silent(program: Program, name: str, unit: int) -> SilentUnit:
    """Return a unit (0-based) that can be held at 0. Raises `TuiGruError` for any other."""
    if name not in program.names:
        raise TuiGruError(unknown_name(name, program.readable))
    if not can_be_silent(program.model, name):
        silent = [candidate for candidate in program.names if can_be_silent(program.model, candidate)]
        raise TuiGruError(f"{name} has no units of the network that can be held at 0; {', '.join(silent)} have")
    formula = next(line.formula for line in program.model.page.lines if line.target == name)
    if isinstance(formula, Apply) and formula.function in NEED_RESULT:
        raise TuiGruError(
            f"the units of {name} cannot be held at 0: the gradient of {formula.function} is computed from its result; "
            f"silence what reads {name} instead"
        )
    if not program.model.structure.loss:
        raise TuiGruError("no unit can be held at 0 here: the loss of this batch is computed outside of the model, with all units")
    units = program.config.compiled.shape(program.model.axes[name])[-1]
    return SilentUnit(name, arguments.integer("the unit", unit, least=0, most=units - 1))


def without_unit(timeline: Timeline, moment: Moment, silent: SilentUnit) -> Moment:
    """Return the moment with a unit at 0: the batch as the model computes it from the same weights, inputs and other first states.

    Raises `TuiGruError` as `masked`.
    """
    return replace(moment, record=_without_mask(masked(timeline, moment, silent), moment.record))


def masked(timeline: Timeline, moment: Moment, silent: SilentUnit) -> BatchRecord:
    """Return the batch of a moment with a unit at 0, in the model that has the mask as a factor of the line that computes the unit.

    A state is 0 before the first timestep as well. Raises `TuiGruError` in a batch that has been edited after its beginning, and
    if the gradient continues into earlier batches, whose values were computed with the unit.
    """
    program, record, name = moment.program, moment.record, silent.name
    if program.earlier and moment.learned:
        raise TuiGruError("with carry notebook the gradient goes into earlier batches, which were computed with all units")
    begin = moment.position.number * program.ticks
    if any(begin < segment.start <= moment.position.tick and segment.edited for segment in timeline.segments):
        raise TuiGruError("a number was edited in this batch after its beginning, and a unit is held at 0 in whole batches")
    model = compiled(replace(program.model.structure, silent=name), record.compiled.sizes, program.config.dtype)
    masked_record = BatchRecord(model)
    for input_name in program.model.page.inputs:
        if input_name in record.one_hot:
            masked_record.set_one_hot(input_name, record.ids(input_name))
        else:
            masked_record.array(input_name)[...] = record.array(input_name)
    masked_record.begin_with(record.states(end=False))
    masked_record.array(SILENT)[...] = np.arange(masked_record.array(SILENT).shape[-1]) != silent.unit
    if name in program.model.page.states:
        masked_record.border(name, end=False)[..., silent.unit] = 0
    masked_record.before = Weights(model.layout, record.before.flat, record.before.updates)
    trains = timeline.segment_at(moment.position.tick).trainer.trains
    with NUMPY_SETTINGS:
        compute(masked_record, record.settings if trains else None, learn=moment.learned)
    return masked_record


def read_with_silent(
    config: Config,
    weights: Weights,
    text: Text,
    names: Sequence[str],
    silent: SilentUnit | None,
    *,
    progress: ReadingProgress | None = None,
    stop: StopRequested | None = None,
) -> dict[str, Array]:
    """Return the values of `names` after each character, as `read_text`, with a unit held at 0 or, for None, with all."""
    if silent is None:
        return values_after_characters(config, weights, text, names, progress=progress, stop=stop)
    kept_units = np.arange(config.compiled.shape(config.model.axes[silent.name])[-1]) == silent.unit
    values_of_batch = read_silenced(config, weights, text, names, silent.name, kept_units[None], stop=stop)
    return {name: values[0] for name, values in values_of_batch.items()}


def _without_mask(masked_record: BatchRecord, record: BatchRecord) -> BatchRecord:
    """Return a batch of the model with the mask as a record of the model of `record`, without it."""
    twin = BatchRecord(record.compiled)
    for input_name in twin.one_hot:
        twin.set_one_hot(input_name, masked_record.ids(input_name))
    for name, operation in twin.compiled.schedule.named.items():
        if operation.memory.kind not in ("ids", "parameter"):
            twin.array(name)[...] = masked_record.array(name)
    for line in (*twin.compiled.model.backward.deltas, *twin.compiled.model.backward.gradients):
        for node in line.formula.walk():  # parts of forward lines without a name, which derivations of gradients read
            if isinstance(node, Activation) and not node.argument.label:
                to, of = (record.compiled.schedule.activation(node.argument) for record in (twin, masked_record))
                twin.slot(to.memory, to.half)[...] = masked_record.slot(of.memory, of.half)
    for name, vector in masked_record.vectors.items():
        twin.vectors[name][...] = vector
    twin.begin_with(masked_record.states(end=False))
    twin.before = Weights(twin.compiled.layout, masked_record.before.flat, masked_record.before.updates)
    twin.learned, twin.settings, twin.numbers = masked_record.learned, masked_record.settings, masked_record.numbers
    twin.loss, twin.grad_norm, twin.max_weight = masked_record.loss, masked_record.grad_norm, masked_record.max_weight
    twin.own_after.updates = masked_record.own_after.updates
    return twin


# ------------------------------------------------------------------------------
# Compares two branches of a run: their first difference, and the differences of their losses and samples.


#: Characters of the samples that are compared, and of the text that they begin with.
SAMPLED, PRIMER = 12, 2


@dataclass(frozen=True)
class DifferingEntry:
    """An array that differs, and its entry with the largest difference: `mine` on this branch, `theirs` on the other.

    `name` is the array at timestep `t` (0-based; None for a value of the whole batch); `entries` of its entries differ. `tick` is
    where it exists.
    """

    name: str
    t: int | None
    index: tuple[int, ...]
    mine: float
    theirs: float
    entries: int
    tick: int


@dataclass(frozen=True)
class First:
    """The first difference of two branches, in the batch `batch` (0-based, over the run).

    `found` is the first difference in its initial values or inputs, `computed` the first one in a computed value; None if there
    is none. `learns` is `mine` or `theirs` if only that branch learns in this batch and nothing before differs; otherwise empty.
    """

    batch: int
    found: DifferingEntry | None
    computed: DifferingEntry | None
    learns: str = ""

    @property
    def entry(self) -> DifferingEntry | None:
        """The earlier one of both."""
        return self.found or self.computed


@dataclass(frozen=True)
class BatchLosses:
    """The losses of one batch (0-based, over the run) on both branches, in nats."""

    batch: int
    mine: float
    theirs: float

    @property
    def difference(self) -> float:
        return self.mine - self.theirs


@dataclass(frozen=True)
class BranchSamples:
    """Samples of both branches after the same characters, with the most likely character each time."""

    primer: Text
    mine: Text
    theirs: Text

    @property
    def first(self) -> int | None:
        """The first character (0-based, after the primer) that differs; None if all are equal."""
        pairs = zip(self.mine, self.theirs, strict=True)
        return next((i for i, (one, other) in enumerate(pairs) if one != other), None)

    @property
    def count(self) -> int:
        """The number of characters that differ."""
        return sum(one != other for one, other in zip(self.mine, self.theirs, strict=True))


@dataclass(frozen=True)
class BranchComparison:
    """The comparison of the branch `name` with the branch `other`. `parted` is the tick up to which they are equal.

    `first` is None if there is no difference in the batches that both have computed; `here` and `furthest` are None if no batch
    has a loss on both; `samples` is None if the model cannot be sampled. `reached` is True if the other branch has reached this
    moment.
    """

    name: str
    other: str
    parted: int
    first: First | None
    here: BatchLosses | None
    furthest: BatchLosses | None
    samples: BranchSamples | None
    reached: bool = True

    def __repr__(self) -> str:
        return f"<{self.name} and {self.other}, equal up to tick {self.parted}{'' if self.first else ' and after it'}>"


def compare_branches(branches: Branches, other: str, moment: Moment, monitor: Monitor) -> BranchComparison:
    """Compare the current branch with `other` at a moment of the current one.

    `monitor` sees batches that are replayed, and may raise an error.
    """
    branch, tick, program = branches.named[other], moment.position.tick, moment.program
    mine, theirs, upto = branches.timeline, branch.timeline, min(branches.newest, branch.newest)
    last, at = program.last_loss(upto), program.last_loss(tick)
    return BranchComparison(
        branches.current,
        other,
        mine.parted(theirs),
        first_difference(mine, theirs, upto, monitor),
        None if at < 0 or at > last else BatchLosses(at, mine.loss(at), theirs.loss(at)),
        loss_difference(mine, theirs, 0, last),
        None if tick > branch.newest else sample_difference(moment, theirs.moment(theirs.place(tick))),
        tick <= branch.newest,
    )


def first_difference(mine: Timeline, theirs: Timeline, upto: int, monitor: Monitor | None = None) -> First | None:
    """Return the first difference of two timelines of a session up to the tick `upto`, which both have reached, or None.

    `monitor` sees batches that are replayed, and may raise an error.
    """
    parted = mine.parted(theirs)
    if parted > upto:
        return None
    program, last = mine.program, max(upto - 1, 0) // mine.program.ticks
    for batch in _batches(mine, theirs, min(parted // program.ticks, last), last):
        records = (timeline.record(batch, monitor) for timeline in (mine, theirs))
        first = _in_batch(program, batch, *records)
        if first is not None:
            return first if first.entry is None or first.entry.tick <= upto else None
    return None


def loss_difference(mine: Timeline, theirs: Timeline, first: int, last: int) -> BatchLosses | None:
    """Return the batch of `first` … `last` with the largest difference of losses. None if there is no batch.

    If only one of the losses of a batch is NaN, the first such batch is returned.
    """
    furthest: BatchLosses | None = None
    for low, high in mine.blocks(first, last):
        one, other = (timeline.column("loss", low, high) for timeline in (mine, theirs))
        count = min(len(one), len(other))
        if not count:
            break
        with np.errstate(invalid="ignore"):
            difference = np.abs(one[:count] - other[:count])
        broken = np.isnan(difference) & ~same(one[:count], other[:count])
        difference = np.where(broken, np.inf, np.nan_to_num(difference, nan=0.0, posinf=np.inf))
        at = int(np.argmax(difference))
        if furthest is None or difference[at] > abs(furthest.difference):
            furthest = BatchLosses(low + at, float(one[at]), float(other[at]))
        if math.isinf(difference[at]):
            break
    return furthest


def sample_difference(mine: Moment, theirs: Moment) -> BranchSamples | None:
    """Return samples of both branches after the start of the text, with the most likely characters.

    None if the model cannot be sampled.
    """
    from tui_gru.engine.sampling import sample_text

    config = mine.program.config
    primer = config.text[:PRIMER]
    try:
        one, other = (
            sample_text(config, moment.weights, config.as_string(primer), SAMPLED, temperature=0) for moment in (mine, theirs)
        )
    except TuiGruError:
        return None
    return BranchSamples(primer, *(text_of_tokens((draw.char for draw in sample.draws), primer) for sample in (one, other)))


def _batches(mine: Timeline, theirs: Timeline, first: int, last: int) -> Iterator[int]:
    """Yield candidates for the batch of the first difference: `first`, and those around the first difference of a scalar."""
    yield first
    for low, high in mine.blocks(first, last):
        for name in COLUMNS:
            one, other = (timeline.column(name, low, high) for timeline in (mine, theirs))
            count = min(len(one), len(other))
            differs = np.flatnonzero(~same(one[:count], other[:count]))
            if len(differs):
                batch = low + int(differs[0])
                yield from (candidate for candidate in (batch - 1, batch) if candidate > first)
                return


def _in_batch(program: Program, batch: int, mine: BatchRecord, theirs: BatchRecord) -> First | None:
    """Return the first differences in a batch: in its initial values or inputs, and in its computed values."""
    begin = batch * program.ticks
    in_inputs: DifferingEntry | None = None
    for name in program.weights:
        entry = _entry(name, None, mine.before[name], theirs.before[name], begin)
        in_inputs = in_inputs or entry
    for name, t in computed_in_order(program, learned=mine.learned and theirs.learned):
        is_input = name in program.model.page.inputs or name not in {*program.lines, *program.parts}
        if is_input and in_inputs is not None:
            continue
        one, other = (program.names[name].complete(record, t) for record in (mine, theirs))
        entry = _entry(name, t, np.asarray(one), np.asarray(other), begin + _offset(program, name, t))
        if entry is None:
            continue
        if not is_input:
            return First(batch, in_inputs, entry)
        in_inputs = entry
    learns = "" if mine.learned == theirs.learned else "mine" if mine.learned else "theirs"
    return First(batch, in_inputs, None, learns) if in_inputs is not None or learns else None


def _offset(program: Program, name: str, t: int | None) -> int:
    """Return the tick within a batch from which on a value exists."""
    if program.names[name].kind.store is Store.GRADIENTS:
        return offset_of(program, name, None)
    return program.readable_from(name, t) or 0


def _entry(name: str, t: int | None, mine: Array, theirs: Array, tick: int) -> DifferingEntry | None:
    largest = largest_difference(mine, theirs)
    if largest is None:
        return None
    index, entries = largest
    return DifferingEntry(name, t, index, float(mine[index]), float(theirs[index]), entries, tick)
