"""Checks batches against PyTorch and against an expected output: one batch on request, or every batch while training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tui_gru import arguments
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.position import Position, batch_in_words
from tui_gru.debugger.program import Program, spoken, spoken_index
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.numbers import counted, scientific
from tui_gru.engine.source import Ability, Imported, Source
from tui_gru.engine.training import Point, Trainer
from tui_gru.engine.weights import Array
from tui_gru.equations.backward import steps_of
from tui_gru.equations.page import LIVE
from tui_gru.equations.syntax import Apply, Expression, Name, Power, Product, Quotient, Times
from tui_gru.imported.convention import MARGIN, NEAR, NEAR_MARGIN, Port, ProofResult
from tui_gru.imported.recompute import TOLERANCES, ArrayDifference, array_difference, output_name, stepwise

if TYPE_CHECKING:
    from tui_gru.engine.reference import Comparison

# ------------------------------------------------------------------------------
# The check of a batch against PyTorch. It is prepared in the session's thread and can run later in any thread.


ENTRIES, SEED = 2, 0  # entries of each array for finite differences, and the seed they are drawn with
FORWARD, AUTOGRAD, DIFFERENCES = "forward pass", "autograd", "finite differences"


@dataclass(frozen=True, eq=False)
class CheckRow:
    """The comparisons of one name: the whole array with PyTorch, and for gradients and deltas some entries with finite differences.

    `excuse` says why the name cannot agree, because the batch was changed halfway; empty otherwise.
    """

    name: str
    whole: Comparison
    slopes: Comparison | None
    excuse: str = ""

    @property
    def agrees(self) -> bool:
        return self.whole.agrees and (self.slopes is None or self.slopes.agrees)

    @property
    def wrong(self) -> bool:
        """True if it does not agree and has no excuse."""
        return not self.agrees and not self.excuse

    @property
    def worst(self) -> Comparison:
        """The comparison with the largest difference relative to rounding."""
        return max((c for c in (self.whole, self.slopes) if c is not None), key=severity)


def severity(comparison: Comparison) -> float:
    """Return the difference as a multiple of the difference that rounding explains."""
    if comparison.agrees:
        return comparison.absolute / comparison.allowed if comparison.absolute else 0.0
    return comparison.absolute / comparison.allowed if comparison.allowed and math.isfinite(comparison.absolute) else math.inf


@dataclass(frozen=True, eq=False)
class CheckResult:
    """The result for the batch of `position`, where the check was requested. Rows are gradients, then deltas, then values.

    `copied` is True if the batch does not learn, so that a copy of it ran a backward pass. `entries` of each array, drawn with
    `seed`, were checked by finite differences. `expected` is the comparison with the expected output, None if there is none.
    """

    position: Position
    program: Program
    rows: tuple[CheckRow, ...]
    copied: bool
    entries: int
    seed: int
    expected: Expected | None = None

    def __repr__(self) -> str:
        return f"<check of {batch_in_words(self.position.epoch, self.position.batch)}: {self.summary}>"

    @property
    def agrees(self) -> bool:
        return not any(row.wrong for row in self.rows)

    @cached_property
    def worst(self) -> CheckRow:
        """The row for the summary: if all agree, the one with the largest difference; otherwise the wrong one that is computed
        first, since those that read it may differ only because of it. Rows that only finite differences show come last."""
        if self.agrees:
            return max((row for row in self.rows if not row.excuse), key=lambda row: row.whole.absolute)
        lines = (line.target for block in self.program.blocks for line in block.lines)
        order = {target: i for i, target in enumerate(lines)}
        return min(
            (row for row in self.rows if row.wrong),
            key=lambda row: (row.whole.agrees, order.get(row.name, len(order)), -severity(row.worst)),
        )

    @cached_property
    def summary(self) -> str:
        """`all 42 arrays agree: the largest difference is 3.1e-8 at dUh[unit 1, unit 2]; finite differences on 2 entries, …`."""
        wrong, compared = [row for row in self.rows if row.wrong], [row for row in self.rows if not row.excuse]
        if wrong:
            at = self.worst.worst
            differ = "differ" if at.against == DIFFERENCES else "differs"
            words = (
                f"{len(wrong)} of {len(compared)} arrays do not agree, the first computed is {self.program.writer.name(at.name)}: "
            )
            words += f"{at.against} {differ} by {scientific(at.absolute)} at {self.place(at)}"
        else:
            at = self.worst.whole
            words = f"all {len(compared)} arrays agree: the largest difference is {scientific(at.absolute)} at {self.place(at)}"
        if self.entries:
            words += f"; finite differences on {counted(self.entries, 'entry')} of each, chosen with seed {self.seed}"
        return words

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on the expected output, on a copied batch and on excuses."""
        notes = [] if self.expected is None else [self.expected.sentence]
        notes += ["this batch does not learn: a copy of it was given a backward pass, the run has none"] if self.copied else []
        for reason in dict.fromkeys(row.excuse for row in self.rows if row.excuse):
            names = [self.program.writer.name(row.name) for row in self.rows if row.excuse == reason]
            listed = ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:4])} and {len(names) - 4} others"
            notes.append(f"{reason}, so {listed} cannot agree")
        return tuple(notes)

    def place(self, comparison: Comparison) -> str:
        """Return the place of the largest difference, counted from 1: `dUh[unit 1, unit 2]`, `dz[row 1, unit 1] at t 2`."""
        return place(comparison, self.program)

    def written(self, number: float) -> str:
        """Return a number of the engine with all digits of its dtype."""
        return str(np.dtype(self.program.config.dtype).type(number))


