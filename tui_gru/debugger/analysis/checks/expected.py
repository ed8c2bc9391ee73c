"""Compares the output of a batch with an expected output, and how the difference grows over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tui_gru.engine.data.given import GivenBatch
from tui_gru.engine.numbers import scientific
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.equations.compose import LIVE
from tui_gru.interop.recomputing.comparing import TOLERANCES, ArrayDifference, difference, output_name, stepwise

SMALL = 1e-2
GROWN = 100.0  # rounding errors that only add up stay below it


@dataclass(frozen=True, eq=False)
class Expected:
    """`one_step` computes each output from the expected state before it, so that rounding does not accumulate; `whole` runs from
    the first state to the end. Each has both outputs, the largest difference, and that of every timestep, `over_time` (T)."""

    one_step: ArrayDifference
    whole: ArrayDifference
    tolerance: float

    def __repr__(self) -> str:
        return f"<comparison with the expected output: {self.sentence}>"

    @property
    def agrees(self) -> bool:
        """True if the outputs agree up to rounding, one step at a time.

        The tolerance is relative to the largest output, but at least to `SMALL`: the rounding error of 1 − z does not depend on
        h.
        """
        return self._agree_to(self.tolerance)

    def _agree_to(self, tolerance: float) -> bool:
        return self.one_step.worst <= tolerance * max(self.one_step.largest, SMALL)

    @property
    def sentence(self) -> str:
        """The result in one line."""
        words = "the output is the expected one" if self.agrees else "the output is not the expected one"
        if self.agrees and not self._agree_to(TOLERANCES["float32"]):
            words += f" to {self.tolerance:g} of its largest number, the tolerance of half precision"
        worst = int(np.argmax(self.whole.over_time)) + 1 if self.whole.over_time is not None and len(self.whole.over_time) else 1
        growth = f", growing {self.growth:.2f} times a timestep" if self.growth > 1 else ""
        one_step, whole = scientific(self.one_step.worst), scientific(self.whole.worst)
        return f"{words}: off by {one_step} one step at a time, by {whole} from end to end (t {worst}{growth})"

    @property
    def growth(self) -> float:
        """The factor per timestep by which the difference from end to end grows up to its largest; 1 if it grows less than `GROWN`
        times.

        A GRU that separates neighbouring states amplifies rounding errors as well.
        """
        over_time = self.whole.over_time
        there = np.flatnonzero(over_time) if over_time is not None else np.empty(0)
        if over_time is None or len(there) < 2 or not np.isfinite(over_time).all():
            return 1.0
        first, last = int(there[0]), int(np.argmax(over_time))
        factor = float(over_time[last] / over_time[first])
        return factor ** (1 / (last - first)) if last > first and factor > GROWN else 1.0

    def table(self) -> str:
        """Return a table of the largest difference at each timestep: one step at a time, and from end to end."""
        assert self.one_step.over_time is not None
        assert self.whole.over_time is not None
        pairs = zip(self.one_step.over_time, self.whole.over_time, strict=True)
        lines = [f"{t:>6}  {step:>18.1e}  {whole:>14.1e}" for t, (step, whole) in enumerate(pairs, 1)]
        return "\n".join((f"{'t':>6}  {'one step at a time':>18}  {'end to end':>14}", *lines))


def expected_of(record: BatchRecord, batch: GivenBatch) -> Expected | None:
    """Return the comparison for a computed batch; None if it has no expected output."""
    if batch.expected is None:
        return None
    live = batch.inputs.get(LIVE)
    lengths = None if live is None else live.sum(axis=0)
    dtype = str(record.compiled.dtype)
    return Expected(
        stepwise(record, batch.expected, lengths),
        difference("out", record.array(output_name(record)), batch.expected, timed=True),
        batch.tolerance or TOLERANCES[dtype],
    )
