"""The check of a batch against PyTorch: taken up at once, carried out whenever and in whatever thread one likes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tui_gru.debugger.changeable import gradients_of
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.naming import OVER_VOCABULARY
from tui_gru.debugger.position import Position
from tui_gru.debugger.program import Program
from tui_gru.debugger.segment import Action
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine import arguments
from tui_gru.engine.config import Config
from tui_gru.engine.parameters import parameter_names
from tui_gru.engine.record import BACKWARD_NAMES, FORWARD_NAMES, Activations, BatchRecord
from tui_gru.engine.trainer import Resume, Trainer

if TYPE_CHECKING:
    from tui_gru.engine.reference import Comparison

ENTRIES, SEED = 2, 0  # of each array, checked by finite differences; they are drawn with this seed
FORWARD, AUTOGRAD, DIFFERENCES = "forward pass", "autograd", "finite differences"


@dataclass(frozen=True, eq=False)
class Row:
    """What a name is compared with: the whole of it with PyTorch, and of a gradient or a delta some entries with slopes.

    `excuse` says why it does not agree where it cannot: the batch was changed halfway.
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
        """It does not agree, and nothing explains why."""
        return not self.agrees and not self.excuse

    @property
    def worst(self) -> Comparison:
        """Of its comparisons the one that is furthest beyond what rounding explains, or nearest to it."""
        return max((c for c in (self.whole, self.slopes) if c is not None), key=severity)


def scientific(x: float) -> str:
    """`3.1e-8`; 0 is `0`."""
    mantissa, _, exponent = f"{x:.1e}".partition("e")
    return "0" if x == 0 else f"{mantissa}e{int(exponent)}" if exponent else mantissa


def severity(comparison: Comparison) -> float:
    """The difference as a multiple of what rounding explains."""
    return comparison.absolute / comparison.allowed if math.isfinite(comparison.absolute) else math.inf


@dataclass(frozen=True, eq=False)
class Report:
    """What came out for the batch of `position`, which is where it was asked. Gradients first, then deltas, then values.

    `copied`: the batch does not learn, so a copy of it was given a backward pass. `entries` of each array were checked by finite
    differences, drawn with `seed`.
    """

    position: Position
    config: Config
    rows: tuple[Row, ...]
    copied: bool
    entries: int
    seed: int

    @property
    def agrees(self) -> bool:
        return not any(row.wrong for row in self.rows)

    @cached_property
    def worst(self) -> Row:
        """The row that is furthest off, of those that nothing excuses."""
        return max(self.rows, key=lambda row: (row.wrong, not row.excuse, severity(row.worst)))

    @cached_property
    def summary(self) -> str:
        """`all 42 arrays agree: the largest difference is 3.1e-8 at dUh[0, 1]; finite differences on 2 entries of each, …`."""
        wrong, compared = [row for row in self.rows if row.wrong], [row for row in self.rows if not row.excuse]
        if wrong:
            at = self.worst.worst
            words = f"{len(wrong)} of {len(compared)} arrays do not agree, least of all {at.name}: {at.against} differs by "
            words += f"{scientific(at.absolute)} at {self.place(at)}"
        else:
            at = max((row.whole for row in compared), key=lambda c: c.absolute)
            words = f"all {len(compared)} arrays agree: the largest difference is {scientific(at.absolute)} at {self.place(at)}"
        if self.entries:
            sample = "1 entry" if self.entries == 1 else f"{self.entries} entries"
            words += f"; finite differences on {sample} of each, chosen with seed {self.seed}"
        return words

    @property
    def notes(self) -> tuple[str, ...]:
        """What else has to be said of it."""
        notes = ["this batch does not learn: a copy of it was given a backward pass, the run has none"] if self.copied else []
        for reason in dict.fromkeys(row.excuse for row in self.rows if row.excuse):
            names = [row.name for row in self.rows if row.excuse == reason]
            listed = ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:4])} and {len(names) - 4} others"
            notes.append(f"{reason}, so {listed} cannot agree")
        return tuple(notes)

    def place(self, comparison: Comparison) -> str:
        """Where the largest difference is: `dUh[0, 1]` as in code; `dz t 2, row 1, unit 1`, all counted from 1, as on screen."""
        return place(comparison, self.config)

    def written(self, number: float) -> str:
        """A number of the engine's with all its digits, and no more than it has."""
        return str(np.dtype(self.config.dtype).type(number))


