"""The check of a batch against PyTorch. It is prepared in the session's thread and can run later in any thread."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.names import ValueKind
from tui_gru.debugger.program.naming import spoken, spoken_index
from tui_gru.debugger.program.position import Position, batch_in_words
from tui_gru.debugger.timeline.moment import Moment
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine import arguments
from tui_gru.engine.numbers import scientific
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.computing import Point
from tui_gru.engine.running.trainer import Trainer
from tui_gru.equations.backward import steps_of
from tui_gru.equations.expression import Apply, Expression, Name, Power, Product, Quotient, Times

if TYPE_CHECKING:
    from tui_gru.engine.reference.torch_reference import Comparison

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
    return comparison.absolute / comparison.allowed if math.isfinite(comparison.absolute) else math.inf


@dataclass(frozen=True, eq=False)
class CheckResult:
    """The result for the batch of `position`, where the check was requested. Rows are gradients, then deltas, then values.

    `copied` is True if the batch does not learn, so that a copy of it ran a backward pass. `entries` of each array, drawn with
    `seed`, were checked by finite differences.
    """

    position: Position
    program: Program
    rows: tuple[CheckRow, ...]
    copied: bool
    entries: int
    seed: int

    def __repr__(self) -> str:
        return f"<check of {batch_in_words(self.position.epoch, self.position.batch)}: {self.summary}>"

    @property
    def agrees(self) -> bool:
        return not any(row.wrong for row in self.rows)

    @cached_property
    def worst(self) -> CheckRow:
        """The row for the summary: the one furthest beyond rounding, or, if all agree, the one with the largest difference."""
        compared = [row for row in self.rows if not row.excuse]
        if self.agrees:
            return max(compared, key=lambda row: row.whole.absolute)
        return max(compared, key=lambda row: (row.wrong, severity(row.worst)))

    @cached_property
    def summary(self) -> str:
        """`all 42 arrays agree: the largest difference is 3.1e-8 at dUh[unit 1, unit 2]; finite differences on 2 entries, …`."""
        wrong, compared = [row for row in self.rows if row.wrong], [row for row in self.rows if not row.excuse]
        if wrong:
            at = self.worst.worst
            differ = "differ" if at.against == DIFFERENCES else "differs"
            words = f"{len(wrong)} of {len(compared)} arrays do not agree, least of all {self.program.writer.name(at.name)}: "
            words += f"{at.against} {differ} by {scientific(at.absolute)} at {self.place(at)}"
        else:
            at = self.worst.whole
            words = f"all {len(compared)} arrays agree: the largest difference is {scientific(at.absolute)} at {self.place(at)}"
        if self.entries:
            sample = "1 entry" if self.entries == 1 else f"{self.entries} entries"
            words += f"; finite differences on {sample} of each, chosen with seed {self.seed}"
        return words

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on a copied batch and on excuses."""
        notes = ["this batch does not learn: a copy of it was given a backward pass, the run has none"] if self.copied else []
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
    """Return the same as `Report.place`."""
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

    `excuse` has the reason for names and references that cannot agree.
    """

    position: Position
    program: Program
    record: BatchRecord
    earlier: tuple[BatchRecord, ...]
    trainer: Trainer
    excuse: Callable[[str], str]

    def run(self, *, entries: int = ENTRIES, seed: int = SEED) -> CheckResult:
        """Compare everything. Imports torch. Raises `TuiGruError` if a number is not finite."""
        entries = arguments.whole("entries", entries, least=0)
        seed = arguments.whole("seed", seed, least=0)
        record, copied = self.record, not self.record.learned
        if copied:
            record = record.copy()
            self.trainer.resume(record, Point("update"), learn=True, earlier=self.earlier)
        found = compared(record, self.program, self.earlier, entries=entries, seed=seed)
        slopes = {c.name: c for c in found if c.against == DIFFERENCES}
        whole = [c for c in found if c.against == AUTOGRAD] + [c for c in found if c.against == FORWARD]
        rows = [CheckRow(c.name, c, slopes.get(c.name)) for c in whole]
        excused = tuple(row if row.agrees else replace(row, excuse=self.excuse(row.name)) for row in rows)
        return CheckResult(self.position, self.program, excused, copied, entries, seed)


def compared(
    record: BatchRecord, program: Program, earlier: Sequence[BatchRecord], *, entries: int, seed: int = SEED
) -> list[Comparison]:
    """Return the comparisons of all names of the program; of a gradient that is a sum of sums, only the whole.

    Imports torch. Raises `TuiGruError` if a number is not finite.
    """
    from tui_gru.engine.reference.torch_reference import check_batch

    record = record.as_computed()  # a loss of another machine belongs to numbers that differ in the last digits
    return [c for c in check_batch(record, earlier=earlier, entries=entries, seed=seed) if c.name in program.names]


def prepare_check(timeline: Timeline, here: Moment) -> Check:
    """Return the check of the current batch, as of its end."""
    number, begin = here.position.number, here.position.number * here.program.ticks
    trainer = timeline.segment_at(here.position.tick).trainer
    trainer = Trainer(trainer.config, trainer.corpus)  # a new one, since the check may run in another thread
    record, changes = here.record, []
    for before, segment in pairwise(timeline.segments):
        if begin < segment.start <= here.position.tick and segment.edited:
            offset = segment.start - begin
            if _is_after_all(offset, segment.edited, here):
                record = before.record(number)[1]  # everything that is compared was computed before the change
                break
            changes += [(offset, name) for name in segment.edited]
    earlier = timeline.earlier(number)
    begun = begin - len(earlier) * here.program.ticks
    changed_before = [
        name
        for segment in timeline.segments
        if begun < segment.start < begin and segment.start % here.program.ticks
        for name in segment.edited
    ]
    return Check(here.position, here.program, record, earlier, trainer, _excuses(here.program, changes, changed_before))


def _is_after_all(offset: int, edited: Sequence[str], here: Moment) -> bool:
    """Return True if a change comes after everything in the batch that is compared, so that it concerns the next batch."""
    program = here.program
    end = program.backward_end if here.learned else program.loss_tick
    return offset >= end and not set(edited) & set(program.names_of(ValueKind.GRADIENT, ValueKind.UPDATE_VALUE))


def _excuses(program: Program, changes: Sequence[tuple[int, str]], changed_before: Sequence[str]) -> Callable[[str], str]:
    """Return a function that gives the reason why a name cannot agree in a batch that was changed at these ticks; empty if it can.

    Derivatives are computed at the stored values, so all derivatives stay comparable after a change of a value or weight; only
    values computed before the change do not follow from the current weights. After a change during the backward pass, of a value
    that the derivative of its own formula uses, or of a weight in a part without a name, derivatives are not comparable; the last
    also after a change in the middle of an earlier batch that the gradient continues into.
    """
    unnamed = _in_unnamed_parts(program)
    absorbed = (
        {*program.names_of(ValueKind.PARAMETER, ValueKind.OPTIMIZER_STATE, ValueKind.STATE, ValueKind.VALUE)}
        - _in_own_derivative(program)
        - unnamed
    )
    spoilt = any(offset > program.loss_tick or name not in absorbed for offset, name in changes)
    reason = f"{program.writer.name(changes[0][1])} was changed in the middle of this batch" if changes else ""
    before = next((program.writer.name(name) for name in changed_before if name in unnamed), "")

    def excuse(name: str) -> str:
        derivative = program.names[name].kind in (ValueKind.VALUE_GRADIENT, ValueKind.GRADIENT)
        if reason and (spoilt or not derivative):
            return reason
        return f"{before} was changed in the middle of an earlier batch" if before and derivative else ""

    return excuse


def _in_unnamed_parts(program: Program) -> set[str]:
    """Return the weights and states in parts without a name whose values a derivative uses: arguments of functions, factors."""
    page, found = program.model.page, set[str]()
    operations = (Apply, Times, Quotient, Power, Product)
    for step in steps_of(page.lines)[0]:
        for node in step.formula.walk():
            if isinstance(node, operations):
                found |= {name for part in node.children if part.children for name in part.names()}
    return found & {*page.parameters, *map(page.before, page.states)}


def _in_own_derivative(program: Program) -> set[str]:
    """Return the values that the derivative of their own formula uses, as in 1 − h², the derivative of h = tanh(a).

    A derived line reads them, although no formula that reads the value of the line's gradient contains them, or only as a
    function in it.
    """
    page, backward = program.model.page, program.model.backward
    formulas = [set(_names_in(line.formula)) for line in page.lines]
    functions = {node.label for line in page.lines for node in line.formula.walk() if isinstance(node, Apply)}
    found: set[str] = set()
    for line in (*backward.deltas, *backward.gradients):
        value, reads = line.target.removeprefix("d"), set(_names_in(line.formula))
        found |= reads.difference(*(names - functions for names in formulas if value in names))
    return found | {page.before(state) for state in page.states if state in found}


def _names_in(formula: Expression) -> Iterator[str]:
    """Yield the names in a formula, and the labels of its parts."""
    for node in formula.walk():
        if name := node.name if isinstance(node, Name) else node.label:
            yield name
