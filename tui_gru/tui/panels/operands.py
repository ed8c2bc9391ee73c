"""What the names in a line stand for at the moment of a snapshot: the matrices and numbers it is written out with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tui_gru.debugger.evaluation import Numbers
from tui_gru.debugger.formula import Apply, Formula, screen_name
from tui_gru.debugger.naming import axes_of
from tui_gru.debugger.program import Line
from tui_gru.debugger.snapshot import Snapshot
from tui_gru.engine.parameters import Array
from tui_gru.tui.widgets.refs import Ref, Refs, refs_of
from tui_gru.tui.widgets.written import Kind

_KINDS: dict[str, Kind] = {"x": "onehot", "y": "onehot", "z": "unit", "r": "unit", "y_hat": "unit", "one_minus_z": "unit"}


@dataclass(frozen=True, eq=False)
class Operand:
    """One matrix (rows, columns), or one number (). `rows` and `columns` say what these count: row, unit, character or timestep.

    `picks` is, for one-hot rows, the index of the 1 in each. A `setting` is a number that was given, not computed: it is written
    with the digits it has. `refs`: which number of the run each entry is.
    """

    label: str
    values: Array
    rows: str = ""
    columns: str = ""
    kind: Kind = "signed"
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
        """One of its rows alone."""
        refs = None if self.refs is None else lambda i, j, given=self.refs: given(i + row, j)
        return replace(self, values=self.values[row : row + 1], picks=self.picks[row : row + 1], refs=refs)


class Operands:
    """The operands of the line just executed in a snapshot."""

    def __init__(self, snapshot: Snapshot, line: Line) -> None:
        self.snapshot, self.line = snapshot, line
        self._known: dict[str, Operand] = {}
        self.numbers = Numbers(snapshot.moment, snapshot.position.t)

    def read(self, name: str) -> Operand:
        """What `name` stands for on the right-hand side."""
        if name not in self._known:
            self._known[name] = self._read(name)
        return self._known[name]

    def _read(self, name: str) -> Operand:
        if name == "term3":  # the loss is taken over those of all timesteps
            every = [self.snapshot.value(name, t) for t in range(self.snapshot.config.seq_length)]
            return Operand(screen_name(name), np.array([every]), "", "timestep", refs=lambda i, j: Ref("term3", (), j))
        return self._operand(name, self.snapshot.value(name))

    def _operand(self, name: str, value: Any) -> Operand:
        values, label, axes, refs = np.asarray(value), screen_name(name), axes_of(name), refs_of(name)
        match axes:
            case ():
                return Operand(label, values, setting=name == "learning_rate", refs=refs)
            case ("row",):
                return Operand(label, values.reshape(-1, 1), "row", refs=refs)
            case (columns,):
                return Operand(label, np.atleast_2d(values), "", columns, refs=refs)
            case (rows, columns):
                return Operand(label, values, rows, columns, _KINDS.get(name, "signed"), self._picks(name), refs=refs)
        raise ValueError(name)

    def _picks(self, name: str) -> tuple[int, ...]:
        if name not in ("x", "y"):
            return ()
        index = self.given if name == "x" else self.target
        return tuple(index(row) for row in range(self.snapshot.config.batch_size))

    def recorded(self, part: Formula) -> Operand | None:
        """A part of the line that was recorded as a whole, such as r⊙h before the product with Uh."""
        name = self.snapshot.program.factors.get(part)
        if name is None:
            return None
        values = self.snapshot.record.array(name)[self.snapshot.position.t]
        rows, columns = axes_of(name)
        return Operand(part.text, values, rows, columns, _KINDS.get(name, "signed"))

    @property
    def activation(self) -> Operand | None:
        """What the line's function was applied to: az, ar or ah; None for other lines."""
        formula = self.line.formula
        name = self.snapshot.program.parts.get(formula.argument) if isinstance(formula, Apply) else None
        return None if name is None else self.read(name)

    @property
    def before(self) -> Operand | None:
        """What the target of += or −= was before; None for the first share of a gradient, and for =."""
        target = self.line.target
        if self.line.op == "+=":
            sofar = self.snapshot.gradient_before(target.removeprefix("d"))
            return None if sofar is None else replace(self._operand(target, sofar), refs=None)
        if self.line.op == "-=":
            return replace(self._operand(target, self.snapshot.record.parameters[target]), refs=None)
        return None

    @property
    def step(self) -> Array | None:
        """What an update has added to its parameter; None for other lines."""
        if self.line.op != "-=":
            return None
        step = self.snapshot.last_step(self.line.target)
        return None if step is None else np.atleast_2d(step)

    @property
    def result(self) -> Operand:
        """What the line has computed."""
        target = self.line.target
        return self._operand(target, self.snapshot.value(target))

    def number(self, written: str) -> str:
        """A constant as a number: the sizes of the model in place of their letters."""
        config = self.snapshot.config
        return str(config.batch_size * config.seq_length) if written == "(B·T)" else written

    def given(self, row: int) -> int:
        """The index of the character that is the input of this batch row."""
        return int(self.snapshot.record.activations.inputs[self.snapshot.position.t, row])

    def target(self, row: int) -> int:
        """The index of the character that this batch row is to predict."""
        return int(self.snapshot.record.activations.targets[self.snapshot.position.t, row])

    @property
    def vocabulary(self) -> str:
        return self.snapshot.corpus.vocabulary
