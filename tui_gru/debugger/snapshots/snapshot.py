"""The snapshot of a session at one moment, which the screen draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tui_gru.debugger.checkpoints.divergence import MachineReport
from tui_gru.debugger.derivation.evaluation import EVERY, MomentNumbers
from tui_gru.debugger.program.line_table import Program, ProgramLine
from tui_gru.debugger.program.position import Position, position_of
from tui_gru.debugger.state.marks import Mark
from tui_gru.debugger.state.stops import LogLine, Stops, Watched
from tui_gru.debugger.timeline.branches import BranchInfo
from tui_gru.debugger.timeline.moment import Moment
from tui_gru.debugger.timeline.timeline import ScalarSeries
from tui_gru.engine.config import Config
from tui_gru.engine.data.corpus import Corpus
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.weights import Array
from tui_gru.equations.expression import unlabelled

if TYPE_CHECKING:
    from tui_gru.debugger.analysis.checks.checked_run import CheckTotals
    from tui_gru.debugger.analysis.findings.finding import Finding
    from tui_gru.debugger.analysis.flow import Flow
    from tui_gru.debugger.snapshots.differences import OtherBranch
    from tui_gru.engine.data.given import GivenCorpus
    from tui_gru.engine.running.sampling import Sample

NO_STOPS = Stops()


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One moment of a session, immutable. `value` returns None for values that are not computed yet.

    `previous` is the record of the batch before (None in the first batch, or if it cannot be read from its recording), `losses` has
    the loss of every computed batch of this branch, `learning` is True if batches learn from here on, `settings` has the settings
    of the update rule by name, `changed` has the names edited since the current line was executed, and `forks` describes all
    branches. `log` has the lines written by log points on this branch in order, `hits` the ticks of this branch at which runs have
    stopped. `other` is the compared branch, `checked` has the totals of the batch checks (None while they are disabled).
    `unrecorded` is True if the session is in memory only, although it should be recorded or the user was asked. `findings` are the
    last findings on this branch. `machine` says how far numbers are from those of the machine that recorded the run; None if it was
    this one.
    """

    config: Config
    program: Program
    corpus: Corpus | GivenCorpus
    moment: Moment
    previous: BatchRecord | None
    learning: bool
    settings: Mapping[str, float]
    losses: ScalarSeries
    newest: Position
    last: Position | None
    branch: str
    branches: tuple[str, ...]
    can_undo: bool
    can_redo: bool
    samples: tuple[Sample, ...]
    changed: frozenset[str] = frozenset()
    notice: str = ""
    forks: tuple[BranchInfo, ...] = ()
    stops: Stops = NO_STOPS
    watched: Sequence[Watched] = ()
    log: tuple[LogLine, ...] = ()
    marks: tuple[Mark, ...] = ()
    hits: tuple[int, ...] = ()
    other: OtherBranch | None = None
    checked: CheckTotals | None = None
    unrecorded: bool = False
    findings: tuple[Finding, ...] = ()
    machine: MachineReport | None = None

    def __repr__(self) -> str:
        return f"<snapshot at {self.position!r} on {self.branch}>"

    @property
    def position(self) -> Position:
        return self.moment.position

    @property
    def line(self) -> ProgramLine | None:
        """The line just executed; None at the start of the run."""
        return self.position.line

    @property
    def timestep(self) -> int | None:
        """The current timestep, 0-based; None outside the loops over t: at the start of the run, in the loss, and in the update."""
        inside = self.position.phase in ("forward", "backward") and self.line not in (*self.program.earlier, *self.program.outside)
        return self.position.t if inside else None

    @property
    def record(self) -> BatchRecord:
        return self.moment.record

    @property
    def moment_read(self) -> Moment:
        """The moment as the line just executed read it: a line of the update reads the old value of its target (m, v)."""
        if self.position.phase != "update":
            return self.moment
        return replace(self.moment, position=position_of(self.program, self.position.tick - 1))

    def value(self, name: str, t: int | None = None) -> Any:
        """Return the value of a name, as in `Moment.value`: (B, ·) of timestep `t`, a number, or None if not computed yet."""
        return self.moment.value(name, t)

    def parameter(self, name: str) -> Array:
        """Return the current value of a parameter."""
        value: Array = self.moment.value(name)
        return value

    def gradient(self, name: str) -> Array | None:
        """Return the gradient of a parameter accumulated so far in this batch; None before its first line."""
        return self.moment.gradient(name)

    def gradient_before(self, name: str) -> Array | None:
        """Return the gradient before the contribution of this timestep; None if there was none before it."""
        return self.moment.gradient_before(name)

    @property
    def tutorial_term1(self) -> Array | None:
        """Term 1 as the tutorial's code computes it, not finite where ŷ underflows to 0; None if not computed yet."""
        line = self.program.lines.get(self.program.loss_names.entry)
        value = self.value(line.target) if line is not None else None
        if value is None or line is None or line.formula is None:
            return None
        numbers = MomentNumbers(self.moment, self.position.t)
        term: Array = numbers.value(unlabelled(line.formula), (EVERY,) * np.ndim(value)).astype(self.config.dtype)
        return term

    def last_step(self, name: str) -> Array | None:
        """Return the last change of a parameter: by the update of this batch if it has reached it, else of the batch before."""
        return last_step(self.moment, self.previous, name)

    @property
    def minus(self) -> str:
        """The name of the branch whose numbers are subtracted; empty if the values are not differences."""
        return ""

    def flow(self, row: int | None = None, state: str | None = None) -> tuple[Flow | None, ...]:
        """Return the flow of the gradient of a state at each timestep, over all rows or of one; None for timesteps not reached yet.

        `state` defaults to the state of the last layer.
        """
        key = row, state or self.program.main_state
        if key not in self._flows:
            from tui_gru.debugger.analysis.flow import flow  # imported late: the first screen needs none

            self._flows[key] = flow(self.moment, key[1], row)
        return self._flows[key]

    @property
    def flowing(self) -> bool:
        """True if the backward pass of this batch has begun."""
        if not self.program.goes_back:
            return False
        delta = f"d{self.program.main_state}"
        first = 0 if self.program.way_of(delta) > 0 else self.program.seq_length - 1
        return self.moment.learned and self.moment.executed(delta, first)

    @property
    def flows_into_earlier(self) -> bool:
        """True if the gradient continues from the first timestep into earlier batches (carry `notebook`)."""
        return bool(self.program.earlier) and self.position.batch > 0

    @cached_property
    def _flows(self) -> dict[tuple[int | None, str], tuple[Flow | None, ...]]:
        return {}

    @property
    def marks_here(self) -> tuple[Mark, ...]:
        """The marks at this place."""
        return tuple(mark for mark in self.marks if (mark.branch, mark.tick) == (self.branch, self.position.tick))

    @property
    def finite(self) -> bool:
        """True if the loss, if it is computed, and all parameters are finite."""
        loss = self.value("loss")
        return (loss is None or math.isfinite(loss)) and bool(np.isfinite(self.moment.weights.parameters).all())


def last_step(moment: Moment, previous: BatchRecord | None, name: str) -> Array | None:
    """Return the last change of a parameter: by the update of this batch if it has reached it, otherwise of the batch before."""
    record, program = moment.record if name in moment.updated_names else previous, moment.program
    line = program.lines.get(name)
    if record is None or not record.learned or line is None or line.formula is None:
        return None
    formula = line.formula
    end = replace(moment, record=record, position=position_of(program, program.ticks))
    with np.errstate(all="ignore"):
        step = MomentNumbers(end, 0).value(formula, (EVERY,) * len(program.names[name].axes))
    return np.asarray(-step, program.config.dtype)
