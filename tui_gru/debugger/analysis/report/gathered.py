"""Gathers the contents of a report: configuration, curve, findings, units, sources of the loss, and samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from itertools import pairwise

import numpy as np

from tui_gru.debugger.analysis import loss_places
from tui_gru.debugger.analysis.activity import Activity, context, of_text
from tui_gru.debugger.analysis.baselines import baselines, bits, perplexity
from tui_gru.debugger.analysis.findings.table import find
from tui_gru.debugger.analysis.loss_places import TextLosses
from tui_gru.debugger.analysis.reading import read_text
from tui_gru.debugger.analysis.report.given import of_given
from tui_gru.debugger.analysis.report.report import RunReport, UnitNote
from tui_gru.debugger.checkpoints.scalars import ScalarRows
from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.naming import printable
from tui_gru.debugger.program.position import in_words
from tui_gru.debugger.timeline.moment import Moment
from tui_gru.debugger.timeline.segment import Monitor
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine.config import Config
from tui_gru.engine.data.tokens import Text, separator, token_word
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.numbers import rounded
from tui_gru.engine.running.sampling import Sample, sample

POINTS = 300  # the most points of a curve; each is the mean of equally many batches
TEXT = 20_000  # the number of characters that are read for the units
UNITS, PLACES, SHOWN = 12, 4, 96  # units that are shown, places of each, and characters of the heat map
HARDEST = 6  # characters
SAMPLES, LENGTH = 5, 60  # samples over the training, and characters of each

ReportProgress = Callable[[str], object]


def gather(
    timeline: Timeline,
    moment: Moment,
    samples: Sequence[Sample] = (),
    *,
    title: str,
    held_out: Text = "",
    monitor: Monitor | None = None,
    progress: ReportProgress | None = None,
) -> RunReport:
    """Return the contents of a report on a run up to a moment.

    `held_out`, `monitor` and `progress` are as for `find`. Raises `TuiGruError` if an argument is invalid or it is interrupted.
    """
    say = progress or (lambda words: None)
    program, config = timeline.program, timeline.program.config
    findings = find(timeline, moment, samples, held_out=held_out, monitor=monitor, progress=progress)
    if config.given is not None:
        return of_given(timeline, moment, config.given, title, findings)
    losses = timeline.column("loss", 0, program.last_loss(moment.position.tick))
    text = timeline.segment_at(moment.position.tick).trainer.corpus.text
    say("reading the text")
    activity, read = _read(program, moment, text[:TEXT])
    notes = tuple(_notes(activity, config)) if activity is not None else ()
    say("drawing samples")
    return RunReport(
        title=title,
        options=(*_options(config), *_changed_settings(timeline, moment)),
        facts=tuple(_facts(moment, losses)),
        curve=tuple(_curve(losses)),
        lines=tuple((name, value) for name, value in baselines(text, config.vocab_size).lines if math.isfinite(value)),
        findings=findings,
        units=notes,
        name=program.writer.name(program.main_state),
        text=activity.text[:SHOWN] if activity is not None else "",
        values=activity.values[:SHOWN, [note.unit for note in notes]].T if activity is not None else np.empty((0, 0)),
        classes=tuple(sorted((s for s in read.by_class() if s.count), key=lambda s: -s.share)) if read is not None else (),
        hardest=tuple((_context(read.text, place.at, config), place.value) for place in read.hardest(HARDEST, apart=20))
        if read
        else (),
        samples=tuple(_samples(timeline, moment, len(losses))),
    )


def printable_text(words: str) -> str:
    """Return a text on one line, with signs for invisible characters."""
    return "".join(map(printable, words))


def _options(config: Config) -> Iterator[tuple[str, str]]:
    yield "text", f"{len(config.text):,} {token_word(config.vocabulary)}s, of {config.vocab_size} kinds"
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name not in ("text", "vocabulary", "cell_text", "optimizer_text") and value not in ("", False):
            yield field.name.replace("_", "-"), printable_text(str(value))
    yield "parameters", f"{config.parameter_count:,}"


def _changed_settings(timeline: Timeline, moment: Moment) -> Iterator[tuple[str, str]]:
    """Yield each setting of the update rule that was changed up to a moment, with its values and the places of the changes."""
    segments = [segment for segment in timeline.segments if segment.start <= moment.position.tick]
    for name in timeline.program.config.settings:
        found = []
        for before, segment in pairwise(segments):
            if segment.settings.rule[name] != before.settings.rule[name]:
                at = timeline.position(segment.start)
                found.append(f"to {rounded(segment.settings.rule[name])} at {in_words(at.epoch, at.batch)}")
        if found:
            yield f"{name} changed", "; ".join(found)


def _facts(moment: Moment, losses: ScalarRows) -> Iterator[tuple[str, str]]:
    at = moment.position
    yield "place", in_words(at.epoch, at.batch)
    yield "batches run", f"{len(losses):,}"
    if len(losses):
        last = float(losses[-moment.program.num_batches :].mean())
        yield "first loss", f"{rounded(losses[0])} nats"
        yield "loss of the last epoch", f"{rounded(last)} nats, {rounded(bits(last))} bits a character"
        yield "perplexity", rounded(perplexity(last))


def _curve(losses: ScalarRows) -> Iterator[tuple[int, float]]:
    end = 0
    for piece in np.array_split(losses, min(POINTS, len(losses))) if len(losses) else ():
        end += len(piece)
        yield end, float(piece.mean())


def _read(program: Program, moment: Moment, text: Text) -> tuple[Activity | None, TextLosses | None]:
    """Return the text read with the current weights; empty if the weights are not finite."""
    if not np.isfinite(moment.weights.parameters).all():
        return None, None
    state, loss = program.main_state, program.loss_names.row
    found = read_text(program.config, moment.weights, text, [state, loss] if loss else [state])
    return of_text(state, found, text), loss_places.of_text(found, program, text) if loss and len(text) > 1 else None


def _context(text: Text, at: int, config: Config) -> tuple[str, str, str]:
    before, char, after = context(text, at)
    blank = separator(config.vocabulary)
    return config.as_string(before) + blank, char, blank + config.as_string(after)


def _notes(activity: Activity, config: Config) -> Iterator[UnitNote]:
    """Yield units, sorted by their correlation with a class."""
    found = activity.goes_with()
    order = sorted(range(activity.units), key=lambda unit: (-round(abs(found[unit].r), 2), -activity.deviations[unit]))
    for unit in order[:UNITS]:
        pick = activity.most if found[unit].r >= 0 else activity.least
        places = tuple(_context(activity.text, place.at, config) for place in pick(unit, PLACES))
        yield UnitNote(unit, str(found[unit].what), found[unit].r, places)


def _samples(timeline: Timeline, moment: Moment, count: int) -> Iterator[tuple[str, str]]:
    """Yield the most likely characters after the text's first two, with the weights of several moments."""
    config = timeline.program.config
    for batch in sorted({round(part * count / (SAMPLES - 1)) for part in range(SAMPLES)}):
        weights = moment.weights if batch == count else timeline.record(batch).before
        words = f"after {batch:,} {'batch' if batch == 1 else 'batches'}"
        try:
            yield words, sample(config, weights, config.as_string(config.text[:2]), LENGTH, temperature=0).text
        except TuiGruError as error:
            yield words, f"no sample: {error}"
            return
