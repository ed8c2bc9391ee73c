"""What if a number of this batch were another one: everything that follows from it in the batch, beside what is.

The run is not touched: a copy of the batch is computed on from the line after the one that wrote the number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tui_gru.debugger.changeable import gradients_of, offset_of, values_of
from tui_gru.debugger.edits import Edit, check_index, checked_number
from tui_gru.debugger.moment import Moment, unknown_name
from tui_gru.debugger.position import position_of
from tui_gru.debugger.program import Program
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine import arguments
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.parameters import Array, parameter_names
from tui_gru.engine.record import BACKWARD_NAMES, FORWARD_NAMES, BatchRecord
from tui_gru.engine.replacing import replace_gradient, replace_parameter, replace_value


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


def what_if(timeline: Timeline, here: Moment, edit: Edit, t: int | None = None) -> WhatIf:
    """What `edit` would come to in the batch that one is in. `t` is the timestep (0-based; the position's if None).

    A parameter is changed from the beginning of the batch on, a gradient once it is complete. Raises `TuiGruError` for what
    cannot be changed, has not been computed yet, or lies before something in the batch that has been changed already.
    """
    program, name = here.program, edit.name
    reset = program.config.reset
    per_batch = name in parameter_names(reset) or name in gradients_of(reset)
    t = None if per_batch else _timestep(here.position.t if t is None else t, program)
    array = _array(here, name, t)
    check_index(edit, array)
    value, was = checked_number(edit, program.config), float(array[edit.index])
    begin = here.position.number * program.ticks
    tick = begin + offset_of(program, name, t)
    _check_place(timeline, here, tick)

    record, parameters = here.record.copy(), here.record.parameters
    if name in gradients_of(reset):
        at = replace_gradient(record, name[1:], edit.index, value)
    elif per_batch:
        parameters = parameters.copy()
        at = replace_parameter(parameters, name, edit.index, value)
    else:
        assert t is not None
        at = replace_value(record, name, t, edit.index, value)
    trainer = timeline.segment_at(here.position.tick).settings.trainer
    trainer.resume(record, parameters, at, learn=here.learned, earlier=timeline.earlier(here.position.number))

    end = position_of(program, begin + (program.ticks if here.learned else program.loss_tick))
    now = replace(here, position=end)
    found = tuple(_differences(program, here.record, record))
    return WhatIf(name, t, edit.index, was, value, tick, now, replace(now, record=record), found)


def _timestep(t: int, program: Program) -> int:
    return arguments.whole("the timestep t", t, least=0, most=program.seq_length - 1)


def _array(here: Moment, name: str, t: int | None) -> Array:
    """The array with the number to change, as it is on the screen."""
    reset = here.program.config.reset
    parameters = parameter_names(reset)
    known = (*parameters, *values_of(reset), *gradients_of(reset))
    if name not in known:
        what = "is what goes in" if name in ("x", "y") else "is no number that can be changed"
        raise TuiGruError(f"{name!r} {what}; {unknown_name(name, known).split('; ')[-1]}")
    if name in parameters:
        if name in here.updated_names:
            raise TuiGruError(f"this batch has updated {name} already, and does nothing with it after that; ask in the next batch")
        return here.parameters[name]
    value = here.value(name, t)
    if value is None:
        raise TuiGruError(f"{name} has not been computed here yet; step over its line first")
    if t is None and here.position.offset < here.program.backward_end:
        raise TuiGruError(f"{name} is still growing; step to the end of the backward pass first")
    return np.asarray(value)


def _check_place(timeline: Timeline, here: Moment, tick: int) -> None:
    """What lies before an edit of this batch was computed with other numbers, and cannot be computed on."""
    begin = here.position.number * here.program.ticks
    for segment in timeline.segments:
        if max(begin, tick) < segment.start <= here.position.tick and segment.action.edited:
            raise TuiGruError("something was changed in this batch after that line; undo it, or ask for a number computed since")


def _differences(program: Program, now: BatchRecord, then: BatchRecord) -> Iterator[Difference]:
    """Every array that would differ, in the order of the program; a state is named h, a gradient handed back dh_prev."""
    T = program.seq_length
    pairs: list[tuple[str, int | None, Any, Any]] = []
    for t in range(T):
        pairs += [(n, t, now.array(n)[t], then.array(n)[t]) for n in FORWARD_NAMES if n != "h_prev" or t == 0]
    pairs.append(("loss", None, np.float64(now.loss), np.float64(then.loss)))
    if now.gradients is not None and then.gradients is not None:
        names = [n for n in BACKWARD_NAMES if n in values_of(program.config.reset) and n != "dh_future"]
        for t in reversed(range(T)):
            pairs += [(n, t, now.array(n)[t], then.array(n)[t]) for n in names]
        pairs += [(f"d{n}", None, gradient, then.gradients[n]) for n, gradient in now.gradients.items()]
        pairs += [(n, None, parameter, then.updated[n]) for n, parameter in now.updated.items()]
    for name, at, before, after in pairs:
        found = _difference(name, at, np.asarray(before), np.asarray(after))
        if found is not None:
            yield found


def _difference(name: str, t: int | None, before: Array, after: Array) -> Difference | None:
    differs = (before != after) & ~(np.isnan(before) & np.isnan(after))
    if not differs.any():
        return None
    with np.errstate(all="ignore"):
        change = np.abs(after.astype(np.float64) - before.astype(np.float64))
    change = np.where(differs, np.where(np.isnan(change), np.inf, change), -1)
    index = np.unravel_index(int(np.argmax(change)), change.shape)
    return Difference(name, t, tuple(map(int, index)), float(before[index]), float(after[index]), int(differs.sum()))
