"""A position with its values: those computed up to it, and the order in which a batch computes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tui_gru.debugger.position import Position, position_of
from tui_gru.debugger.program import CHARACTERS, Program, ProgramLine, Store, ValueKind, unknown_name
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.config import Text
from tui_gru.engine.numbers import same
from tui_gru.engine.training import Point, gradients_so_far
from tui_gru.engine.weights import Array, Weights
from tui_gru.errors import TuiGruError

# ------------------------------------------------------------------------------
# The values that can be read at a position: those computed up to it.


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
        return self.is_readable(next(iter(self.program.model.page.inputs)), t)

    def is_readable(self, name: str, t: int) -> bool:
        """Return True if `name` of timestep `t` can be read: it is computed, an input, or carried from another timestep."""
        if self.program.names[name].kind.is_derivative and not self.learned:
            return False
        tick = self.program.readable_from(name, t)
        return tick is None or tick <= self.position.offset

    @property
    def learned(self) -> bool:
        """True if this batch ends with backward and update."""
        return self.record.learned

    def why_missing(self, name: str = "") -> str:
        """Return why this batch never has the gradient `name`, by default any; "" if it has it once its line is executed, or if
        learning is off."""
        source, number = self.program.config.source, self.position.number
        is_gradient = not name or self.program.names[name].kind.is_derivative or self.program.names[name].kind.learned
        return f"no gradient was recorded in {source.step(number)}" if is_gradient and number in source.without_gradients else ""

    def value(self, name: str, t: int | None = None) -> Any:
        """Return the value of `name`: (B, ·) of timestep `t` (default: the position's), a number, or None if not computed yet.

        Parameters and gradients have their own shapes; epoch, batch, t and step count from 0, as in `Position`. Raises
        `TuiGruError` for an unknown name.
        """
        t = self.position.t if t is None else t
        named = self.program.names.get(name)
        if named is None:
            raise TuiGruError(unknown_name(name, self.program.readable))
        match named.kind.store:
            case Store.NOTHING if name in CHARACTERS:
                return self._characters(name, t)
            case Store.NOTHING:
                return t if name == "t" else getattr(self.position, "number" if name == "step" else name)
            case Store.SETTINGS:
                return self.record.settings[name]
            case Store.NUMBERS:
                return self._number(name)
            case Store.WEIGHTS:
                return read_only(self.weights[name])
            case Store.GRADIENTS:
                return self.gradient(named.of)
            case Store.VECTORS:
                return read_only(named.array(self.record)) if self.learned and self.executed(name, 0) else None
        if not self.is_readable(name, t):
            return None
        value = self.record.array(name)
        value = value[t] if named.timed else value
        return read_only(value) if value.ndim else float(value)

    def in_conditions(self, name: str, t: int | None = None) -> Any:
        """Return the value of `name` as conditions, watches and log lines read it: epoch, batch, t and step count from 1."""
        named = self.program.names.get(name)
        if named is None or named.kind is not ValueKind.COUNTER:
            return self.value(name, t)
        if name == "t":
            return (self.position.t if t is None else t) + 1
        return self.program.counter(name, self.position.number)

    def _number(self, name: str) -> float | None:
        offset, program = self.position.offset, self.program
        if name == "loss":
            is_known = program.knows_loss and self.position.number not in program.config.source.unknown_losses
            return self.record.loss if is_known and offset >= program.loss_tick else None
        if name == "max_weight":
            weights = self.weights
            return self.record.max_weight if weights is self.record.after else float(np.abs(weights.parameters).max())
        if name == "grad_norm" and name not in program.lines:
            return self.record.grad_norm if self.learned and offset >= program.backward_end else None
        return self.record.numbers[name] if self.learned and self.executed(name, 0) else None

    def _characters(self, name: str, t: int) -> Array | None:
        source = self.program.tokens_of(name)
        if source is None or not self.is_readable(source, t):
            return None
        return read_only(np.array([self.vocabulary[i] for i in self.record.ids(source)[t]]))

    @cached_property
    def updated_names(self) -> frozenset[str]:
        """The parameters and states of the update rule that this batch has updated so far."""
        if not self.learned:
            return frozenset()
        reached = max(self.position.offset - self.program.backward_end, 0)
        return frozenset(line.target for line in self.program.update[:reached]).intersection(self.program.weights)

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
            return read_only(complete[name])
        return read_only(self._so_far(name, steps))

    def gradient_before(self, name: str) -> Array | None:
        """Return the gradient without the contribution of the last timestep, in its shape; None if there was none before it."""
        steps = self._steps_done(name)
        return read_only(self._so_far(name, steps - 1)) if steps > 1 else None

    def _steps_done(self, name: str) -> int:
        return self.program.steps_done(f"d{name}", self.position.offset) if self.learned else 0

    def _is_whole(self, name: str, steps: int) -> bool:
        place = self.program.place_of(f"d{name}")
        return place is not None and steps == place[0].steps

    def _so_far(self, name: str, steps: int) -> Array:
        place = self.program.place_of(f"d{name}")
        assert place is not None
        program = self.program
        first = next(block.number for block in program.blocks if block.phase == "backward" and block.lines != program.upstream)
        segment = place[0].number - first
        if (name, segment, steps) not in self._sums:
            (self._sums[name, segment, steps],) = gradients_so_far(self.record, Point("backward", segment, steps), (name,)).values()
        return self._sums[name, segment, steps]

    @cached_property
    def _sums(self) -> dict[tuple[str, int, int], Array]:
        """Gradients over the first steps of a segment, computed on demand."""
        return {}


def value_before(moment: Moment, previous: BatchRecord | None, name: str) -> Any:
    """Return what `prev()` of `name` reads in conditions: the value in the timestep computed before, or in the batch `previous`.

    For values that a batch computes once, and in the first timestep to be computed, this is the value at the end of the batch
    before. Before the first batch, where `previous` is the first record of the run, only the initial weights exist.
    """
    program, t = moment.program, moment.position.t
    direction = program.direction_of(name)
    before, last = (t - direction, program.seq_length - 1 if direction > 0 else 0) if direction else (-1, program.seq_length - 1)
    if direction and 0 <= before < program.seq_length:
        return moment.in_conditions(name, before)
    if previous is None:
        return None
    if moment.position.number == 0:
        return read_only(previous.before[name]) if program.names[name].kind.is_weight else None
    end = position_of(program, moment.position.number * program.ticks)
    return Moment(program, end, previous, moment.vocabulary).in_conditions(name, last)


def read_only(array: Array) -> Array:
    """Return a read-only view of an array, in its shape."""
    view = array.view()
    view.flags.writeable = False
    return view


# ------------------------------------------------------------------------------
# Lists everything that a batch computes, in order; reads it from a complete record; and compares it with another.


def computed_in_order(program: Program, *, learned: bool) -> Iterator[tuple[str, int | None]]:
    """Yield every name with its timestep (0-based; None for values of the whole batch), in the order of computation.

    Inputs and initial states come with the timestep that reads them, gradients of parameters at the end of the backward pass.
    """
    page, names = program.model.page, program.names
    begins = {page.before(state): state for state in page.states}
    loaded: set[tuple[str, int]] = set()
    gradients = [(f"d{name}", None) for name in program.parameters]
    for block in program.blocks:
        if block.phase in ("backward", "update") and not learned:
            return
        if block.phase == "update":
            yield from gradients
        for step in range(block.steps):
            t = block.timestep(step) if block.direction else None
            for line in block.lines:
                for name in line.reads if t is not None else ():
                    first = name in begins and step == 0
                    if (name in page.inputs or first) and (name, t) not in loaded:
                        assert t is not None
                        loaded.add((name, t))
                        yield name, t
                yield from ((name, t if names[name].timed else None) for name in _computed(line, program))
    if learned and not program.update:
        yield from gradients


def _computed(line: ProgramLine, program: Program) -> Iterator[str]:
    """Yield the names that a line computes: its labelled parts, inner ones first, and its target. Omits gradients of parameters."""
    if line.formula is None:
        return
    for node in reversed(tuple(line.formula.walk())):
        if node.label and program.written_with[node.label] == line.target:
            yield node.label
    if line.target in program.names and program.names[line.target].kind.store is not Store.GRADIENTS:
        yield line.target


def equal_values(one: Any, other: Any) -> bool:
    """Return True if two values of any shape and kind are equal, or both not computed (None); NaN equals NaN."""
    a, b = np.asarray(one), np.asarray(other)
    return a.shape == b.shape and a.dtype.kind == b.dtype.kind and bool(np.all(same(a, b)))


def largest_difference(one: Array, other: Array) -> tuple[tuple[int, ...], int] | None:
    """Return the index of the largest difference of two arrays, and the number of entries that differ; None if they are equal.

    NaN equals NaN; a difference that is NaN counts as the largest.
    """
    differs = ~np.asarray(same(one, other))
    if not differs.any():
        return None
    with np.errstate(all="ignore"):
        difference = np.abs(other.astype(np.float64) - one.astype(np.float64))
    difference = np.where(differs, np.where(np.isnan(difference), np.inf, difference), -1)
    index = np.unravel_index(int(np.argmax(difference)), difference.shape)
    return tuple(map(int, index)), int(differs.sum())