def place(comparison: Comparison, program: Program) -> str:
    """Return the same as `CheckResult.place`."""
    t, index = _split(comparison, program)
    return f"{spoken(program, comparison.name, index)}{'' if t is None else f' at t {t + 1}'}"


def entry(comparison: Comparison, program: Program) -> str:
    """Return the entry in words: `unit 1, unit 2`, or `t 2, row 1, unit 1`; empty for the loss."""
    t, index = _split(comparison, program)
    where = spoken_index(program, comparison.name, index)
    return ", ".join(filter(None, ("" if t is None else f"t {t + 1}", where)))


def _split(comparison: Comparison, program: Program) -> tuple[int | None, tuple[int, ...]]:
    """Return the timestep of an entry, None for a value of the whole batch, and its index without the timestep."""
    if program.names[comparison.name].timed:
        return comparison.index[0], comparison.index[1:]
    return None, () if comparison.name == "loss" else comparison.index


@dataclass(frozen=True, eq=False)
class Check:
    """A prepared check of one batch. It does not touch the session, so any thread can `run` it.

    `excuse` has the reason for names and references that cannot agree; `expected` compares the batch with the output that was
    expected, None if none was.
    """

    position: Position
    program: Program
    record: BatchRecord
    earlier: tuple[BatchRecord, ...]
    trainer: Trainer
    excuse: Callable[[str], str]
    expected: Expected | None

    def run(self, *, entries: int = ENTRIES, seed: int = SEED) -> CheckResult:
        """Compare everything. Imports torch. Raises `TuiGruError` if a number is not finite."""
        entries = arguments.integer("entries", entries, least=0)
        seed = arguments.integer("seed", seed, least=0)
        record, copied = self.record, not self.record.learned
        if copied:
            record = record.copy()
            self.trainer.resume(record, Point("update"), learn=True, earlier=self.earlier)
        compared = comparisons(record, self.program, self.earlier, entries=entries, seed=seed)
        slopes = {c.name: c for c in compared if c.against == DIFFERENCES}
        arrays = [c for c in compared if c.against == AUTOGRAD] + [c for c in compared if c.against == FORWARD]
        rows = [CheckRow(c.name, c, slopes.get(c.name)) for c in arrays]
        excused = tuple(row if row.agrees else replace(row, excuse=self.excuse(row.name)) for row in rows)
        return CheckResult(self.position, self.program, excused, copied, entries, seed, self.expected)


def comparisons(
    record: BatchRecord, program: Program, earlier: Sequence[BatchRecord], *, entries: int, seed: int = SEED
) -> list[Comparison]:
    """Return the comparisons of all names of the program; of a gradient that is a sum of sums, only the whole.

    Imports torch. Raises `TuiGruError` if a number is not finite.
    """
    from tui_gru.engine.reference import check_batch

    record = record.as_computed()  # a loss of another machine belongs to numbers that differ in the last digits
    return [c for c in check_batch(record, earlier=earlier, entries=entries, seed=seed) if c.name in program.names]


