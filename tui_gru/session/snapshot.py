"""The snapshot of a session, which the screen draws; differences to another branch; and the current line as LaTeX."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from tui_gru.debugger import state as by_branch
from tui_gru.debugger.drafts import TextDraft, can_draft, draft_of
from tui_gru.debugger.edits import TrainingSettings
from tui_gru.debugger.evaluate import EVERY, MomentNumbers
from tui_gru.debugger.history import MachineReport
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.position import Position, in_words, position_of
from tui_gru.debugger.program import CHARACTERS, COUNTERS, Program, ProgramLine, layer_at
from tui_gru.debugger.state import Mark, State
from tui_gru.debugger.stops import Breakpoint, LogLine, Watched, WatchedValues, watched_alone
from tui_gru.debugger.timeline import Branch, BranchInfo, ScalarSeries, Timeline
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.config import Config
from tui_gru.engine.data import AnyCorpus
from tui_gru.engine.numbers import same
from tui_gru.engine.source import Ability
from tui_gru.engine.weights import Array, Weights
from tui_gru.equations.page import Layer
from tui_gru.equations.syntax import Symbols, unlabelled
from tui_gru.equations.writing import Writer

if TYPE_CHECKING:
    from tui_gru.session.queries import CheckTotals, Finding, Flow, SilentUnit
    from tui_gru.session.travel import Run

# ------------------------------------------------------------------------------
# The snapshot of a session at one moment, which the screen draws.


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One moment of a session, immutable: its state, the moment, and what is known of the run there.

    `previous` is the record of the batch before (None in the first batch, or if it cannot be read from its recording), `settings`
    are those of the training from here on, `losses` has the loss of every computed batch of this branch, `changed` has the names
    edited since the current line was executed, and `forks` describes all branches. `other` is the compared branch, `checked` has
    the totals of the batch checks (None while they are disabled). `unrecorded` is True if the session is in memory only, although
    it should be recorded or the user was asked. `findings` are the last findings on this branch. `machine` says how far numbers are
    from those of the machine that recorded the run; None if it was this one. `passing` is True if a run is under way, which has
    just finished this batch; then `drawn` may be what the model writes. `silent` is the unit that the moment is computed without;
    None if it is that of the run.
    """

    state: State
    moment: Moment
    corpus: AnyCorpus
    previous: BatchRecord | None
    settings: TrainingSettings
    losses: ScalarSeries
    newest: Position
    last: Position | None
    changed: frozenset[str] = frozenset()
    notice: str = ""
    forks: tuple[BranchInfo, ...] = ()
    watched: Sequence[Watched] = ()
    other: OtherBranch | None = None
    checked: CheckTotals | None = None
    unrecorded: bool = False
    findings: tuple[Finding, ...] = ()
    machine: MachineReport | None = None
    passing: bool = False
    silent: SilentUnit | None = None
    drawn: TextDraft | None = None

    @classmethod
    def of(cls, run: Run, findings: tuple[Finding, ...]) -> Snapshot:
        """Return the snapshot of the moment of a run."""
        state, timeline, compared = run.state, run.timeline, run.state.comparing
        return cls._of(
            run,
            state,
            run.moment,
            findings,
            previous=timeline.previous(run.position.number),
            changed=timeline.changed_at(state.tick),
            notice="" if run.notice is None else run.notice.text,
            other=None if compared is None else OtherBranch.at(state.tick, compared, state.branches.named[compared], timeline),
            watched=run.watched(),
            checked=run.checks.totals,
        )

    @classmethod
    def of_passing(cls, run: Run, findings: tuple[Finding, ...]) -> Snapshot | None:
        """Return the snapshot of the batch that a run has just finished, without what is known of it only when the run has ended:
        the other branch, the totals of checks. None if there is none, or if the batch is before the position: it is replayed.

        It holds the record, which the run would use again; of a large one it has the results only (`has_arrays`).
        """
        state, timeline = run.state, run.timeline
        if run.passing is None or (tick := timeline.end_of(run.passing[0])) <= state.tick:
            return None
        record = run.passing[1]
        if timeline.memory.large:
            weights = record.before
            record = record.part((), Weights(weights.layout, np.empty(0, weights.flat.dtype), weights.updates))
        moment = Moment(run.program, timeline.position(tick), record, state.config.vocabulary)
        watches, stops = state.stops.watches, run.stops
        watched = WatchedValues(watches, lambda watch: watched_alone(stops.resolved(watch), moment), RLock())
        state = state.replaced(tick=tick, branches=state.branches.reached(tick))
        return cls._of(run, state, moment, findings, previous=None, watched=watched, passing=True)

    def without(self, silent: SilentUnit, moment: Moment, run: Run) -> Snapshot:
        """Return the snapshot with the moment that is computed without a unit."""
        resolved = run.stops.resolved
        watched = WatchedValues(self.state.stops.watches, lambda watch: watched_alone(resolved(watch), moment), RLock())
        return replace(self, moment=moment, watched=watched, silent=silent)

    @classmethod
    def _of(cls, run: Run, state: State, moment: Moment, findings: tuple[Finding, ...], **more: Any) -> Snapshot:
        timeline, source, branches = run.timeline, state.config.source, state.branches
        trains = source.can(Ability.TRAIN)
        segment = timeline.segment_at(state.tick)
        count = run.program.last_loss(branches.newest) + 1  # the number of batches, from the first on, whose loss is known
        if source.numbers is not None or not source.can(Ability.LOSS):
            count = state.config.num_batches if source.can(Ability.LOSS) else 0
        return cls(
            state=state,
            moment=moment,
            corpus=segment.trainer.corpus,
            settings=segment.settings,
            losses=ScalarSeries(timeline, "loss", count),
            newest=timeline.position(branches.newest) if trains or run.end is None else run.end,
            last=run.end,
            forks=run.tree.of(branches),
            unrecorded=run.recorder.unrecorded or run.recorder.undecided,
            findings=findings,
            machine=timeline.report,
            **more,
        )

    def __repr__(self) -> str:
        return f"<snapshot at {self.position!r} on {self.state.branch}>"

    @cached_property  # panels read it hundreds of times in a step
    def config(self) -> Config:
        return self.state.config

    @cached_property
    def program(self) -> Program:
        return self.moment.program

    @cached_property
    def log(self) -> tuple[LogLine, ...]:
        """The lines that log points have written on this branch, in order."""
        return by_branch.log_here(self.state)

    @cached_property
    def hits(self) -> tuple[int, ...]:
        """The ticks of this branch at which runs have stopped."""
        return by_branch.hits_here(self.state)

    @cached_property
    def drafts(self) -> tuple[TextDraft, ...]:
        """What the model of this branch has written after some of the batches up to here, in order."""
        return by_branch.drafts_here(self.state)

    @cached_property
    def draft(self) -> TextDraft | None:
        """What the model writes with the weights of this moment: drawn when it is first read, except while a run is under way.

        None within a batch, while the run has not drawn it, and if the model cannot write.
        """
        tick = self.state.tick
        stored = next((draft for draft in self.drafts if draft.tick == tick), self.drawn)
        if stored is not None or self.passing:
            return stored
        return self._written() if tick % self.program.ticks == 0 else None

    def with_draft(self) -> Snapshot:
        """Return the snapshot with what the model writes now."""
        return self if self.draft is not None else replace(self, drawn=self._written())

    def _written(self) -> TextDraft | None:
        if not (can_draft(self.config) and self.has_arrays):
            return None
        return draft_of(self.config, self.corpus.text, self.moment.weights, self.state.tick)

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
        inside = self.position.phase in ("forward", "backward") and self.line not in (*self.program.earlier, *self.program.upstream)
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
        value: Array = self.value(name)
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
        line = self.program.lines.get(self.program.loss_names.entry) if self.program.model.is_cross_entropy else None
        value = self.value(line.target) if line is not None else None
        if value is None or line is None or line.formula is None:
            return None
        numbers = MomentNumbers(self.moment, self.position.t)
        term: Array = numbers.value(unlabelled(line.formula), (EVERY,) * np.ndim(value)).astype(self.config.dtype)
        return term

    def last_step(self, name: str) -> Array | None:
        """Return the last change of a parameter: by the update of this batch if it has reached it, else of the batch before."""
        if name not in self._steps:
            self._steps[name] = last_step(self.moment, self.previous, name)
        return self._steps[name]

    @property
    def has_arrays(self) -> bool:
        """True if values and weights can be read, not only the results of the batch: loss, norm, largest weight."""
        return bool(self.record.block.size)

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
            from tui_gru.session.queries import flow_of_moment

            self._flows[key] = flow_of_moment(self.moment, key[1], row)
        return self._flows[key]

    @property
    def flowing(self) -> bool:
        """True if the backward pass of this batch has begun."""
        if not self.program.goes_back:
            return False
        delta = f"d{self.program.main_state}"
        first = 0 if self.program.direction_of(delta) > 0 else self.program.seq_length - 1
        return self.moment.learned and self.moment.executed(delta, first)

    @property
    def flows_into_earlier(self) -> bool:
        """True if the gradient continues from the first timestep into earlier batches (carry `notebook`)."""
        return bool(self.program.earlier) and self.position.batch > 0

    @cached_property
    def _flows(self) -> dict[tuple[int | None, str], tuple[Flow | None, ...]]:
        return {}

    @cached_property
    def _steps(self) -> dict[str, Array | None]:
        return {}

    def stops_on(self, line: ProgramLine) -> tuple[Breakpoint, ...]:
        """Return the breakpoints and log points of a line."""
        return tuple(stop for stop in self.state.stops.breakpoints if stop.line == line.target)

    @property
    def marks_here(self) -> tuple[Mark, ...]:
        """The marks at this place."""
        return tuple(
            mark for mark in self.state.marks.sorted if (mark.branch, mark.tick) == (self.state.branch, self.position.tick)
        )

    @property
    def texts_here(self) -> list[str]:
        """The texts of the marks at this place, each after its letter."""
        return [f"{mark.letter}: {mark.on_one_line}" for mark in self.marks_here if mark.text]

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


