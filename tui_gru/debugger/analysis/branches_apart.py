"""Compares two branches of a run: their first difference, and the differences of their losses and samples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tui_gru.debugger.checkpoints.scalars import COLUMNS
from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.names import ValueKind
from tui_gru.debugger.timeline.changes import offset_of
from tui_gru.debugger.timeline.moment import Moment
from tui_gru.debugger.timeline.recorded import computed_in_order, largest_difference, recorded
from tui_gru.debugger.timeline.segment import Monitor
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine.data.tokens import Text, as_text
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.numbers import same
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.weights import Array

#: Characters of the samples that are compared, and of the text that they begin with.
SAMPLED, PRIMER = 12, 2


@dataclass(frozen=True)
class DifferingEntry:
    """An array that differs, and its entry with the largest difference: `mine` on this branch, `theirs` on the other.

    `name` is the array at timestep `t` (0-based; None for a value of the whole batch); `entries` of its entries differ. `tick` is
    where it exists.
    """

    name: str
    t: int | None
    index: tuple[int, ...]
    mine: float
    theirs: float
    entries: int
    tick: int


@dataclass(frozen=True)
class First:
    """The first difference of two branches, in the batch `batch` (0-based, over the run).

    `found` is the first difference in its initial values or inputs, `computed` the first one in a computed value; None if there
    is none. `learns` is `mine` or `theirs` if only that branch learns in this batch and nothing before differs; otherwise empty.
    """

    batch: int
    found: DifferingEntry | None
    computed: DifferingEntry | None
    learns: str = ""

    @property
    def entry(self) -> DifferingEntry | None:
        """The earlier one of both."""
        return self.found or self.computed


@dataclass(frozen=True)
class BatchLosses:
    """The losses of one batch (0-based, over the run) on both branches, in nats."""

    batch: int
    mine: float
    theirs: float

    @property
    def apart(self) -> float:
        return self.mine - self.theirs


@dataclass(frozen=True)
class BranchSamples:
    """Samples of both branches after the same characters, with the most likely character each time."""

    primer: Text
    mine: Text
    theirs: Text

    @property
    def first(self) -> int | None:
        """The first character (0-based, after the primer) that differs; None if all are equal."""
        pairs = zip(self.mine, self.theirs, strict=True)
        return next((i for i, (one, other) in enumerate(pairs) if one != other), None)

    @property
    def count(self) -> int:
        """The number of characters that differ."""
        return sum(one != other for one, other in zip(self.mine, self.theirs, strict=True))


@dataclass(frozen=True)
class BranchComparison:
    """The comparison of the branch `name` with the branch `other`. `parted` is the tick up to which they are equal.

    `first` is None if there is no difference in the batches that both have computed; `here` and `furthest` are None if no batch
    has a loss on both; `samples` is None if the model cannot be sampled. `reached` is True if the other branch has reached this
    moment.
    """

    name: str
    other: str
    parted: int
    first: First | None
    here: BatchLosses | None
    furthest: BatchLosses | None
    samples: BranchSamples | None
    reached: bool = True

    def __repr__(self) -> str:
        return f"<{self.name} and {self.other}, equal up to tick {self.parted}{'' if self.first else ' and after it'}>"


def first_difference(mine: Timeline, theirs: Timeline, upto: int, monitor: Monitor | None = None) -> First | None:
    """Return the first difference of two timelines of a session up to the tick `upto`, which both have reached, or None.

    `monitor` sees batches that are replayed, and may raise an error.
    """
    parted = mine.parted(theirs)
    if parted > upto:
        return None
    program, last = mine.program, max(upto - 1, 0) // mine.program.ticks
    for batch in _batches(mine, theirs, min(parted // program.ticks, last), last):
        records = (timeline.record(batch, monitor) for timeline in (mine, theirs))
        found = _in_batch(program, batch, *records)
        if found is not None:
            return found if found.entry is None or found.entry.tick <= upto else None
    return None


def losses_apart(mine: Timeline, theirs: Timeline, first: int, last: int) -> BatchLosses | None:
    """Return the batch of `first` … `last` with the largest difference of losses. None if there is no batch.

    If only one of the losses of a batch is NaN, the first such batch is returned.
    """
    furthest: BatchLosses | None = None
    for low, high in mine.blocks(first, last):
        one, other = (timeline.column("loss", low, high) for timeline in (mine, theirs))
        count = min(len(one), len(other))
        if not count:
            break
        with np.errstate(invalid="ignore"):
            apart = np.abs(one[:count] - other[:count])
        broken = np.isnan(apart) & ~same(one[:count], other[:count])
        apart = np.where(broken, np.inf, np.nan_to_num(apart, nan=0.0, posinf=np.inf))
        at = int(np.argmax(apart))
        if furthest is None or apart[at] > abs(furthest.apart):
            furthest = BatchLosses(low + at, float(one[at]), float(other[at]))
        if math.isinf(apart[at]):
            break
    return furthest


def samples_apart(mine: Moment, theirs: Moment) -> BranchSamples | None:
    """Return samples of both branches after the start of the text, with the most likely characters.

    None if the model cannot be sampled.
    """
    from tui_gru.engine.running.sampling import sample  # imported late: compiles a model of one row

    config = mine.program.config
    primer = config.text[:PRIMER]
    try:
        one, other = (sample(config, moment.weights, config.as_string(primer), SAMPLED, temperature=0) for moment in (mine, theirs))
    except TuiGruError:
        return None
    return BranchSamples(primer, *(as_text((draw.char for draw in each.draws), primer) for each in (one, other)))


def _batches(mine: Timeline, theirs: Timeline, first: int, last: int) -> Iterator[int]:
    """Yield candidates for the batch of the first difference: `first`, and those around the first difference of a scalar."""
    yield first
    for low, high in mine.blocks(first, last):
        for name in COLUMNS:
            one, other = (timeline.column(name, low, high) for timeline in (mine, theirs))
            count = min(len(one), len(other))
            differs = np.flatnonzero(~same(one[:count], other[:count]))
            if len(differs):
                batch = low + int(differs[0])
                yield from (each for each in (batch - 1, batch) if each > first)
                return


def _in_batch(program: Program, batch: int, mine: BatchRecord, theirs: BatchRecord) -> First | None:
    """Return the first differences in a batch: in its initial values or inputs, and in its computed values."""
    begin = batch * program.ticks
    found: DifferingEntry | None = None
    for name in program.names_of(ValueKind.PARAMETER, ValueKind.OPTIMIZER_STATE):
        entry = _entry(name, None, mine.before[name], theirs.before[name], begin)
        found = found or entry
    for name, t in computed_in_order(program, learned=mine.learned and theirs.learned):
        given = name in program.model.page.inputs or name not in {*program.lines, *program.parts}
        if given and found is not None:
            continue
        one, other = (recorded(program, record, name, t) for record in (mine, theirs))
        entry = _entry(name, t, np.asarray(one), np.asarray(other), begin + _offset(program, name, t))
        if entry is None:
            continue
        if not given:
            return First(batch, found, entry)
        found = entry
    learns = "" if mine.learned == theirs.learned else "mine" if mine.learned else "theirs"
    return First(batch, found, None, learns) if found is not None or learns else None


def _offset(program: Program, name: str, t: int | None) -> int:
    """Return the tick within a batch from which on a value exists."""
    if program.names[name].kind is ValueKind.GRADIENT:
        return offset_of(program, name, None)
    return program.there_at(name, t) or 0


def _entry(name: str, t: int | None, mine: Array, theirs: Array, tick: int) -> DifferingEntry | None:
    found = largest_difference(mine, theirs)
    if found is None:
        return None
    index, entries = found
    return DifferingEntry(name, t, index, float(mine[index]), float(theirs[index]), entries, tick)