def prepare_check(timeline: Timeline, moment: Moment, silenced: BatchRecord | None = None) -> Check:
    """Return the check of the current batch, as of its end. `silenced` is the batch as a model with a mask computes it; its mask
    is a factor in what it is compared with, too."""
    number, begin = moment.position.number, moment.position.number * moment.program.ticks
    trainer = timeline.segment_at(moment.position.tick).trainer
    trainer = Trainer(trainer.config, trainer.corpus)  # a new one, since the check may run in another thread
    record, changes = moment.record, []
    for before, segment in pairwise(timeline.segments):
        if begin < segment.start <= moment.position.tick and segment.edited:
            offset = segment.start - begin
            if _is_after_all(offset, segment.edited, moment):
                record = before.record(number)[1]  # everything that is compared was computed before the change
                break
            changes += [(offset, name) for name in segment.edited]
    earlier = timeline.earlier(number)
    begun = begin - len(earlier) * moment.program.ticks
    changed_before = [
        name
        for segment in timeline.segments
        if begun < segment.start < begin and segment.start % moment.program.ticks
        for name in segment.edited
    ]
    excuse = _excuses(moment.program, changes, changed_before)
    expected = expected_of(record, moment.program.config.source, moment.position.batch)
    if silenced is not None:
        record, expected = silenced, None
    return Check(moment.position, moment.program, record, earlier, trainer, excuse, expected)


def _is_after_all(offset: int, edited: Sequence[str], moment: Moment) -> bool:
    """Return True if a change comes after everything in the batch that is compared, so that it concerns the next batch."""
    program = moment.program
    end = program.backward_end if moment.learned else program.loss_tick
    kinds = [program.names[name].kind for name in edited if name in program.names]
    return offset >= end and not any(kind.learned and kind.per_batch for kind in kinds)


def _excuses(program: Program, changes: Sequence[tuple[int, str]], changed_before: Sequence[str]) -> Callable[[str], str]:
    """Return a function that gives the reason why a name cannot agree in a batch that was changed at these ticks; empty if it can.

    Derivatives are computed at the stored values, so all derivatives stay comparable after a change of a value or weight; only
    values computed before the change do not follow from the current weights. After a change during the backward pass, of a value
    that the derivative of its own formula uses, or of a weight in a part without a name, derivatives are not comparable; the last
    also after a change in the middle of an earlier batch that the gradient continues into.
    """
    unnamed = _in_unnamed_parts(program)
    absorbed = (
        {name for name, named in program.names.items() if named.kind.editable and not named.kind.learned}
        - _in_own_derivative(program)
        - unnamed
    )
    spoilt = any(offset > program.loss_tick or name not in absorbed for offset, name in changes)
    reason = f"{program.writer.name(changes[0][1])} was changed in the middle of this batch" if changes else ""
    before = next((program.writer.name(name) for name in changed_before if name in unnamed), "")

    def excuse(name: str) -> str:
        derivative = program.names[name].kind.is_derivative
        if reason and (spoilt or not derivative):
            return reason
        return f"{before} was changed in the middle of an earlier batch" if before and derivative else ""

    return excuse


def _in_unnamed_parts(program: Program) -> set[str]:
    """Return the weights and states in parts without a name whose values a derivative uses: arguments of functions, factors."""
    page, names = program.model.page, set[str]()
    operations = (Apply, Times, Quotient, Power, Product)
    for step in steps_of(page.lines)[0]:
        for node in step.formula.walk():
            if isinstance(node, operations):
                names |= {name for part in node.children if part.children for name in part.names()}
    return names & {*page.parameters, *map(page.before, page.states)}