class RunPace(NamedTuple):
    """How many batches a run has done, in how many seconds."""

    batches: int
    seconds: float


@dataclass(frozen=True)
class View:
    """The view of a snapshot: what the user has singled out. It has no effect on the training.

    `row` is the batch row singled out, 0-based, None for none. `layer` is the layer shown by panels of one layer, counted through
    all directions; None is that of the current line. With `differences`, in a comparison of branches, matrices show this branch
    minus the other instead of the values of this branch. With `live`, what the model writes and how far the run has come are shown
    in the place of the current line and the listing; `pace` is that of the run under way, or of the last one.
    """

    row: int | None = None
    layer: int | None = None
    differences: bool = True
    live: bool = False
    pace: RunPace | None = None

    def layer_of(self, snapshot: Snapshot) -> Layer:
        """Return the layer that is shown, by default the layer of the current line."""
        program = snapshot.program
        if self.layer is not None and self.layer < len(program.layers):
            return program.layers[self.layer]
        return layer_at(program, snapshot.line)


# ------------------------------------------------------------------------------
# The branch that this one is compared with, and a snapshot of the differences between both.


@dataclass(frozen=True, eq=False)
class OtherBranch:
    """Another branch: its name, its moment at the same tick, and the losses of its computed batches.

    `moment` is None if the branch has not reached the tick; if it does not execute the line at the tick, it is the moment before.
    `previous` is the record of the batch before on that branch, `parted` the last tick that both branches share.
    """

    name: str
    moment: Moment | None
    previous: BatchRecord | None
    losses: ScalarSeries
    parted: int = 0

    @classmethod
    def at(cls, tick: int, name: str, branch: Branch, mine: Timeline) -> OtherBranch:
        """Return the branch `name` at a tick; `mine` is the timeline of the branch that it is compared with."""
        timeline = branch.timeline
        losses = ScalarSeries(timeline, "loss", timeline.program.last_loss(branch.newest) + 1)
        parted = timeline.parted(mine)
        if tick > branch.newest:
            return cls(name, None, None, losses, parted)
        moment = timeline.moment(timeline.place(tick))
        return cls(name, moment, timeline.previous(moment.position.number), losses, parted)