def place(comparison: Comparison, config: Config) -> str:
    """As `Report.place`."""
    where = entry(comparison, config)
    return f"{comparison.name}{where}" if where.startswith("[") else f"{comparison.name} {where}".rstrip()


def entry(comparison: Comparison, config: Config) -> str:
    """`[0, 1]`, or `t 2, row 1, unit 1`; nothing of the loss, which has one entry."""
    name, index = comparison.name, comparison.index
    if name == "loss":
        return ""
    if name not in (*FORWARD_NAMES, *BACKWARD_NAMES, "hUh"):
        return f"[{', '.join(map(str, index))}]"
    words = [f"t {index[0] + 1}"] + [f"row {row + 1}" for row in index[1:2]]
    for i in index[2:]:
        char = config.vocabulary[i] if name in OVER_VOCABULARY else ""
        words.append(f"“{char}”" if char.isprintable() and char.strip() else f"{'character' if char else 'unit'} {i + 1}")
    return ", ".join(words)


@dataclass(frozen=True, eq=False)
class Check:
    """A batch that is to be checked. It holds what it needs and touches nothing of the session, so any thread may `run` it.

    `excuse` has a reason for the names and references that cannot agree, and nothing for the others.
    """

    position: Position
    record: BatchRecord
    earlier: tuple[Activations, ...]
    trainer: Trainer
    excuse: Callable[[str], str]

    def run(self, *, entries: int = ENTRIES, seed: int = SEED) -> Report:
        """Compare everything; imports torch. Raises `TuiGruError` where a number is not finite."""
        from tui_gru.engine.reference import check_batch

        entries = arguments.whole("entries", entries, least=0)
        seed = arguments.whole("seed", seed, least=0)
        record, copied = self.record, self.record.gradients is None
        if copied:
            record = record.copy()
            self.trainer.resume(record, record.parameters, Resume("update"), learn=True, earlier=self.earlier)
        found = check_batch(record, earlier=self.earlier, entries=entries, seed=seed)
        slopes = {c.name: c for c in found if c.against == DIFFERENCES}
        whole = [c for c in found if c.against == AUTOGRAD] + [c for c in found if c.against == FORWARD]
        rows = [Row(c.name, c, slopes.get(c.name)) for c in whole]
        excused = tuple(row if row.agrees else replace(row, excuse=self.excuse(row.name)) for row in rows)
        return Report(self.position, self.trainer.config, excused, copied, entries, seed)


def take_up(timeline: Timeline, here: Moment) -> Check:
    """The check of the batch that one is in, as it comes to its end."""
    number, begin = here.position.number, here.position.number * here.program.ticks
    settings = timeline.segment_at(here.position.tick).settings
    trainer = Trainer(settings.trainer.config, settings.trainer.corpus)  # of its own, since it may be in another thread
    record, changes = here.record, []
    for before, segment in pairwise(timeline.segments):
        if begin < segment.start <= here.position.tick and segment.action.edited:
            offset = segment.start - begin
            if _is_after_all(offset, segment.action, here):
                record = before.record(number)[1]  # all that is compared was computed before the change
                break
            changes += [(offset, name) for name in segment.action.edited]
    return Check(here.position, record, timeline.earlier(number), trainer, _excuses(here.program, changes))


def _is_after_all(offset: int, action: Action, here: Moment) -> bool:
    """Whether a change comes after everything of the batch that is compared: it is meant for the next one."""
    program = here.program
    end = program.backward_end if here.learned else program.loss_tick
    return offset >= end and not set(action.edited) & set(gradients_of(program.config.reset))


def _excuses(program: Program, changes: Sequence[tuple[int, str]]) -> Callable[[str], str]:
    """Why a name that does not agree cannot, in a batch that was changed at these ticks of it; empty where it could.

    Derivatives are taken at the stored pre-activations, states and logits, so a changed one of these, or a changed weight, leaves
    all derivatives comparable: only values that were computed before do not follow from the weights of now. A change during the
    backward pass, or of a number that the derivatives do not go by, leaves none.
    """
    parameters = parameter_names(program.config.reset)
    absorbed = (*parameters, "h", "h_prev", "az", "ar", "ah", "logits")
    spoilt = any(offset > program.loss_tick or name not in absorbed for offset, name in changes)
    reason = f"{changes[0][1]} was changed in the middle of this batch" if changes else ""

    def excuse(name: str) -> str:
        derivative = name in (*BACKWARD_NAMES, *gradients_of(program.config.reset))
        return reason if spoilt or not derivative else ""

    return excuse