def _in_own_derivative(program: Program) -> set[str]:
    """Return the values that the derivative of their own formula uses, as in 1 − h², the derivative of h = tanh(a).

    A derived line reads them, although no formula that reads the value of the line's gradient contains them, or only as a
    function in it.
    """
    page, backward = program.model.page, program.model.backward
    formulas = [set(_names_in(line.formula)) for line in page.lines]
    functions = {node.label for line in page.lines for node in line.formula.walk() if isinstance(node, Apply)}
    values_read: set[str] = set()
    for line in (*backward.deltas, *backward.gradients):
        value, reads = line.target.removeprefix("d"), set(_names_in(line.formula))
        values_read |= reads.difference(*(names - functions for names in formulas if value in names))
    return values_read | {page.before(state) for state in page.states if state in values_read}


def _names_in(formula: Expression) -> Iterator[str]:
    """Yield the names in a formula, and the labels of its parts."""
    for node in formula.walk():
        if name := node.name if isinstance(node, Name) else node.label:
            yield name


# ------------------------------------------------------------------------------
# Checks every batch during training: which batches are checked, the results so far, and where to stop.


LOOKAHEAD = 64  # batches; a search sees up to 16 batches beyond the place it finds


@dataclass(frozen=True)
class CheckTotals:
    """The number of checked batches and their largest difference, at `place` in batch `batch` (counted through all epochs)."""

    batches: int = 0
    worst: float = 0.0
    place: str = ""
    batch: int = -1

    def with_batch(self, batch: int, worst: float, place: str) -> CheckTotals:
        if worst <= self.worst and self.place:
            return CheckTotals(self.batches + 1, self.worst, self.place, self.batch)
        return CheckTotals(self.batches + 1, worst, place, batch)


