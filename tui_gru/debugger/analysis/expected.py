"""Compares the output of a batch with an expected output, and how the difference grows over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.given import GivenBatch
from tui_gru.equations.compose import LIVE
from tui_gru.interop.recomputing.comparing import TOLERANCES, Difference, difference, output_name, stepwise


@dataclass(frozen=True, eq=False)
class Expected:
    """`one_step` computes each output from the expected state before it, so that rounding does not accumulate; `whole` runs from
    the first state to the end. Each has both outputs, the largest difference, and that of every timestep, `over_time` (T)."""

    one_step: Difference
    whole: Difference
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether the outputs agree up to rounding, one step at a time."""
        return self.one_step.error <= self.tolerance

    @property
    def sentence(self) -> str:
        """The result in one line."""
        words = "the output is the expected one" if self.agrees else "the output is not the expected one"
        worst = int(np.argmax(self.whole.over_time)) + 1 if self.whole.over_time is not None and len(self.whole.over_time) else 1
        return (
            f"{words}: off by {self.one_step.worst:.1e} one step at a time, by {self.whole.worst:.1e} from end to end (t {worst})"
        )

    def table(self) -> str:
        """A table of the largest difference at each timestep: one step at a time, and from end to end."""
        assert self.one_step.over_time is not None
        assert self.whole.over_time is not None
        pairs = zip(self.one_step.over_time, self.whole.over_time, strict=True)
        lines = [f"{t:>6}  {step:>18.1e}  {whole:>14.1e}" for t, (step, whole) in enumerate(pairs, 1)]
        return "\n".join((f"{'t':>6}  {'one step at a time':>18}  {'end to end':>14}", *lines))


def expected_of(record: BatchRecord, batch: GivenBatch) -> Expected | None:
    """The comparison for a computed batch; None if it has no expected output."""
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
