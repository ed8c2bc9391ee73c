"""What can be read at a position: what has been computed by then, and nothing that has not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from tui_gru.debugger.position import Position, position_of
from tui_gru.debugger.program import Program
from tui_gru.engine.backward import gradients_from
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.parameters import Array, Parameters, parameter_names
from tui_gru.engine.record import BACKWARD_NAMES, FORWARD_NAMES, BatchRecord, delta_names

COUNTERS = ("epoch", "batch", "t")
SCALARS = ("loss", "grad_norm", "max_weight", "learning_rate")
INPUTS = ("x", "y", "h_prev", "char", "target")  # there as soon as a timestep begins


@cache
def readable_names(reset: str) -> tuple[str, ...]:
    """Every name that a condition, a watch or `Session.value` can read."""
    parameters = parameter_names(reset)
    gradients = tuple(f"d{name}" for name in parameters)
    return (*FORWARD_NAMES, *delta_names(reset), *parameters, *gradients, *SCALARS, *COUNTERS, "char", "target")


@dataclass(frozen=True, eq=False)
class Moment:
    """A batch's record as it stands at one position. All arrays are read-only views of what was computed."""

    program: Program
    position: Position
    record: BatchRecord
    vocabulary: str

    def executed(self, name: str, t: int) -> bool:
        """Whether the line that computes `name` has been executed for timestep `t` (0-based) of this batch."""
        tick = self.program.tick_of(name, t)
        return tick is not None and tick <= self.position.offset

    def begun(self, t: int) -> bool:
        """Whether timestep `t` has begun: its inputs and the state before it are there."""
        return self.position.offset > t * len(self.program.forward)

    @property
    def learned(self) -> bool:
        """Whether this batch ends with backward and update."""
        return self.record.gradients is not None

    def value(self, name: str, t: int | None = None) -> Any:
        """The value of `name`: an array (B, ·) of timestep `t` (default: the position's), a number, or None if not computed yet."""
        t = self.position.t if t is None else t
        parameters = parameter_names(self.program.config.reset)
        if name == "t":
            return t
        if name in COUNTERS:
            return getattr(self.position, name)
        if name in SCALARS:
            return self._scalar(name)
        if name in parameters:
            return frozen(self.parameters[name])
        if name.startswith("d") and name[1:] in parameters:
            return self.gradient(name[1:])
        known = readable_names(self.program.config.reset)
        if name not in known:
            raise TuiGruError(unknown_name(name, known))
        if not self._there(name, t):
            return None
        if name in ("char", "target"):
            return self._characters(name, t)
        value = self.record.array(name)[t]
        return float(value) if name == "term3" else frozen(value)

    def _there(self, name: str, t: int) -> bool:
        if name in INPUTS:
            return self.begun(t)
        if name in BACKWARD_NAMES and not self.learned:
            return False
        return self.executed(name, t)

    def _scalar(self, name: str) -> float | None:
        offset, program = self.position.offset, self.program
        if name == "loss":
            return self.record.loss if offset >= program.loss_tick else None
        if name == "grad_norm":
            return self.record.grad_norm if self.learned and offset >= program.backward_end else None
        if name == "max_weight":
            return float(np.abs(self.parameters.flat).max())
        return self.record.learning_rate

    def _characters(self, name: str, t: int) -> Array:
        ids = self.record.activations.inputs[t] if name == "char" else self.record.activations.targets[t]
        return frozen(np.array([self.vocabulary[i] for i in ids]))

    @cached_property
    def updated_names(self) -> frozenset[str]:
        """The parameters that this batch's update has reached."""
        if not self.learned:
            return frozenset()
        reached = self.position.offset - (self.program.ticks - len(self.program.update))
        return frozenset(line.target for line in self.program.update[: max(reached, 0)])

    @cached_property
    def parameters(self) -> Parameters:
        """All parameters as of now: in the middle of the update, some are new and some are old."""
        names = self.updated_names
        if not names:
            return self.record.parameters
        if len(names) == len(self.program.update):
            return self.record.updated
        mixed = self.record.parameters.copy()
        for name in names:
            mixed[name][...] = self.record.updated[name]
        return mixed

    def gradient(self, name: str) -> Array | None:
        """The gradient of a parameter so far: it grows from the last timestep to the first. None before its first line."""
        complete = self.record.gradients
        start = self._accumulated(f"d{name}")
        if complete is None or start is None:
            return None
        if self.position.offset >= self.program.backward_end or (start == 0 and not self.program.earlier):
            return frozen(complete[name])
        return frozen(self._partial[start][name])

    def gradient_before(self, name: str) -> Array | None:
        """The gradient without the share that came last; None where that was the first, or there is none yet."""
        start = self._accumulated(f"d{name}") if self.gradient(name) is not None else None
        if start is None or start + 1 >= self.program.seq_length:
            return None
        return frozen(self._partial[start + 1][name])

    def _accumulated(self, name: str) -> int | None:
        """The first timestep whose share is in the gradient; None if none is yet."""
        tick = self.program.tick_of(name, self.program.seq_length - 1)
        assert tick is not None
        if self.position.offset < tick:
            return None
        shares = min((self.position.offset - tick) // len(self.program.backward) + 1, self.program.seq_length)
        return self.program.seq_length - shares

    @cached_property
    def _partial(self) -> _Partial:
        return _Partial(self.record)


def value_before(moment: Moment, previous: BatchRecord | None, name: str) -> Any:
    """The value of `name` one round earlier: in the timestep computed before, or in the batch before, whose record is `previous`.

    What is computed once a batch, and what the first timestep to be computed has, is as at the end of the batch before. Before the
    first batch, where `previous` is the record that the run began with, there are the initial weights and nothing else.
    """
    program, t = moment.program, moment.position.t
    if name in BACKWARD_NAMES:
        before, last = t + 1, 0
    elif name in (*FORWARD_NAMES, *INPUTS, "t"):
        before, last = t - 1, program.seq_length - 1
    else:
        before, last = -1, program.seq_length - 1
    if 0 <= before < program.seq_length:
        return moment.value(name, before)
    if previous is None:
        return None
    if moment.position.number == 0:
        return frozen(previous.parameters[name]) if name in parameter_names(program.config.reset) else None
    end = position_of(program, moment.position.number * program.ticks)
    return Moment(program, end, previous, moment.vocabulary).value(name, last)


class _Partial(dict[int, Parameters]):
    """Gradients over the timesteps from a given one on, computed when asked for."""

    def __init__(self, record: BatchRecord) -> None:
        self._record = record

    def __missing__(self, start: int) -> Parameters:
        self[start] = gradients_from(self._record, start)
        return self[start]


def frozen(array: Array) -> Array:
    """A read-only view."""
    view = array.view()
    view.flags.writeable = False
    return view


def unknown_name(name: str, known: tuple[str, ...]) -> str:
    """The message for a name that does not exist, with those that look like it."""
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are: {' '.join(known)}"
    return f"there is no value named {name!r}; {hint}"