class CheckWatch:
    """Checks the batches that a run completes, up to batch `last`, for the first that does not agree with PyTorch's autograd.

    Adds its results to the totals it is given. It skips batches that do not learn, have a number that is not finite, or were
    changed halfway, and the batches in `done`, which have been checked before.
    """

    def __init__(self, timeline: Timeline, first: int, last: int | None, totals: CheckTotals, done: range = range(0)) -> None:
        self.problem, self.stopped_at = "", -1
        self._totals = totals
        self._ahead: dict[int, tuple[float, str]] = {}  # the largest difference of each of the newest batches, and where
        self._timeline, self._first, self._last, self._done = timeline, first, last, done
        self._batches_seen: set[int] = set()
        self._epoch: tuple[int, tuple[BatchRecord, ...]] = (-1, ())  # a batch, and those of its epoch up to it, the latest first

    def sees(self, batch: int, record: BatchRecord) -> bool:
        """Return True if a batch should stop the run."""
        if batch < self._first or batch in self._batches_seen or (self._last is not None and batch > self._last):
            return False
        earlier = self._earlier(batch)
        self._batches_seen.add(batch)
        if self._timeline.program.earlier:
            self._epoch = (batch, (record, *earlier))
        is_known = not self._timeline.program.config.source.can(Ability.TRAIN) or np.isfinite(record.loss)
        finite = is_known and record.learned and np.isfinite(record.own_gradients.flat).all()
        if not finite or batch in self._done or self._timeline.changed_in(batch):
            return False
        compared = comparisons(record, self._timeline.program, earlier, entries=0)
        largest = max(compared, key=lambda c: c.absolute)
        self._ahead[batch] = (largest.absolute, place(largest, self._timeline.program))
        if len(self._ahead) > LOOKAHEAD:
            oldest = min(self._ahead)
            self._totals = self._totals.with_batch(oldest, *self._ahead.pop(oldest))
        wrong = [comparison for comparison in compared if not comparison.agrees]
        if wrong:
            program, worst, self.stopped_at = self._timeline.program, max(wrong, key=severity), batch
            name = program.writer.name(worst.name)
            self.problem = (
                f"stopped: {batch_in_words(*divmod(batch, program.num_batches))} does not agree with PyTorch: {name} differs by "
                f"{scientific(worst.absolute)} at {place(worst, program)} ({worst.against})"
            )
        return bool(wrong)

    def totals(self, tick: int) -> CheckTotals:
        """Return the results for the batches completed by `tick`; a search sees some batches beyond the place it finds."""
        totals = self._totals
        for batch in sorted(self._ahead):
            if self._timeline.end_of(batch) <= tick:
                totals = totals.with_batch(batch, *self._ahead[batch])
        return totals

    def missed(self, tick: int) -> list[int]:
        """Return the batches completed by `tick` that the run did not show, for example because they were cached."""
        finished = range(self._first, tick // self._timeline.program.ticks)
        return [batch for batch in finished if batch not in self._batches_seen and batch not in self._done]

    def done(self, tick: int) -> range:
        """Return the batches that need no further check at `tick`, joined with those checked before if they are adjacent."""
        stop = self._first
        while stop in self._batches_seen and stop < tick // self._timeline.program.ticks:
            stop += 1
        if stop == self._first or not self._done:
            return range(self._first, stop) or self._done
        touch = self._first <= self._done.stop and self._done.start <= stop
        return range(min(self._first, self._done.start), max(stop, self._done.stop)) if touch else range(self._first, stop)

    def _earlier(self, batch: int) -> tuple[BatchRecord, ...]:
        """Return the records of the epoch before this batch, latest first, with carry `notebook`; otherwise empty."""
        if not self._timeline.program.earlier or batch % self._timeline.program.num_batches == 0:
            return ()
        before, epoch = self._epoch
        return epoch if before == batch - 1 else self._timeline.earlier(batch)


# ------------------------------------------------------------------------------
# Compares the output of a batch with an expected output, and how the difference grows over time.


SMALL = 1e-2
GROWN = 100.0  # rounding errors that only add up stay below it


@dataclass(frozen=True, eq=False)
class Expected:
    """`one_step` computes each output from the expected state before it, so that rounding does not accumulate; `whole` runs from
    the first state to the end. Each has both outputs, the largest difference, and that of every timestep, `over_time` (T).

    `port` returns the other conventions in which the numbers can be read, None if the cell is of no known kind; `below` what the
    last layer reads.
    """

    one_step: ArrayDifference
    whole: ArrayDifference
    tolerance: float
    port: Callable[[], Port | None] = lambda: None
    below: Callable[[], Array | None] = lambda: None

    def __repr__(self) -> str:
        return f"<comparison with the expected output: {self.sentence}>"

    @property
    def agrees(self) -> bool:
        """True if the outputs agree up to rounding, one step at a time.

        The tolerance is relative to the largest output, but at least to `SMALL`: the rounding error of 1 − z does not depend on
        h. Layers below the last have no recorded states, so what float32 rounds in them is measured against float64.
        """
        return self.result is ProofResult.EQUAL

    @cached_property
    def result(self) -> ProofResult:
        """EQUAL to rounding; NEAR: this convention, but not to rounding; or NONE: another one, or another program."""
        if self._agree_to(self.tolerance):
            return ProofResult.EQUAL
        if self.one_step.worst <= MARGIN * self._rounded and (
            self._rounded <= NEAR * self._largest or self._readings[1] >= NEAR_MARGIN * self.one_step.worst
        ):
            return ProofResult.EQUAL
        return ProofResult.NEAR if self._is_amplified or self._is_near else ProofResult.NONE

    @property
    def _largest(self) -> float:
        return max(self.one_step.largest, SMALL)

    def _agree_to(self, tolerance: float) -> bool:
        return self.one_step.worst <= tolerance * self._largest

    @cached_property
    def _port(self) -> Port | None:
        return self.port()

    @cached_property
    def _in_float64(self) -> tuple[Array, Array] | None:
        """What the last of several layers reads, and its outputs one step at a time, in float64; None if there is one layer."""
        return self._port.in_float64() if self._port is not None and self._port.is_stack else None

    @cached_property
    def _rounded(self) -> float:
        """The difference that float32 makes below the last layer, here or with other roundings, as the other program may have.

        It is 0 if there is one layer.
        """
        if self._in_float64 is None or self._port is None:
            return 0.0
        return max(float(np.abs(self.one_step.ours - self._in_float64[1]).max(initial=0)), self._port.rounded())

    @property
    def _is_amplified(self) -> bool:
        """True if the difference is that of rounding, which a layer below the last has made too large to be told from another."""
        return self._rounded > NEAR * self._largest and self.one_step.worst <= MARGIN * self._rounded

    @cached_property
    def _readings(self) -> tuple[float, float]:
        """The errors of this convention and of the next best."""
        return (np.inf, np.inf) if self._port is None else self._port.next_best()

    @property
    def _is_near(self) -> bool:
        return self._readings[0] <= NEAR * max(self._largest, 1) and self._readings[1] >= NEAR_MARGIN * self._readings[0]

    @property
    def why(self) -> str:
        """Why the output is only near the expected one."""
        if self._is_amplified:
            below, read = self.below(), self._in_float64
            assert below is not None
            assert read is not None
            factor = growth_over(np.abs(below - read[0]).max(axis=(1, 2)))
            by = f" ×{factor:.2f} a timestep" if factor > 1 else ""
            return (
                f"a layer below the last amplifies rounding{by}, and its states are not recorded, "
                "so the layers above it cannot be judged"
            )
        other = f"the next best is off by {scientific(self._readings[1])}"
        if self._in_float64 is not None:
            return f"{other}; the states below the last layer are not recorded, so what differs in them adds up"
        return f"{other}; the other program may approximate tanh and σ, as embedded C code does, or compute with fewer digits"

    @property
    def sentence(self) -> str:
        """The result in one line."""
        words = "the output is the expected one" if self.agrees else "the output is not the expected one"
        if self.result is ProofResult.NEAR:
            words = f"{self.result} ({self.why})"
        elif self.agrees and not self._agree_to(self.tolerance):
            words += f" to the rounding of stacked layers in float32, {scientific(self._rounded)}"
        elif self.agrees and not self._agree_to(TOLERANCES["float32"]):
            words += f" to {self.tolerance:g} of its largest number, the tolerance of half precision"
        worst = int(np.argmax(self.whole.over_time)) + 1 if self.whole.over_time is not None and len(self.whole.over_time) else 1
        growth = f", growing {self.growth:.2f} times a timestep" if self.growth > 1 else ""
        one_step, end_to_end = scientific(self.one_step.worst), scientific(self.whole.worst)
        return f"{words}: off by {one_step} one step at a time, by {end_to_end} from end to end (t {worst}{growth})"

    @property
    def growth(self) -> float:
        """The factor per timestep by which the difference from end to end grows up to its largest; 1 if it grows less than `GROWN`
        times.

        A GRU that separates neighbouring states amplifies rounding errors as well.
        """
        return growth_over(self.whole.over_time)

    def table(self) -> str:
        """Return a table of the largest difference at each timestep: one step at a time, and from end to end."""
        assert self.one_step.over_time is not None
        assert self.whole.over_time is not None
        pairs = zip(self.one_step.over_time, self.whole.over_time, strict=True)
        lines = [f"{t:>6}  {step:>18.1e}  {end_to_end:>14.1e}" for t, (step, end_to_end) in enumerate(pairs, 1)]
        return "\n".join((f"{'t':>6}  {'one step at a time':>18}  {'end to end':>14}", *lines))


def growth_over(over_time: Array | None) -> float:
    """Return the factor per timestep by which differences (T) grow up to the largest; 1 if they grow less than `GROWN` times."""
    nonzero = np.flatnonzero(over_time) if over_time is not None else np.empty(0)
    if over_time is None or len(nonzero) < 2 or not np.isfinite(over_time).all():
        return 1.0
    first, last = int(nonzero[0]), int(np.argmax(over_time))
    factor = float(over_time[last] / over_time[first])
    return factor ** (1 / (last - first)) if last > first and factor > GROWN else 1.0


def expected_of(record: BatchRecord, source: Source, number: int) -> Expected | None:
    """Return the comparison for a computed batch, `number` of its source; None if there is no expected output."""
    batch = source.batch(number)
    if batch is None or batch.expected is None:
        return None
    below = record.compiled.model.composed.layers[-1].reads
    live = batch.inputs.get(LIVE)
    lengths = None if live is None else live.sum(axis=0)
    dtype = str(record.compiled.dtype)
    return Expected(
        stepwise(record, batch.expected, lengths),
        array_difference("out", record.array(output_name(record)), batch.expected, timed=True),
        batch.tolerance or TOLERANCES[dtype],
        lambda: Port.of(source, number) if isinstance(source, Imported) else None,
        lambda: record.array(below),
    )
