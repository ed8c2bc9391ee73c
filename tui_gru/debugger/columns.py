"""What a condition reads in one batch, at all its places at once: columns taken from a whole record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tui_gru.debugger.conditions import Condition, ConditionError
from tui_gru.debugger.expression_values import Array
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.position import position_of
from tui_gru.debugger.program import Program
from tui_gru.engine.parameters import parameter_names
from tui_gru.engine.record import BACKWARD_NAMES, FORWARD_NAMES, BatchRecord

# The values of a name at the places of one batch, from its record and its number: (n, …), or (1, …) where they are all the same.
Column = Callable[[BatchRecord, int], Array]


@dataclass(frozen=True, eq=False)
class WholeBatch:
    """The ticks of a batch at which all that a condition reads is there, and how to take the columns of it from a record."""

    ticks: Array
    columns: Mapping[str, Column]

    @classmethod
    def of(cls, names: frozenset[str], ticks: Sequence[int], like: Moment) -> WholeBatch | None:
        """For all records that are `like` one moment's; None where a name's values at these ticks are in no record."""
        program, record = like.program, like.record
        moments = [(k, Moment(program, position_of(program, k), record, like.vocabulary)) for k in ticks]
        there = [k for k, moment in moments if all(moment.value(name) is not None for name in names)]
        columns = {name: _column(name, there, like) for name in names}
        found = {name: column for name, column in columns.items() if column is not None}
        return cls(np.array(there, int), found) if len(found) == len(columns) else None

    def holds(self, condition: Condition, record: BatchRecord, number: int) -> list[int] | None:
        """The ticks at which the condition holds, in order; None where it cannot be evaluated at one of them."""
        if not self.ticks.size:
            return []
        try:
            truths = condition.over_columns({name: column(record, number) for name, column in self.columns.items()})
        except ConditionError:
            return None
        if not truths.any():
            return []
        held: list[int] = self.ticks[np.broadcast_to(truths, self.ticks.shape)].tolist()
        return held


def _column(name: str, ticks: Sequence[int], like: Moment) -> Column | None:
    program = like.program
    ts = np.array([program.line_at(k)[1] for k in ticks], int)
    rows = slice(None) if ts.tolist() == list(range(program.seq_length)) else ts
    if name in FORWARD_NAMES or name in BACKWARD_NAMES:
        return lambda record, number: record.array(name)[rows]
    if name in ("char", "target"):
        letters, indices = np.array(list(like.vocabulary)), "inputs" if name == "char" else "targets"
        return lambda record, number: letters[getattr(record.activations, indices)[rows]]
    if name in ("loss", "grad_norm", "learning_rate"):
        return lambda record, number: np.array([getattr(record, name)])
    if name == "t":
        return lambda record, number: ts
    if name == "epoch":
        return lambda record, number: np.array([number // program.num_batches])
    if name == "batch":
        return lambda record, number: np.array([number % program.num_batches])
    return _of_parameters(name, ticks, program)


def _of_parameters(name: str, ticks: Sequence[int], program: Program) -> Column | None:
    """Parameters before or after their update, gradients once they are complete."""
    if name == "max_weight":
        return None
    if name in parameter_names(program.config.reset):
        updated = program.tick_of(name)
        assert updated is not None
        after = np.array([k >= updated for k in ticks], int)
        return lambda record, number: np.stack((record.parameters[name], record.updated[name]))[after]
    complete = program.tick_of(name, 0) if not program.earlier else program.backward_end
    assert complete is not None
    if any(k < complete for k in ticks):
        return None

    def gradient(record: BatchRecord, number: int) -> Array:
        assert record.gradients is not None
        return record.gradients[name[1:]][np.newaxis]

    return gradient
