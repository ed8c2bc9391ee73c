"""Gathers a report on a run on given batches: a recording, a model file with inputs, a batch of a script."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from tui_gru.debugger.analysis.checks.expected import expected_of
from tui_gru.debugger.analysis.findings.finding import Finding, counted
from tui_gru.debugger.analysis.report.report import RunReport
from tui_gru.debugger.checkpoints.scalars import ScalarRows
from tui_gru.debugger.timeline.moment import Moment
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine.config import Config
from tui_gru.engine.data.given import Given
from tui_gru.engine.numbers import rounded


def of_given(timeline: Timeline, moment: Moment, given: Given, title: str, findings: tuple[Finding, ...]) -> RunReport:
    """Return the contents of a report without a text.

    It has the losses and gradient norms of the steps, and the comparisons of p.grad and of the output of the current batch with
    the computed ones. `curve` counts batches; each is a step of a recording.
    """
    program, batch = timeline.program, moment.position.batch
    losses, norms = (timeline.column(name, 0, len(given.batches) - 1) for name in ("loss", "grad_norm"))
    known = losses if given.knows_loss else losses[:0]
    return RunReport(
        title=title,
        options=tuple(_imported_options(program.config, given)),
        facts=(*_imported_facts(given, batch, known, norms), *_compared(moment, given)),
        curve=tuple((i + 1, float(loss)) for i, loss in enumerate(known)),
        findings=findings,
        name=program.writer.name(program.main_state),
        of="kept steps" if given.steps else "batches",
    )


def _imported_options(config: Config, given: Given) -> Iterator[tuple[str, str]]:
    structure = given.structure
    yield "cell", structure.cell
    yield "layers", f"{structure.layers}{', both directions' if structure.bidirectional else ''}"
    names = {"I": "inputs", "V": "classes", "D": "embedding", "H": "units", "T": "timesteps", "B": "rows"}
    yield from ((name, f"{given.sizes[axis]:,}") for axis, name in names.items() if axis in given.sizes)
    yield "dtype", given.dtype
    yield "parameters", f"{config.parameter_count:,}"
    yield "inputs from", given.inputs_from


def _imported_facts(given: Given, batch: int, losses: ScalarRows, norms: ScalarRows) -> Iterator[tuple[str, str]]:
    yield "run", given.title
    if given.steps:
        first, last = given.steps[0], given.steps[-1]
        missing = last + 1 - len(given.steps)
        yield "kept steps", f"{len(given.steps):,}, from step {first:,} to step {last:,}; {missing:,} others were not kept"
    yield "place", given.places[batch] if given.places else "its only batch"
    finite = losses[np.isfinite(losses)]
    if len(finite):
        yield "first loss", rounded(finite[0])
        yield "last loss", rounded(finite[-1])
    if len(norms) and np.isfinite(norms).any():
        largest = int(np.nanargmax(np.where(np.isfinite(norms), norms, -math.inf)))
        yield "largest gradient norm", rounded(norms[largest]) + (f" in step {given.steps[largest]:,}" if given.steps else "")
    bad = ~np.isfinite(losses)
    if bad.any():
        yield "losses that are not finite", counted(int(bad.sum()), "step" if given.steps else "batch")


def _compared(moment: Moment, given: Given) -> Iterator[tuple[str, str]]:
    batch = given.batches[moment.position.batch]
    expected = expected_of(moment.record, batch)
    if expected is not None:
        yield "output", expected.sentence
    if remarks := batch.remarks():
        yield "gradients", remarks
