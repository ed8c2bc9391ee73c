"""What if a number of this batch were another one: everything that follows from it in the batch, beside what is.

The run is not touched: a copy of the batch is computed on from the line after the one that wrote the number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.names import Kind, unknown_name
from tui_gru.debugger.program.position import position_of
from tui_gru.debugger.timeline.changes import changeable, is_per_batch, offset_of, replace_number
from tui_gru.debugger.timeline.edits import Edit, check_index, checked_number
from tui_gru.debugger.timeline.moment import Moment
from tui_gru.debugger.timeline.recorded import computed_in_order, recorded
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine import arguments
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.numbers import same
from tui_gru.engine.weights import Array


@dataclass(frozen=True)
class Difference:
    """Where an array would differ most: `name` of timestep `t` (None: of the whole batch) is `before` at `index`, would be `after`.

    `entries` of it differ at all. What ceases to be a number differs most of all.
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


@dataclass(frozen=True, eq=False)
class WhatIf:
    """The batch as it is (`now`) and as it would be (`then`), both at its end, with `value` where `was` is.

    `t` is None for a parameter and a gradient, which a batch has one of. `differences` are in the order in which the batch
    computes them. `tick` is where the change is made: just after the line that wrote the number.
    """

    name: str
    t: int | None
    index: tuple[int, ...]
    was: float
    value: float
    tick: int
    now: Moment
    then: Moment
    differences: tuple[Difference, ...]

    @property
    def losses(self) -> tuple[float, float]:
        """The loss as it is, and as it would be."""
        return self.now.record.loss, self.then.record.loss

    @property
    def first_order(self) -> float | None:
        """By how much the loss would change to first order, of a batch whose loss was computed elsewhere; None for any other.

        That is Σ dout ⊙ Δout, over all that the model hands on: what lies behind it is known by its gradient alone.
        """
        program, was, would = self.now.program, self.now.record, self.then.record
        if not program.outside or not was.learned:
            return None
        output, (line,) = program.model.page.outputs[0], program.outside
        pairs = [(was.array(line.target), would.array(output) - was.array(output))]
        for state, flow in zip(was.compiled.states, was.flows_in, strict=True):
            pairs.append((flow, would.border(state, end=True) - was.border(state, end=True)))
        with np.errstate(all="ignore"):
            return float(sum(np.sum(gradient.astype(np.float64) * change) for gradient, change in pairs))


def what_if(timeline: Timeline, here: Moment, edit: Edit, t: int | None = None) -> WhatIf:
    """What `edit` would come to in the batch that one is in. `t` is the timestep (0-based; the position's if None).

    A parameter is changed from the beginning of the batch on, before its update; a gradient once it is complete. Raises
    `TuiGruError` for what cannot be changed, has not been computed yet, or lies before something in the batch that was changed.
    """
    program, name = here.program, edit.name
    _check_name(program, name)
    t = None if is_per_batch(program, name) else _timestep(here.position.t if t is None else t, program)
    array = _array(here, name, t)
    check_index(edit, array)
    value, was = checked_number(edit, program.config), float(array[edit.index])
    begin = here.position.number * program.ticks
    tick = begin + offset_of(program, name, t)
    _check_place(timeline, here, tick)

    record = here.record.copy()
    at = replace_number(record, program, name, t, edit.index, value)
    trainer = timeline.segment_at(here.position.tick).trainer
    trainer.resume(record, at, learn=here.learned, earlier=timeline.earlier(here.position.number))

    end = position_of(program, begin + (program.ticks if here.learned else program.loss_tick))
    now = replace(here, position=end)
    found = tuple(_differences(program, here.record, record))
    return WhatIf(name, t, edit.index, was, value, tick, now, replace(now, record=record), found)


def place_of_edit(program: Program, what: WhatIf) -> tuple[str, int]:
    """The name under which a number is edited so that the run becomes what was shown, and the tick after which that is done.

    What a timestep finds is edited as what another timestep left. Raises `TuiGruError` where no timestep of the run did.
    """
    page = program.model.page
    if program.names[what.name].kind is Kind.INPUT:
        raise TuiGruError(f"{what.name} is what this run was given: what follows from another one can be asked, and not be kept")
    state = next((state for state in page.states if what.name in (page.before(state), page.ahead(state))), None)
    if state is None:
        return what.name, what.tick
    assert what.t is not None
    begin, way = what.now.position.number * program.ticks, program.way_of(state)
    if what.name == page.ahead(state):
        handed_on = f"d{page.before(state)}"
        if what.tick - begin == program.there_at(what.name, what.t):
            return what.name, what.tick
        return handed_on, begin + (program.tick_of(handed_on, what.t + way) or 0)
    if 0 <= what.t - way < program.seq_length:
        return state, what.tick
    at, shown = position_of(program, what.tick), program.writer.name(state)
    if what.tick == 0 or (what.tick > begin and at.t == what.t):  # at the beginning of its loop
        return what.name, what.tick
    if what.now.position.batch == 0 or program.config.carry == "reset":
        raise TuiGruError(
            f"this batch begins with {shown} = 0, which is no number of the run; change {shown} after a timestep instead"
        )
    if at.t != (program.seq_length - 1 if way > 0 else 0):
        raise TuiGruError(f"this batch begins with what {shown} was before it; change {shown} after a timestep instead")
    return state, what.tick


def _timestep(t: int, program: Program) -> int:
    return arguments.whole("the timestep t", t, least=0, most=program.seq_length - 1)


def _check_name(program: Program, name: str) -> None:
    known = changeable(program)
    if name not in known:
        what = "is what goes in" if name in program.model.page.inputs else "is no number that can be changed"
        raise TuiGruError(f"{name!r} {what}; {unknown_name(name, known).split('; ')[-1]}")


def _array(here: Moment, name: str, t: int | None) -> Array:
    """The array with the number to change, as it is on the screen."""
    kind = here.program.names[name].kind
    if kind in (Kind.PARAMETER, Kind.KEPT):
        return here.record.before[name]
    value = here.value(name, t)
    if value is None:
        raise TuiGruError(f"{name} has not been computed here yet; step over its line first")
    if kind is Kind.GRADIENT and here.position.offset < here.program.backward_end:
        raise TuiGruError(f"{name} is still growing; step to the end of the backward pass first")
    return np.asarray(value)


def _check_place(timeline: Timeline, here: Moment, tick: int) -> None:
    """What lies before an edit of this batch was computed with other numbers, and cannot be computed on."""
    begin = here.position.number * here.program.ticks
    for segment in timeline.segments:
        if max(begin, tick) < segment.start <= here.position.tick and segment.edited:
            raise TuiGruError("something was changed in this batch after that line; undo it, or ask for a number computed since")


def _differences(program: Program, now: BatchRecord, then: BatchRecord) -> Iterator[Difference]:
    """Every array that would differ, in the order in which the batch computes them."""
    for name, t in computed_in_order(program, learned=now.learned and then.learned):
        before, after = (recorded(program, record, name, t) for record in (now, then))
        found = _difference(name, t, before, after)
        if found is not None:
            yield found


def _difference(name: str, t: int | None, before: Array, after: Array) -> Difference | None:
    differs = ~same(before, after)
    if not differs.any():
        return None
    with np.errstate(all="ignore"):
        change = np.abs(after.astype(np.float64) - before.astype(np.float64))
    change = np.where(differs, np.where(np.isnan(change), np.inf, change), -1)
    index = np.unravel_index(int(np.argmax(change)), change.shape)
    return Difference(name, t, tuple(map(int, index)), float(before[index]), float(after[index]), int(differs.sum()))
