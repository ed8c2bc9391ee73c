"""The operands of a line at the moment of a snapshot: the matrices and numbers that its names stand for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tui_gru.debugger.derivation.evaluation import MomentNumbers
from tui_gru.debugger.program import names
from tui_gru.debugger.program.line_table import Program, ProgramLine
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.engine.compiling.update import GRADIENTS
from tui_gru.engine.data.tokens import Text
from tui_gru.engine.running.weights import Array
from tui_gru.equations.expression import Apply, Expression
from tui_gru.tui.widgets.refs import Ref, Refs, refs_of
from tui_gru.tui.widgets.written import NumberScale


def kind_of(program: Program, name: str) -> NumberScale:
    """Return the kind of a value, which decides its format: one-hot rows, numbers from 0 to 1, or signed numbers."""
    given = program.model.page.inputs.get(name)
    if given is not None and given.one_hot:
        return "onehot"
    low, high = program.ranges.get(name, (-1, 1))
    return "unit" if low >= 0 and high <= 1 else "signed"


@dataclass(frozen=True, eq=False)
class Operand:
    """A matrix of shape (rows, columns), or a number of shape ().

    `rows` and `columns` are the names of the axes: row, unit, character or timestep. `picks` has, for one-hot rows, the index of
    the 1 in each. `setting` is True for a number that was given instead of computed; it is written with the digits that were
    given. `refs` maps row and column to a reference to that number of the run.
    """

    label: str
    values: Array
    rows: str = ""
    columns: str = ""
    kind: NumberScale = "signed"
    picks: tuple[int, ...] = ()
    setting: bool = False
    refs: Refs | None = None

    @property
    def is_number(self) -> bool:
        return self.values.ndim == 0

    @property
    def T(self) -> Operand:
        refs = None if self.refs is None else lambda i, j, given=self.refs: given(j, i)
        return replace(self, label=f"{self.label}ᵀ", values=self.values.T, rows=self.columns, columns=self.rows, refs=refs)

    def only_row(self, row: int) -> Operand:
        """Return the operand with only this row."""
        refs = None if self.refs is None else lambda i, j, given=self.refs: given(i + row, j)
        return replace(self, values=self.values[row : row + 1], picks=self.picks[row : row + 1], refs=refs)


class Operands:
    """The operands of the line just executed in a snapshot."""

    def __init__(self, snapshot: Snapshot, line: ProgramLine) -> None:
        self.snapshot, self.line = snapshot, line
        self._known: dict[str, Operand] = {}
        self.numbers = MomentNumbers(snapshot.moment_read, snapshot.position.t)

    def read(self, name: str) -> Operand:
        """Return the operand that `name` stands for on the right-hand side."""
        if name not in self._known:
            self._known[name] = self._read(name)
        return self._known[name]

    def _read(self, name: str) -> Operand:
        program, snapshot = self.snapshot.program, self.snapshot
        named = program.names.get(name)
        if name == GRADIENTS:  # the norm over all parameters
            return Operand("‖dW‖ of each parameter", np.atleast_2d(self.numbers.read(name)), "", "parameter")
        if named is None:  # the number of updates
            return Operand(program.writer.name(name), np.asarray(self.numbers.read(name)), setting=True)
        if named.timed and not named.axes and not program.blocks[self.line.block].way:  # the values of all timesteps
            every = [snapshot.value(name, t) for t in range(snapshot.config.seq_length)]
            return Operand(program.writer.name(name), np.array([every]), "", "timestep", refs=lambda i, j: Ref(name, (), j))
        operand = self._operand(name, self.numbers.read(name))
        if name != self.line.target or operand.refs is None:
            return operand
        at = operand.refs  # the line replaces what it reads: m = β1⊙m + …
        return replace(operand, refs=lambda i, j: replace(at(i, j), before=True))

    def _operand(self, name: str, value: Any) -> Operand:
        program = self.snapshot.program
        values, label, refs = np.asarray(value), program.writer.name(name), refs_of(program, name)
        match program.names[name].counted:
            case ():
                return Operand(label, values, setting=program.names[name].kind is names.ValueKind.SETTING, refs=refs)
            case ("row",):
                return Operand(label, values.reshape(-1, 1), "row", refs=refs)
            case (columns,):
                return Operand(label, np.atleast_2d(values), "", columns, refs=refs)
            case (rows, columns):
                return Operand(label, values, rows, columns, kind_of(program, name), self._picks(name), refs=refs)
        raise ValueError(name)

    def _picks(self, name: str) -> tuple[int, ...]:
        if kind_of(self.snapshot.program, name) != "onehot":
            return ()
        return tuple(self.snapshot.record.ids(name)[self.snapshot.position.t].tolist())

    def recorded(self, part: Expression) -> Operand | None:
        """Return a part of the line that was recorded as a whole, such as r⊙h before the product with Uh; None if it was not."""
        program, name = self.snapshot.program, part.label
        if name not in program.factors:
            return None
        rows, columns = program.names[name].counted
        return Operand(program.writer.text(part), self.numbers.recorded(name), rows, columns, kind_of(program, name))

    @property
    def activation(self) -> Operand | None:
        """The argument of the line's function: az, ar or ah; None for other lines."""
        formula = self.line.formula
        name = formula.argument.label if isinstance(formula, Apply) else ""
        return self.read(name) if name else None

    @property
    def before(self) -> Operand | None:
        """The target of += or −= before the line was executed; None for = and for the first summand of a gradient."""
        target = self.line.target
        if self.line.op == "+=":
            sofar = self.snapshot.gradient_before(target.removeprefix("d"))
            return None if sofar is None else replace(self._operand(target, sofar), refs=None)
        if self.line.op == "-=":
            return replace(self._operand(target, self.snapshot.record.before[target]), refs=None)
        return None

    @property
    def step(self) -> Array | None:
        """The change of a parameter by an update; None for other lines."""
        if self.line.op != "-=":
            return None
        step = self.snapshot.last_step(self.line.target)
        return None if step is None else np.atleast_2d(step)

    @property
    def result(self) -> Operand:
        """The result of the line."""
        target = self.line.target
        return self._operand(target, self.snapshot.value(target))

    def given(self, row: int) -> int:
        """Return the index of the input character of this batch row; 0 if the input is no character."""
        return self._index(self.snapshot.program.input, row)

    def target(self, row: int) -> int:
        """Return the index of the target character of this batch row; 0 if the target is no character."""
        return self._index(self.snapshot.program.target, row)

    def _index(self, name: str, row: int) -> int:
        if not name or kind_of(self.snapshot.program, name) != "onehot":
            return 0
        return int(self.snapshot.record.ids(name)[self.snapshot.position.t, row])

    @property
    def vocabulary(self) -> Text:
        return self.snapshot.corpus.vocabulary
