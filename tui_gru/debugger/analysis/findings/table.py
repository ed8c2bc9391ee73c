"""The table of all findings, in the order in which they are computed and listed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tui_gru.debugger.analysis.findings import data, gradients, learning, ported, units
from tui_gru.debugger.analysis.findings.examined import Examined
from tui_gru.debugger.analysis.findings.finding import Finding
from tui_gru.debugger.timeline.moment import Moment
from tui_gru.debugger.timeline.segment import Monitor
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine.data.tokens import Text

if TYPE_CHECKING:
    from tui_gru.engine.running.sampling import Sample


class Row(NamedTuple):
    """A row of the table: the name of a finding and its function. If it is found, those in `instead_of` are omitted."""

    name: str
    look: Callable[[Examined], Iterator[Finding]]
    instead_of: tuple[str, ...] = ()


TABLE = (
    Row(
        "not-finite",
        gradients.not_finite,
        ("saturated-gate", "gate-never-opens", "dead-unit", "zero-gradient", "rate-too-small", "never-predicted", "overfitting"),
    ),
    Row("sampler-without-feedback", data.sampler_without_feedback),
    Row("rows-do-not-continue", data.rows_do_not_continue),
    Row("gradient-into-earlier-batches", data.gradient_into_earlier_batches),
    Row("rows-know-each-other", data.rows_know_each_other),
    Row("character-never-seen", data.character_never_seen),
    Row("axes-swapped", ported.axes_swapped),
    Row("padding-moves-the-state", ported.padding_moves_the_state),
    Row("gates-mixed-up", ported.gates_mixed_up),
    Row("reset-mixed-up", ported.reset_mixed_up),
    Row("z-flipped", ported.z_flipped),
    Row("biases-counted-twice", ported.biases_counted_twice),
    Row("bias-left-out", ported.bias_left_out),
    Row("biases-merged", ported.biases_merged),
    Row("output-not-expected", ported.output_not_expected),
    Row("adam-uncorrected", ported.adam_uncorrected),
    Row("initial-loss", learning.initial_loss),
    Row("rate-too-large", learning.rate_too_large),
    Row("rate-too-small", learning.rate_too_small),
    Row("mostly-clipped", gradients.mostly_clipped),
    Row("zero-gradient", gradients.zero_gradient),
    Row("vanishing-gradient", gradients.vanishing_gradient),
    Row("exploding-gradient", gradients.exploding_gradient),
    Row("softmax-underflow", gradients.softmax_underflow),
    Row("gate-never-opens", units.gate_never_opens),
    Row("dead-unit", units.dead_unit),
    Row("saturated-gate", units.saturated_gate),
    Row("never-predicted", learning.never_predicted),
    Row("worse-than-a-table", learning.worse_than_a_table),
    Row("overfitting", learning.overfitting),
)


def find(
    timeline: Timeline,
    moment: Moment,
    samples: Sequence[Sample] = (),
    *,
    held_out: Text = "",
    monitor: Monitor | None = None,
    progress: Callable[[str], object] | None = None,
) -> tuple[Finding, ...]:
    """Return all findings in a run up to a moment and in its samples.

    `held_out` is a text that was not trained on. Batches are replayed as needed; `monitor` sees them and may raise an error, and
    `progress` receives a description of each part. The run and its records are not changed.
    """
    examined, found, left_out = Examined(timeline, moment, samples, held_out, monitor), list[Finding](), set[str]()
    with np.errstate(all="ignore"):
        for row in TABLE:
            if row.name in left_out:
                continue
            if progress is not None:
                progress(f"looking for {row.name}")
            own = list(row.look(examined))
            found += own
            left_out.update(row.instead_of if own else ())
    return tuple(found)