_NOT_NUMBERS = (*CHARACTERS, *COUNTERS)


def differences(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot of the differences from the compared branch; the snapshot itself if there is none."""
    if snapshot.other is None:
        return snapshot
    return Differences(**{field.name: getattr(snapshot, field.name) for field in fields(Snapshot)})


def difference(mine: Any, theirs: Any) -> Any:
    """Return mine − theirs of two arrays or two numbers, in float64; None if one of them is None.

    It is 0 exactly where the two are equal or both NaN; different numbers never give 0. Differences of float32 values are exact
    unless one is more than 2^29 times as large as the other; differences of float64 values are rounded once.
    """
    if mine is None or theirs is None:
        return None
    a, b = np.asarray(mine, np.float64), np.asarray(theirs, np.float64)
    with np.errstate(all="ignore"):
        result = np.where(same(a, b), 0.0, a - b)
    return result if result.ndim else float(result)


class Differences(Snapshot):
    """A snapshot whose values are differences. A value is None if it is not computed yet on one of the branches."""

    @property
    def minus(self) -> str:
        assert self.other is not None
        return self.other.name

    def value(self, name: str, t: int | None = None) -> Any:
        mine = super().value(name, t)
        if name in _NOT_NUMBERS:
            return mine
        return self._difference(mine, lambda moment: moment.value(name, self.position.t if t is None else t))

    def gradient(self, name: str) -> Array | None:
        shown: Array | None = self._difference(super().gradient(name), lambda moment: moment.gradient(name))
        return shown

    def gradient_before(self, name: str) -> Array | None:
        shown: Array | None = self._difference(super().gradient_before(name), lambda moment: moment.gradient_before(name))
        return shown

    def last_step(self, name: str) -> Array | None:
        other = self.other
        assert other is not None
        previous = other.previous
        shown: Array | None = self._difference(super().last_step(name), lambda moment: last_step(moment, previous, name))
        return shown

    @property
    def tutorial_term1(self) -> None:
        """None: where term 1 of the tutorial's code matters, it is not finite and has no difference."""

    def _difference(self, mine: Any, theirs: Any) -> Any:
        assert self.other is not None
        moment = self.other.moment
        return None if moment is None else difference(mine, theirs(moment))


# ------------------------------------------------------------------------------
# Writes the current line as LaTeX, with a matrix in place of every name, and single values.


T = TypeVar("T")
MOST_LATEX_ENTRIES = 12  # rows and columns of a matrix that are written, followed by dots if there are more
LATEX_DIGITS = 4


def line_latex(snapshot: Snapshot) -> str | None:
    """Return the line just executed as an align*: its formula, then the formula with numbers. None if it has no formula."""
    line = snapshot.line
    if line is None or line.formula is None:
        return None
    with_numbers = Writer(_Numbers(snapshot)).latex(line.formula)
    rows = [
        rf"  {line.latex.replace('=', '&=', 1)} \\",
        rf"  {_matrix(snapshot.value(line.target))} &= {_before(snapshot, line)}{with_numbers}",
    ]
    return _aligned(snapshot, rows)


class _Numbers(Symbols):
    """Writes a matrix of numbers in place of every name."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self._snapshot = snapshot

    def latex(self, name: str) -> str:
        return _matrix(_read(self._snapshot, name))


def values_latex(snapshot: Snapshot, values: Iterable[tuple[str, Any]]) -> str:
    """Return an align* of values, given as pairs of a LaTeX name and an array."""
    return _aligned(snapshot, [" \\\\\n".join(rf"  {name} &= {_matrix(value)}" for name, value in values)])


def _aligned(snapshot: Snapshot, rows: list[str]) -> str:
    p = snapshot.position
    place = f"% {in_words(p.epoch, p.batch, p.t, step=p.step)}"
    return "\n".join([place, r"\begin{align*}", *rows, r"\end{align*}"]) + "\n"


def _before(snapshot: Snapshot, line: ProgramLine) -> str:
    """Return the old value of the target of += or −= with the operator.

    Empty for =, and before the first contribution to a gradient.
    """
    if line.op == "-=":
        return f"{_matrix(snapshot.record.before[line.target])} - "
    before = snapshot.gradient_before(line.target.removeprefix("d")) if line.op == "+=" else None
    return "" if before is None else f"{_matrix(before)} + "


def _read(snapshot: Snapshot, name: str) -> Any:
    """Return the value of a name as the line just executed reads it."""
    program, line = snapshot.program, snapshot.line
    named = program.names.get(name)
    if (
        named is not None and named.timed and line is not None and program.blocks[line.block].direction == 0
    ):  # a value of every timestep
        return [[snapshot.value(name, t) for t in range(snapshot.config.seq_length)]]
    return MomentNumbers(snapshot.moment_read, snapshot.position.t).read(name)


def _matrix(value: Any) -> str:
    if np.ndim(value) == 0:
        digits, _, exponent = f"{float(value):.{LATEX_DIGITS + 2}g}".partition("e")
        return rf"{digits} \cdot 10^{{{int(exponent)}}}" if exponent else digits
    array = np.atleast_2d(np.asarray(value))
    places = _decimals(array)
    rows = [_elided([f"{x:z.{places}f}" for x in row], r"\cdots") for row in array]
    rows = _elided(rows, [r"\vdots"] * len(rows[0]))
    return r"\begin{pmatrix} " + r" \\ ".join(" & ".join(row) for row in rows) + r" \end{pmatrix}"


def _decimals(array: Any) -> int:
    """Return the number of decimal places that gives the largest entry `LATEX_DIGITS` significant digits; used for all entries."""
    largest = float(np.abs(array[np.isfinite(array)]).max(initial=0.0))
    return LATEX_DIGITS if largest == 0 else max(LATEX_DIGITS, LATEX_DIGITS - 1 - math.floor(math.log10(largest)))


def _elided(entries: list[T], dots: T) -> list[T]:
    return entries if len(entries) <= MOST_LATEX_ENTRIES else [*entries[: MOST_LATEX_ENTRIES - 1], dots]
