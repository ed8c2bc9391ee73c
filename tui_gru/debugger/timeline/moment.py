"""The values that can be read at a position: those computed up to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.names import ValueKind, unknown_name
from tui_gru.debugger.program.position import Position, position_of
from tui_gru.engine.data.tokens import Text
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.computing import Point, gradients_so_far
from tui_gru.engine.running.weights import Array, Weights


@dataclass(frozen=True, eq=False)
class Moment:
    """The record of a batch as of one position. All arrays are read-only views of the computed values."""

    program: Program
    position: Position
    record: BatchRecord
    vocabulary: Text

    def executed(self, name: str, t: int) -> bool:
        """Return True if the line that computes `name` has been executed for timestep `t` (0-based) of this batch."""
        tick = self.program.tick_of(name, t)
        return tick is not None and tick <= self.position.offset

    def begun(self, t: int) -> bool:
        """Return True if timestep `t` has begun, so that its inputs can be read."""
        return self.there(next(iter(self.program.model.page.inputs)), t)

    def there(self, name: str, t: int) -> bool:
        """Return True if `name` of timestep `t` can be read: it is computed, an input, or carried from another timestep."""
        if self.program.names[name].kind is ValueKind.VALUE_GRADIENT and not self.learned:
            return False
        tick = self.program.there_at(name, t)
        return tick is None or tick <= self.position.offset

    @property
    def learned(self) -> bool:
        """True if this batch ends with backward and update."""
        return self.record.learned

    def value(self, name: str, t: int | None = None) -> Any:
        """Return the value of `name`: (B, ·) of timestep `t` (default: the position's), a number, or None if not computed yet.

        Parameters and gradients have their own shapes. Raises `TuiGruError` for an unknown name.
        """
        t = self.position.t if t is None else t
        named = self.program.names.get(name)
        if named is None:
            raise TuiGruError(unknown_name(name, self.program.readable))
        match named.kind:
            case ValueKind.COUNTER:
                return t if name == "t" else getattr(self.position, name)
            case ValueKind.SETTING:
                return self.record.settings[name]
            case ValueKind.NUMBER:
                return self._number(name)
            case ValueKind.PARAMETER | ValueKind.OPTIMIZER_STATE:
                return frozen(self.weights[name])
            case ValueKind.GRADIENT:
                return self.gradient(name[1:])
            case ValueKind.UPDATE_VALUE:
                return self._update_step(name)
            case ValueKind.CHARACTER:
                return self._characters(name, t)
        if not self.there(name, t):
            return None
        value = self.record.array(name)
        value = value[t] if named.timed else value
        return frozen(value) if value.ndim else float(value)

    def _number(self, name: str) -> float | None:
        offset, program = self.position.offset, self.program
        if name == "loss":
            return self.record.loss if program.knows_loss and offset >= program.loss_tick else None
        if name == "max_weight":
            weights = self.weights
            return self.record.max_weight if weights is self.record.after else float(np.abs(weights.parameters).max())
        if name == "grad_norm" and name not in program.lines:
            return self.record.grad_norm if self.learned and offset >= program.backward_end else None
        return self.record.numbers[name] if self.learned and self.executed(name, 0) else None

    def _update_step(self, name: str) -> Array | None:
        if not self.learned or not self.executed(name, 0):
            return None
        target, parameter = self.program.update_step(name)
        return frozen(self.record.vector(target)[parameter])

    def _characters(self, name: str, t: int) -> Array | None:
        source = self.program.tokens_of(name)
        if source is None or not self.there(source, t):
            return None
        return frozen(np.array([self.vocabulary[i] for i in self.record.ids(source)[t]]))

    @cached_property
    def updated_names(self) -> frozenset[str]:
        """The parameters and states of the update rule that this batch has updated so far."""
        if not self.learned:
            return frozenset()
        reached = max(self.position.offset - self.program.backward_end, 0)
        own = self.program.names_of(ValueKind.PARAMETER, ValueKind.OPTIMIZER_STATE)
        return frozenset(line.target for line in self.program.update[:reached]) & frozenset(own)

    @cached_property
    def weights(self) -> Weights:
        """All parameters and states of the update rule as of the position. During the update, some are new and some are old."""
        names = self.updated_names
        if not names:
            return self.record.before
        if self.position.offset >= self.program.ticks:
            return self.record.after
        mixed = self.record.before.copy()
        for name in names:
            mixed[name][...] = self.record.after[name]
        return mixed

    def gradient(self, name: str) -> Array | None:
        """Return the gradient of a parameter so far, in its shape; it accumulates timestep by timestep.

        None before its first line.
        """
        steps = self._steps_done(name)
        if not steps:
            return None
        complete = self.record.gradients
        assert complete is not None
        if self.position.offset >= self.program.backward_end or (self._is_whole(name, steps) and not self.program.earlier):
            return frozen(complete[name])
        return frozen(self._so_far(name, steps))

    def gradient_before(self, name: str) -> Array | None:
        """Return the gradient without the contribution of the last timestep; None if there was none before it."""
        steps = self._steps_done(name)
        return frozen(self._so_far(name, steps - 1)) if steps > 1 else None

    def _steps_done(self, name: str) -> int:
        return self.program.steps_done(f"d{name}", self.position.offset) if self.learned else 0

    def _is_whole(self, name: str, steps: int) -> bool:
        place = self.program.place_of(f"d{name}")
        return place is not None and steps == place[0].steps

    def _so_far(self, name: str, steps: int) -> Array:
        place = self.program.place_of(f"d{name}")
        assert place is not None
        program = self.program
        first = next(block.number for block in program.blocks if block.phase == "backward" and block.lines != program.outside)
        segment = place[0].number - first
        if (name, segment, steps) not in self._sums:
            (self._sums[name, segment, steps],) = gradients_so_far(self.record, Point("backward", segment, steps), (name,)).values()
        return self._sums[name, segment, steps]

    @cached_property
    def _sums(self) -> dict[tuple[str, int, int], Array]:
        """Gradients over the first steps of a segment, computed on demand."""
        return {}


def value_before(moment: Moment, previous: BatchRecord | None, name: str) -> Any:
    """Return the value of `name` one step earlier: in the timestep computed before, or in the batch before, `previous`.

    For values that a batch computes once, and in the first timestep to be computed, this is the value at the end of the batch
    before. Before the first batch, where `previous` is the first record of the run, only the initial weights exist.
    """
    program, t = moment.program, moment.position.t
    way = program.way_of(name)
    before, last = (t - way, program.seq_length - 1 if way > 0 else 0) if way else (-1, program.seq_length - 1)
    if way and 0 <= before < program.seq_length:
        return moment.value(name, before)
    if previous is None:
        return None
    if moment.position.number == 0:
        own = program.names[name].kind in (ValueKind.PARAMETER, ValueKind.OPTIMIZER_STATE)
        return frozen(previous.before[name]) if own else None
    end = position_of(program, moment.position.number * program.ticks)
    return Moment(program, end, previous, moment.vocabulary).value(name, last)


def frozen(array: Array) -> Array:
    """Return a read-only view."""
    view = array.view()
    view.flags.writeable = False
    return view
