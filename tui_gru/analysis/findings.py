"""The table of all findings, in the order in which they are computed and listed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tui_gru.analysis import findings_of_data as data
from tui_gru.analysis import findings_of_ports as ported
from tui_gru.analysis import findings_of_training as gradients
from tui_gru.analysis import findings_of_training as learning
from tui_gru.analysis import findings_of_training as units
from tui_gru.analysis.examined import Finding, RunFacts
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.timeline import Monitor, Timeline
from tui_gru.engine.text import Text

if TYPE_CHECKING:
    from tui_gru.engine.sampling import Sample


class FindingRule(NamedTuple):
    """A row of the table: the name of a finding and its function. If it is found, those in `instead_of` are omitted."""

    name: str
    look: Callable[[RunFacts], Iterator[Finding]]
    instead_of: tuple[str, ...] = ()


TABLE = (
    FindingRule(
        "not-finite",
        gradients.not_finite,
        ("saturated-gate", "gate-never-opens", "dead-unit", "zero-gradient", "rate-too-small", "never-predicted", "overfitting"),
    ),
    FindingRule("sampler-without-feedback", data.sampler_without_feedback),
    FindingRule("rows-do-not-continue", data.rows_do_not_continue),
    FindingRule("gradient-into-earlier-batches", data.gradient_into_earlier_batches),
    FindingRule("rows-know-each-other", data.rows_know_each_other),
    FindingRule("character-never-seen", data.character_never_seen),
    FindingRule("axes-swapped", ported.axes_swapped),
    FindingRule("padding-moves-the-state", ported.padding_moves_the_state),
    FindingRule("gates-mixed-up", ported.gates_mixed_up),
    FindingRule("reset-mixed-up", ported.reset_mixed_up),
    FindingRule("z-flipped", ported.z_flipped),
    FindingRule("biases-counted-twice", ported.biases_counted_twice),
    FindingRule("bias-left-out", ported.bias_left_out),
    FindingRule("biases-merged", ported.biases_merged),
    FindingRule("output-not-expected", ported.output_not_expected),
    FindingRule("adam-uncorrected", ported.adam_uncorrected),
    FindingRule("initial-loss", learning.initial_loss),
    FindingRule("rate-too-large", learning.rate_too_large),
    FindingRule("rate-too-small", learning.rate_too_small),
    FindingRule("mostly-clipped", gradients.mostly_clipped),
    FindingRule("zero-gradient", gradients.zero_gradient),
    FindingRule("vanishing-gradient", gradients.vanishing_gradient),
    FindingRule("exploding-gradient", gradients.exploding_gradient),
    FindingRule("softmax-underflow", gradients.softmax_underflow),
    FindingRule("gate-never-opens", units.gate_never_opens),
    FindingRule("dead-unit", units.dead_unit),
    FindingRule("saturated-gate", units.saturated_gate),
    FindingRule("never-predicted", learning.never_predicted),
    FindingRule("worse-than-a-table", learning.worse_than_a_table),
    FindingRule("overfitting", learning.overfitting),
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
    examined, found, left_out = RunFacts(timeline, moment, samples, held_out, monitor), list[Finding](), set[str]()
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
