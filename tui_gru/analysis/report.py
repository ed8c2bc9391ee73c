"""The report on a run: gathered as plain data, and written as a page, a picture or a text."""

from __future__ import annotations

import math
import platform
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from html import escape
from itertools import groupby, pairwise, zip_longest

import numpy as np
from numpy.typing import NDArray

from tui_gru.analysis import losses as loss_places
from tui_gru.analysis.check import expected_of
from tui_gru.analysis.examined import Finding, cure_written, finding_html
from tui_gru.analysis.findings import find_problems
from tui_gru.analysis.influence import ContextMemory, memory, reach
from tui_gru.analysis.losses import Share, TextLosses, baselines, bits, perplexity
from tui_gru.analysis.story import Story, matrices_of, tell
from tui_gru.analysis.trials import command_line
from tui_gru.analysis.units import Activity, context, indices_of, values_after_characters, values_of_text
from tui_gru.debugger.history import ScalarRows
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.position import in_words, position_of
from tui_gru.debugger.program import Program, in_line
from tui_gru.debugger.segment import Monitor
from tui_gru.debugger.state import Mark
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine.config import Config, Text, separator, token_word
from tui_gru.engine.numbers import batch_ticks, correlation, counted, decimals, rounded, value_ticks
from tui_gru.engine.sampling import Sample, refused, sample_text
from tui_gru.engine.source import Ability, Imported, masked_where
from tui_gru.engine.weights import Float64Array
from tui_gru.errors import TuiGruError
from tui_gru.imported.captured import RecordedBatches
from tui_gru.schema import __version__

# ------------------------------------------------------------------------------
# The contents of a report, as plain data.


@dataclass(frozen=True)
class UnitNote:
    """A unit (0-based): the feature that it follows, Pearson's correlation r, and the places where it is strongest in that
    direction, each as the text before the character, the character, and the text after it.

    `before` is r before training, 0 if it is not known; `added` what the loss gains with the unit held at 0, NaN if not known.
    """

    unit: int
    goes_with: str
    r: float
    places: tuple[tuple[str, str, str], ...]
    before: float = 0.0
    added: float = math.nan


@dataclass(frozen=True)
class FigureLine:
    """A line of a figure: its name, and its points as the number of the batch, from 1, and the value. If `sampled`, these are the
    values of single batches, which are drawn as points, since those of the batches between them were not computed."""

    name: str
    points: tuple[tuple[float, float], ...]
    sampled: bool = False

    @property
    def finite(self) -> tuple[tuple[float, float], ...]:
        """The points with a finite value."""
        return tuple((batch, value) for batch, value in self.points if math.isfinite(value))


@dataclass(frozen=True)
class Figure:
    """A chart over the batches, or the steps, of a run. `name` is that of its file, `levels` are values with their names.

    `epoch` is the number of batches of an epoch, 0 if there are no epochs to mark.
    """

    name: str
    title: str
    lines: tuple[FigureLine, ...]
    levels: tuple[tuple[str, float], ...] = ()
    logarithmic: bool = False
    of: str = "batches"
    epoch: int = 0


@dataclass(frozen=True, eq=False)
class RunReport:
    """The contents of a report. `curve` has the last batch (from 1) and the mean loss of each point; `values` (units shown,
    characters) is the heat map of `name` over `text`, in the order of `units`. `of` is the word for what the curve counts, `unit`
    the unit of the loss, empty if it has none. `chapters` are the marks: the place, and the lines about it. `figures` are those of
    the story besides the loss, `epoch` the batches of an epoch. `equations` has the lines of each phase, as MathML and as text.
    """

    title: str
    options: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    curve: tuple[tuple[int, float], ...]
    findings: tuple[Finding, ...]
    name: str
    lines: tuple[tuple[str, float], ...] = ()
    units: tuple[UnitNote, ...] = ()
    text: Text = ""
    values: NDArray[np.floating] = field(default_factory=lambda: np.empty((0, 0)))
    classes: tuple[Share, ...] = ()
    hardest: tuple[tuple[tuple[str, str, str], float], ...] = ()
    samples: tuple[tuple[str, str], ...] = ()
    chapters: tuple[tuple[str, tuple[str, ...]], ...] = ()
    of: str = "batches"
    unit: str = "nats"
    epoch: int = 0
    figures: tuple[Figure, ...] = ()
    memory: ContextMemory | None = None
    equations: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()

    @property
    def loss(self) -> Figure:
        """The losses of `curve`, beside `lines` and the held-out loss, as a figure."""
        held_out = next((line for figure in self.figures if figure.name == "held-out" for line in figure.lines), None)
        lines = (FigureLine("loss", self.curve), *([] if held_out is None else [held_out]))
        title = f"loss{f' in {self.unit}' if self.unit else ''}"
        return Figure("loss", title, lines, self.lines, logarithmic=True, of=self.of, epoch=self.epoch)

    def __repr__(self) -> str:
        return f"<report on {self.title}: {counted(len(self.findings), 'finding')}, {counted(len(self.samples), 'sample')}>"


@dataclass(frozen=True, eq=False)
class RunComparison:
    """Two runs of any models beside each other, from their reports."""

    mine: RunReport
    other: RunReport

    def __repr__(self) -> str:
        return f"<{self.names[0]} beside {self.names[1]}: {counted(len(self.differing), 'difference')} of options and results>"

    @property
    def names(self) -> tuple[str, str]:
        """What the runs are called: their titles, numbered if they are the same."""
        one, other = (printable_text(report.title) for report in (self.mine, self.other))
        return (one, other) if one != other else (f"{one} (1)", f"{other} (2)")

    @property
    def differing(self) -> tuple[tuple[str, str, str], ...]:
        """The options and facts that differ: the name, and the value of each run, empty if it has none."""
        one, other = (dict((*report.options, *report.facts)) for report in (self.mine, self.other))
        names = dict.fromkeys((*one, *other))
        rows = ((name, one.get(name, ""), other.get(name, "")) for name in names if name not in ("written", "command"))
        return tuple(row for row in rows if row[1] != row[2])

    @property
    def loss(self) -> Figure:
        """Both curves in one figure, with the baselines that both have."""
        mine, other = self.mine, self.other
        lines = tuple(FigureLine(name, report.curve) for name, report in zip(self.names, (mine, other), strict=True))
        levels = tuple(level for level in mine.lines if level in other.lines)
        of = mine.of if mine.of == other.of else "batches, or steps"
        return Figure("loss", mine.loss.title, lines, levels, True, of, mine.epoch if mine.epoch == other.epoch else 0)

    @property
    def findings(self) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
        """The findings that only the first run has, and those that only the second one has."""
        names = [{finding.name for finding in report.findings} for report in (self.mine, self.other)]
        mine = tuple(finding for finding in self.mine.findings if finding.name not in names[1])
        return mine, tuple(finding for finding in self.other.findings if finding.name not in names[0])

    @property
    def samples(self) -> tuple[tuple[tuple[str, str], tuple[str, str]], ...]:
        """The samples of both over the training, each with when it was drawn; empty texts where one has fewer."""
        return tuple(zip_longest(self.mine.samples, self.other.samples, fillvalue=("", "")))


# ------------------------------------------------------------------------------
# Gathers a report on a run on imported batches: a recording, a model file with inputs, a batch of a script.


def of_source(timeline: Timeline, moment: Moment, source: Imported, title: str, findings: tuple[Finding, ...]) -> RunReport:
    """Return the contents of a report without a text.

    It has the losses of all steps, the gradient norms of those that were kept, and the comparisons of p.grad and of the output of
    the current batch with the computed ones. `curve` counts the steps of a recording as the script does, and batches from 1.
    """
    program, batch, batches = timeline.program, moment.position.batch, source.batches
    columns, every = {name: timeline.column(name, 0, len(batches) - 1) for name in ("loss", "grad_norm")}, np.arange(len(batches))
    losses, norms = (masked_where(values, np.isin(every, list(source.unknown(name)))) for name, values in columns.items())
    losses_kept = losses if source.can(Ability.LOSS) else losses[:0]
    script_losses = batches.recording.losses if len(losses_kept) and isinstance(batches, RecordedBatches) else losses_kept
    places, first, of = (source.steps, 0, "steps") if source.steps else (range(1, len(norms) + 1), 1, "batches")
    return RunReport(
        title=title,
        options=tuple(_imported_options(program.config, source)),
        facts=(*_imported_facts(source, batch, script_losses, norms), *_compared(moment, source)),
        curve=tuple((at - 1 + first, loss) for at, loss in _curve(script_losses)),
        findings=findings,
        name=program.writer.name(program.main_state),
        of=of,
        figures=_figures_of_columns([("‖∇‖", [(places[at - 1], norm) for at, norm in _curve(norms)])], of=of),
        equations=tuple(_equations(program)),
    )


def _equations(program: Program) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
    """Yield the lines of each phase, each as MathML and as text; those of the update for all weights W."""
    writer, phases = program.writer, dict[str, list[tuple[str, str]]]()
    for line in (line for block in program.blocks if block.phase != "update" for line in block.lines):
        if line.formula is not None:
            phases.setdefault(line.phase, []).append((writer.line_mathml(line.target, line.op, line.formula), line.text))
    for rule in program.model.rule.lines if program.update else ():
        lines = writer.line_mathml(rule.target, rule.op, rule.formula), writer.line(rule.target, rule.op, rule.formula)
        phases.setdefault("update", []).append(lines)
    yield from ((phase, tuple(lines)) for phase, lines in phases.items())


def _imported_options(config: Config, source: Imported) -> Iterator[tuple[str, str]]:
    structure = source.structure
    yield "cell", structure.cell
    yield "layers", f"{structure.layers}{', both directions' if structure.bidirectional else ''}"
    names = {"I": "inputs", "V": "classes", "D": "embedding", "H": "units", "T": "timesteps", "B": "rows"}
    yield from ((name, f"{source.sizes[axis]:,}") for axis, name in names.items() if axis in source.sizes)
    yield "dtype", source.dtype
    yield "parameters", f"{config.parameter_count:,}"
    yield "inputs from", source.inputs_from


def _imported_facts(source: Imported, batch: int, losses: ScalarRows, norms: ScalarRows) -> Iterator[tuple[str, str]]:
    """Yield the facts about imported batches: `norms` are those of their gradients, `losses` those of all steps of the script."""
    yield "run", source.title
    if source.steps:
        first, last = source.steps[0], source.steps[-1]
        missing = max(last + 1, len(losses)) - len(source.steps)
        yield "kept steps", f"{len(source.steps):,}, from step {first:,} to step {last:,}; {missing:,} others were not kept"
    yield "place", source.places[batch] if source.places else "its only batch"
    losses = np.ma.compressed(losses)
    finite = losses[np.isfinite(losses)]
    if len(finite):
        yield "first loss", rounded(finite[0])
        yield "last loss", rounded(finite[-1])
    norms = np.ma.filled(norms, math.nan)
    if np.isfinite(norms).any():
        largest = int(np.nanargmax(np.where(np.isfinite(norms), norms, -math.inf)))
        yield "largest gradient norm", rounded(norms[largest]) + (f" in {source.step(largest)}" if source.steps else "")
    if len(finite) < len(losses):
        yield "losses that are not finite", counted(len(losses) - len(finite), "step" if source.steps else "batch")


def _compared(moment: Moment, source: Imported) -> Iterator[tuple[str, str]]:
    expected = expected_of(moment.record, source, moment.position.batch)
    if expected is not None:
        yield "output", expected.sentence
    if remarks := source.batches[moment.position.batch].remarks():
        yield "gradients", remarks


# ------------------------------------------------------------------------------
# Gathers the contents of a report: configuration, curve, findings, units, sources of the loss, and samples.


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
    marks: Sequence[Mark] = (),
    *,
    title: str,
    held_out: Text = "",
    monitor: Monitor | None = None,
    progress: ReportProgress | None = None,
    is_complete: bool = True,
) -> RunReport:
    """Return the contents of a report on a run up to a moment.

    `held_out`, `monitor` and `progress` are as for `find`. Without `is_complete`, it has what runs are compared by: options, facts,
    curve, findings and samples. Raises `TuiGruError` if an argument is invalid or it is interrupted.
    """
    say = progress or (lambda words: None)
    program, config = timeline.program, timeline.program.config
    findings = find_problems(timeline, moment, samples, held_out=held_out, monitor=monitor, progress=progress)
    if isinstance(config.source, Imported):
        return replace(of_source(timeline, moment, config.source, title, findings), chapters=tuple(_chapters(timeline, marks)))
    losses = timeline.column("loss", 0, program.last_loss(moment.position.tick))
    has_text = config.source.can(Ability.TEXT)
    count = timeline.completed(moment.position)
    text = timeline.segment_at(moment.position.tick).trainer.corpus.text if has_text else ""
    say("reading the text")
    activity, read, accuracy = _read(timeline, moment, text[:TEXT], say) if has_text and is_complete else (None, None, math.nan)
    notes = tuple(_notes(activity, config)) if activity is not None else ()
    compared = baselines(text, config.vocab_size).lines if program.model.is_cross_entropy else ()
    figures: tuple[Figure, ...] = ()
    if is_complete and count:
        say("following gates and weights")
        figures = tuple(
            _figures_of_story(tell(timeline, count, held_out=held_out, check=lambda: say("following gates and weights")))
        )
    remembered = None
    if is_complete and has_text:
        say("measuring how far back it remembers")
        with suppress(TuiGruError):  # a model that does not read forwards, or weights that are not finite, have no such memory
            remembered = memory(program, moment.weights, text[:TEXT])
    say("drawing samples")
    return RunReport(
        title=title,
        options=(*_options(config), *_changed_settings(timeline, moment)),
        facts=(*_facts(moment, losses, accuracy), *_made_by(config)),
        figures=figures,
        memory=remembered,
        equations=tuple(_equations(program)),
        epoch=program.num_batches,
        curve=tuple(_curve(losses)),
        lines=tuple((name, value) for name, value in compared if math.isfinite(value)),
        unit="nats" if program.model.is_cross_entropy else "",
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
        chapters=tuple(_chapters(timeline, marks)),
    )


def _chapters(timeline: Timeline, marks: Sequence[Mark]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the marks with a text in the order of time: the place as a heading, and the lines."""
    for mark in sorted(marks, key=lambda mark: mark.tick):
        at = position_of(timeline.program, mark.tick)
        place = in_words(at.epoch, at.batch, at.t, at.phase, step=at.step) if mark.tick else "before the first line"
        lines = mark.text.split("\n") if mark.text else []
        after = "" if at.line is None else f"after {at.line.text}"
        branch = "" if len({mark.branch for mark in marks}) < 2 else f"on {mark.branch}"
        yield f"{mark.letter}: {', '.join(filter(None, (place, after, branch)))}", tuple(lines)


def printable_text(words: str) -> str:
    """Return a text on one line, with signs for invisible characters."""
    return "".join(map(in_line, words))


def _options(config: Config) -> Iterator[tuple[str, str]]:
    if config.source.can(Ability.TEXT):
        yield "text", f"{len(config.text):,} {token_word(config.vocabulary)}s, of {config.vocab_size} kinds"
    else:
        yield "input", config.source.title
        yield "target", counted(config.vocab_size, "class" if config.model.classifies else "output")
    for name, value in config.options.items():
        if name not in ("text", "vocabulary") and not name.endswith("_text") and value not in ("", False):
            yield name.replace("_", "-"), printable_text(str(value))
    yield "parameters", f"{config.parameter_count:,}"


def _changed_settings(timeline: Timeline, moment: Moment) -> Iterator[tuple[str, str]]:
    """Yield each setting of the update rule that was changed up to a moment, with its values and the places of the changes."""
    segments = [segment for segment in timeline.segments if segment.start <= moment.position.tick]
    for name in timeline.program.config.settings:
        changes = []
        for before, segment in pairwise(segments):
            if segment.settings.rule[name] != before.settings.rule[name]:
                at = timeline.position(segment.start)
                changes.append(f"to {rounded(segment.settings.rule[name])} at {in_words(at.epoch, at.batch)}")
        if changes:
            yield f"{name} changed", "; ".join(changes)


def _made_by(config: Config) -> Iterator[tuple[str, str]]:
    """Yield what made the report, when, and the command that starts the run."""
    versions = f"tui-gru {__version__}, Python {platform.python_version()}, NumPy {np.__version__}"
    yield "versions", versions
    yield "written", datetime.now().astimezone().isoformat(" ", "minutes")
    if config.source.can(Ability.TEXT):
        yield "command", command_line(config)


def _facts(moment: Moment, losses: ScalarRows, accuracy: float) -> Iterator[tuple[str, str]]:
    at = moment.position
    yield "place", in_words(at.epoch, at.batch)
    yield "batches run", f"{len(losses):,}"
    if len(losses):
        last = float(losses[-moment.program.num_batches :].mean())
        if not moment.program.model.is_cross_entropy:
            yield "first loss", rounded(losses[0])
            yield "loss of the last epoch", rounded(last)
            return
        unit = token_word(moment.vocabulary) if moment.program.config.source.can(Ability.TEXT) else "prediction"
        yield "first loss", f"{rounded(losses[0])} nats"
        yield "loss of the last epoch", f"{rounded(last)} nats, {rounded(bits(last))} bits a {unit}"
        if math.isfinite(choices := perplexity(last)):
            yield "perplexity", rounded(choices)
        if math.isfinite(accuracy):
            yield "accuracy", f"{100 * accuracy:.1f} % of the next {unit}s are the most likely ones, with the weights of this place"


def _curve(losses: ScalarRows) -> Iterator[tuple[int, float]]:
    """Yield the first loss, and the means of the others in at most `POINTS` − 1 pieces, each with its last batch, from 1;
    none where all losses are masked."""
    end = 0
    for piece in (losses[:1], *(np.array_split(losses[1:], min(POINTS - 1, len(losses) - 1)) if len(losses) > 1 else ())):
        end += len(piece)
        if len(values := np.ma.compressed(piece)):
            yield end, float(values.mean())


def _figures_of_columns(
    named: Sequence[tuple[str, Iterable[tuple[float, float]]]], *, limit: float = 0.0, of: str = "batches", epoch: int = 0
) -> tuple[Figure, ...]:
    """Return the figure of the norm of the gradient, and of the largest weight if it is given, each by its points."""
    lines = tuple(line for line in (FigureLine(name, tuple(points)) for name, points in named) if line.finite)
    title = f"norm of the gradient{', largest weight' if len(named) > 1 else ''}"
    return (Figure("gradient", title, lines, (("clip limit", limit),) if limit else (), True, of, epoch),) if lines else ()


def _figures_of_story(story: Story) -> Iterator[Figure]:
    """Yield the charts of a story: ‖∇‖, shares of gates near their limits, weights, steps, how far back gradients reach."""
    program, epoch = story.timeline.program, story.timeline.program.num_batches
    batches, written = story.batches + 1, program.writer.name

    def drawn(
        name: str, title: str, values: Mapping[str, ScalarRows], *, levels: Sequence[tuple[str, float]] = (), log: bool = False
    ) -> Iterator[Figure]:
        lines = tuple(
            FigureLine(label, tuple(zip(batches.tolist(), numbers.tolist(), strict=True)), sampled=True)
            for label, numbers in values.items()
            if np.isfinite(numbers).any()
        )
        if lines:
            yield Figure(name, title, lines, tuple(levels), log, epoch=epoch)

    if story.held_out:
        yield from drawn("held-out", "loss on the held-out text", {"held-out": story.of(lambda moment: moment.held_out)}, log=True)
    limit = program.config.settings.get("limit", 0.0)
    columns = (("‖∇‖", "grad_norm"), ("largest weight", "max_weight"))
    yield from _figures_of_columns([(name, _curve(story.columns[of])) for name, of in columns], limit=limit, epoch=epoch)
    shares_over_time = np.array([moment.shares for moment in story.moments]).T
    shares = {share.written(written(share.name)): values for share, values in zip(story.shares, shares_over_time, strict=True)}
    moving = {name: values for name, values in shares.items() if np.nan_to_num(values).any()} or shares
    rest = f"; {len(shares) - len(moving)} others are always 0" if len(moving) < len(shares) else ""
    yield from drawn("gates", f"shares of the entries of gates and states near their limits{rest}", moving)
    sizes = np.array([[moment.norms[name] for name in matrices_of(program)] for moment in story.moments]).T
    norms = {f"‖{written(name)}‖": values for name, values in zip(matrices_of(program), sizes, strict=True)}
    yield from drawn("weights", "norms of the weights", norms, log=True)
    steps = {"all weights": story.of(lambda moment: moment.step)}
    yield from drawn("steps", "‖ΔW‖ / ‖W‖ of a step", steps, levels=[("usual", 0.001)], log=True)
    back = story.of(lambda moment: reach(moment.reach, 0, direction=1).steps if len(moment.reach) else math.nan)
    title = "timesteps back to which the last prediction has a tenth of its largest gradient"
    yield from drawn("reach", title, {"timesteps": back})


def _read(timeline: Timeline, moment: Moment, text: Text, say: ReportProgress) -> tuple[Activity | None, TextLosses | None, float]:
    """Return the text read with the current weights, with those before training, and without each unit, its losses, and the
    share of the characters that were the most likely ones; nothing if the weights are not finite."""
    if not np.isfinite(moment.weights.parameters).all():
        return None, None, math.nan
    program, before = timeline.program, timeline.record(0).before
    state, loss = program.main_state, program.loss_names.row
    predicted = program.loss_names.prediction if program.model.is_cross_entropy else ""
    read = values_after_characters(program.config, moment.weights, text, [name for name in (state, loss, predicted) if name])
    activity = values_of_text(state, read, text)
    if moment.position.tick:
        activity = replace(
            activity, before=values_of_text(state, values_after_characters(program.config, before, text, [state]), text)
        )
    if not loss or len(text) < 2:
        return activity, None, math.nan
    accuracy = math.nan
    if predicted:
        accuracy = float((read[predicted][:-1].argmax(axis=1) == indices_of(program.config, text)[1:]).mean())

    def report_part(_: float, without: Float64Array) -> None:
        say(f"the loss without {np.isfinite(without).sum():,} of {activity.units:,} units")

    loss_of_all, without = loss_places.without_each_unit(
        program, moment.weights, text[: loss_places.ABLATED], state, progress=report_part
    )
    return replace(activity, loss=loss_of_all, without=without), loss_places.losses_of_text(read, program, text), accuracy


def _context(text: Text, at: int, config: Config) -> tuple[str, str, str]:
    before, char, after = context(text, at)
    blank = separator(config.vocabulary)
    return config.as_string(before) + blank, char, blank + config.as_string(after)


def _notes(activity: Activity, config: Config) -> Iterator[UnitNote]:
    """Yield units, sorted by what their correlation with a feature has gained."""
    features = activity.goes_with()
    added = np.full(activity.units, np.nan) if activity.without is None else activity.without - activity.loss
    order = sorted(range(activity.units), key=lambda unit: (-round(features[unit].gained, 2), -activity.deviations[unit]))
    for unit in order[:UNITS]:
        pick = activity.most if features[unit].r >= 0 else activity.least
        places = tuple(_context(activity.text, place.at, config) for place in pick(unit, PLACES))
        yield UnitNote(unit, str(features[unit].what), features[unit].r, places, features[unit].before, float(added[unit]))


def _samples(timeline: Timeline, moment: Moment, count: int) -> Iterator[tuple[str, str]]:
    """Yield the most likely characters after the text's first two, with the weights of several moments."""
    config = timeline.program.config
    if refused(config) is not None:
        return
    for batch in sorted({round(part * count / (SAMPLES - 1)) for part in range(SAMPLES)}):
        weights = moment.weights if batch == count else timeline.record(batch).before
        words = f"after {counted(batch, 'batch')}"
        try:
            yield words, sample_text(config, weights, config.as_string(config.text[:2]), LENGTH, temperature=0).text
        except TuiGruError as error:
            yield words, f"no sample: {error}"
            return


# ------------------------------------------------------------------------------
# The pictures of a report as SVG elements: the curve with its baselines, the units over the text, bars.


WIDTH, CURVE_HEIGHT = 960, 250
_INK, _DIM, _GRID, _LINE = "#1d2429", "#566168", "#c3c8c6", "#0b6b60"
_POSITIVE, _NEGATIVE = "#b5530f", "#1f5fa8"  # orange and blue, as on the screen
_LINES = (_LINE, _POSITIVE, _NEGATIVE, "#8a3f8f", "#7a6a00", "#b3261e", "#4d7f17", _DIM)  # inks of the lines of a chart
_PAPER, _NIGHT = "#fbfaf6", "#10171b"
#: The inks of a dark page by those of a light one. On both, each text has a contrast of 4.5 and more.
_DARK = dict(zip(_LINES, ("#4fc3b0", "#f0914a", "#7fb2ee", "#d18fd6", "#cbb84a", "#ff8a80", "#9ccc5a", "#97a3a9"), strict=True))
_DARK |= {_INK: "#d5dde0", _GRID: "#37434a"}
_FONT = 'font-family="ui-monospace,Menlo,Consolas,monospace"'
_CELL, _WIDEST, _MAPPED = 8, 16, 720  # pixels of a character of the heat map, of one in a short text, and of a text at most


def svg_text(x: float, y: float, words: str, *, size: int = 12, ink: str = _INK, anchor: str = "start", bold: bool = False) -> str:
    """Return a line of text whose base line is at `y`."""
    font = f'{_FONT} font-size="{size}" font-weight="{"bold" if bold else "normal"}"'
    return f'<text x="{x:g}" y="{y:g}" {font} fill="{ink}" text-anchor="{anchor}">{escape(words)}</text>'


def chart(figure: Figure) -> list[str]:
    """Return a figure as lines over axes with ticks: values at the left, batches and epochs below, names with last values at the
    right. Lines end where a value is not finite, and samples are points."""
    drawn = [(line, [point for point in line.finite if point[1] > 0 or not figure.logarithmic]) for line in figure.lines]
    lines = [(line, points) for line, points in drawn if points]
    if not lines:
        some = any(line.points for line in figure.lines)
        return [svg_text(0, 20, "none of the values can be drawn" if some else "no batch has been finished yet", ink=_DIM)]
    levels = [(name, value) for name, value in figure.levels if value > 0 or not figure.logarithmic]
    values = [value for _, points in lines for _, value in points] + [value for _, value in levels]
    low, high = min(values), max(values)
    if low == high:
        low, high = (low / 1.1, high * 1.1) if figure.logarithmic else (low - 0.5, high + 0.5)
    inks = [_LINES[i % len(_LINES)] for i in range(len(lines))]
    names = [(value, f"{name} {rounded(value)}", _DIM) for name, value in levels]
    names += [(points[-1][1], f"{of.name} {rounded(points[-1][1])}", ink) for (of, points), ink in zip(lines, inks, strict=True)]
    names.sort(reverse=True)
    left, right, top, bottom = 90, WIDTH - max(150, 14 + 7.3 * max(len(words) for _, words, _ in names)), 26, CURVE_HEIGHT - 40
    first, last = (pick(batch for line in figure.lines for batch, _ in line.points) for pick in (min, max))

    def x(batch: float) -> float:
        return left + (right - left) * ((batch - first) / (last - first) if last > first else 0.5)

    def y(value: float) -> float:
        scale = math.log if figure.logarithmic else float
        return bottom - (bottom - top) * (scale(value) - scale(low)) / (scale(high) - scale(low))

    across = f'x1="{left}" x2="{right}"'
    elements = [svg_text(left, 14, f"{figure.title}{', logarithmic' if figure.logarithmic else ''}", ink=_INK)]
    for value in value_ticks(low, high, logarithmic=figure.logarithmic):
        elements.append(f'<line {across} y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="{_GRID}" stroke-width="0.5"/>')
        elements.append(svg_text(left - 6, y(value) + 4, rounded(value), ink=_DIM, anchor="end"))
    elements.append(f'<polyline points="{left},{top} {left},{bottom} {right},{bottom}" fill="none" stroke="{_DIM}"/>')
    for batch in batch_ticks(first, last):
        elements.append(f'<line x1="{x(batch):.1f}" y1="{bottom}" x2="{x(batch):.1f}" y2="{bottom + 4}" stroke="{_DIM}"/>')
        elements.append(svg_text(x(batch), bottom + 16, f"{batch:,}", ink=_DIM, anchor="middle"))
    elements.append(svg_text(left - 14, bottom + 16, figure.of, ink=_DIM, anchor="end"))
    epochs = math.ceil(last / figure.epoch) if figure.epoch else 0
    for epoch in batch_ticks(1, epochs) if epochs > 1 else ():
        at = (epoch - 1) * figure.epoch + 1
        if first <= at <= last:
            elements.append(svg_text(x(at), bottom + 32, f"e{epoch:,}", ink=_DIM, anchor="middle"))
    elements += [svg_text(left - 14, bottom + 32, "epochs", ink=_DIM, anchor="end")] if epochs > 1 else []
    for _, value in levels:
        elements.append(f'<line {across} y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="{_DIM}" stroke-dasharray="3 3"/>')
    for (of, points), ink in zip(lines, inks, strict=True):
        for piece in _pieces(of, points):
            if of.sampled or len(piece) == 1:
                elements += [f'<circle cx="{x(batch):.1f}" cy="{y(value):.1f}" r="2" fill="{ink}"/>' for batch, value in piece]
            else:
                path = " ".join(f"{x(batch):.1f},{y(value):.1f}" for batch, value in piece)
                elements.append(f'<polyline points="{path}" fill="none" stroke="{ink}" stroke-width="1.5"/>')
    gap, below = min(13.0, (bottom - 8) / len(names)), bottom + 4 + 13.0
    for value, words, ink in reversed(names):  # from the lowest up: no two overlap, and none is below the axis
        below = min(y(value) + 4, below - gap)
        elements.append(svg_text(right + 6, below, words, ink=ink))
    return elements


def _pieces(of: FigureLine, points: Sequence[tuple[float, float]]) -> Iterator[list[tuple[float, float]]]:
    """Yield these points of a line in pieces, between the points of it that cannot be drawn."""
    drawn = set(points)
    yield from (list(piece) for can, piece in groupby(of.points, drawn.__contains__) if can)


def figure_svg(figure: Figure) -> str:
    """Return a figure as a complete picture, labelled with what its lines end with."""
    ends = [(line.name, line.finite[-1][1]) for line in figure.lines if line.finite]
    last_values = "; ".join(f"{name} {rounded(value)}" for name, value in (*ends, *figure.levels))
    return svg(
        chart(figure), WIDTH, CURVE_HEIGHT, label=f"{figure.title}. At the end: {last_values}" if last_values else figure.title
    )


def heat_map(report: RunReport) -> tuple[list[str], int, int]:
    """Return the units of the report over the first characters of its text, and the width and the height of the picture."""
    units, characters = report.values.shape
    left, top, cell = 80, 18, min(max(_MAPPED // max(characters, 1), _CELL), _WIDEST)
    names = [printable_text(char[:1]) for char in report.text]
    elements = [
        svg_text(left + (i + 0.5) * cell, top - 5, name, size=11, ink=_DIM, anchor="middle") for i, name in enumerate(names)
    ]
    for row, note in enumerate(report.units):
        y = top + row * 14
        elements.append(svg_text(left - 6, y + 11, f"unit {note.unit + 1}", ink=_DIM, anchor="end"))
        for i in range(characters):
            ink = _coloured(float(report.values[row, i]))
            elements.append(f'<rect x="{left + i * cell}" y="{y}" width="{cell}" height="13" {ink}/>')
        words = f"{note.goes_with} {correlation(note.r)}" if abs(note.r) >= 0.1 else ""
        elements.append(svg_text(left + characters * cell + 6, y + 11, words, ink=_DIM))
    return elements, left + characters * cell + 220, top + units * 14 + 6


def _coloured(value: float) -> str:
    """Return the attributes of a cell: orange above 0 and blue below, the stronger the larger."""
    if not math.isfinite(value):
        return f'fill="{_INK}"'
    return f'fill="{_POSITIVE if value >= 0 else _NEGATIVE}" fill-opacity="{min(abs(value), 1.0):.2f}"'


def svg_bars(values: Sequence[tuple[str, float, str]]) -> tuple[list[str], int]:
    """Return horizontal bars with a name, a value and a text after it, and the height of the picture."""
    largest = max((value for _, value, _ in values), default=1.0) or 1.0
    elements = []
    for row, (name, value, words) in enumerate(values):
        y, across = row * 18, max(value / largest, 0) * 200
        elements.append(svg_text(120, y + 12, name, ink=_DIM, anchor="end"))
        elements.append(f'<rect x="128" y="{y + 2}" width="{across:.1f}" height="12" fill="{_LINE}"/>')
        elements.append(svg_text(336, y + 12, words))
    return elements, 18 * len(values)


def classes(report: RunReport) -> list[tuple[str, float, str]]:
    """Return the mean loss of each class of characters as `bars` draws it, sorted by their share of the loss."""
    return [(share.name, share.mean, f"{decimals(share.mean, 2)}  {100 * share.share:.0f} %") for share in report.classes]


def svg(elements: Sequence[str], width: int, height: int, *, label: str) -> str:
    """Return elements as a complete picture."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img"'
    return f'{head} aria-label="{escape(label)}">{"".join(elements)}</svg>'


def translated(elements: Sequence[str], x: float, y: float) -> str:
    """Return elements moved to another place."""
    return f'<g transform="translate({x:g} {y:g})">{"".join(elements)}</g>'


# ------------------------------------------------------------------------------
# Writes a report as a page, a picture or a text. Each is a single file without scripts, fonts or references.


_STYLE = """\
:root { color-scheme: light dark; --ink: #1d2429; --dim: #566168; --paper: #fbfaf6; --bad: #b3261e; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); overflow-wrap: anywhere; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; } math { font-size: 1.15em; } summary { cursor: pointer; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; } h3 { font-size: 1rem; margin: .8rem 0 .3rem; }
table { border-collapse: collapse; } code, pre, th, td { font-family: ui-monospace, monospace; }
th, td { padding: .1rem 1rem .1rem 0; min-width: 6ch; vertical-align: top; font-size: .9rem; }
.equations td { vertical-align: middle; } th { color: var(--dim); font-weight: normal; text-align: left; overflow-wrap: normal; }
svg { max-width: 100%; height: auto; } mark { color: #1d2429; background: #f4c542; font-weight: bold; }
.finding { border-left: 4px solid var(--bad); padding-left: 1rem; margin: 1rem 0; } .finding ul { margin: .3rem 0; }
@media screen and (max-width: 48rem) {
  section { overflow-x: auto; } svg:not([width="420"]) { max-width: none; } .equations :is(tr, td) { display: block; }
}
@media print { body { margin: 0; max-width: none; } svg, tr, .finding { break-inside: avoid; } h2, h3 { break-after: avoid; } }
@media print { details::details-content { content-visibility: visible; } }
"""
#: Pictures have their inks as attributes, which rules override.
_INKS = (f'[fill="{light}"] {{ fill: {dark}; }} [stroke="{light}"] {{ stroke: {dark}; }}' for light, dark in _DARK.items())
_STYLE += f"@media screen and (prefers-color-scheme: dark) {{ {' '.join(_INKS)} :root {{ --ink: {_DARK[_INK]}; "
_STYLE += f"--dim: {_DARK[_DIM]}; --paper: {_NIGHT}; --bad: {_DARK['#b3261e']}; }} }}\n"
_SIGN = "▲"
_OF_UNITS = "unit", "follows (untrained)", "loss without", "strongest after"
_BLOCKS = "▁▂▃▄▅▆▇█"


def report_html(report: RunReport) -> str:
    """Return the report as an HTML page with embedded pictures."""
    parts = [f"<h1>{escape(printable_text(report.title))}</h1>", _of_texts(report.facts)]
    if report.chapters:
        parts.append(_section("Marks", "".join(map(_chapter_html, report.chapters))))
    if has_curve(report):
        parts.append(_section("Loss", figure_svg(report.loss)))
    if shown := [figure for figure in report.figures if figure.name != "held-out"]:
        parts.append(_section("How it came about", "".join(map(figure_svg, shown))))
    parts.append(_section(f"Findings: {len(report.findings) or 'none'}", "".join(map(finding_html, report.findings))))
    if report.units:
        parts.append(_section(f"Units of {report.name} over the text", _units_html(report)))
    if report.memory is not None:
        pictured = _bars("loss by characters read", _contexts(report.memory))
        parts.append(_section("How far back it remembers", f"<p>{escape(_remembers(report.memory))}</p>{pictured}"))
    if report.classes:
        parts.append(_section("Sources of the loss", _classes_html(report)))
    if report.samples:
        parts.append(_section("Samples", _of_texts((words, printable_text(drawn)) for words, drawn in report.samples)))
    if report.equations:
        parts.append(_section("Equations", "".join(_equations_html(*phase) for phase in report.equations)))
    parts.append(_section("Configuration", _of_texts(report.options)))
    return _page(printable_text(report.title), parts)


def _equations_html(phase: str, lines: Sequence[tuple[str, str]]) -> str:
    """Return the equations of a phase, set by the browser, each beside its text; backward pass and update are folded."""
    rows = "".join(f"<tr><td>{mathml}</td><td>{escape(words)}</td></tr>" for mathml, words in lines)
    state = " open" if phase in ("forward", "loss") else ""
    return f'<details{state}><summary>{phase}</summary><table class="equations">{rows}</table></details>'


def _page(title: str, parts: Sequence[str]) -> str:
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    return f'<!DOCTYPE html><html lang="en"><head>{head}</head><body><main>{"".join(parts)}</main></body></html>\n'


def _bars(title: str, values: Sequence[tuple[str, float, str]]) -> str:
    drawn, height = svg_bars(values)
    return svg(drawn, 420, height, label=f"{title}: {'; '.join(f'{name} {words}' for name, _, words in values)}")


def _contexts(remembered: ContextMemory) -> list[tuple[str, float, str]]:
    """Return the loss by the number of characters read, with that of all and of pairs, as bars."""
    named = [(f"{length:,} read", loss) for length, loss in zip(remembered.contexts, remembered.losses.tolist(), strict=True)]
    named += [("all read", remembered.whole), ("bigram", remembered.bigram)]
    return [(name, loss, decimals(loss, 4)) for name, loss in named if math.isfinite(loss)]


def _remembers(remembered: ContextMemory) -> str:
    """Say how far back a model remembers, and how far the influence of a character reaches."""
    far = " and ".join(f"{remembered.reach(of).steps} back by {of}" for of in ("gradient", "occlusion"))
    enough = f"{'' if remembered.ends else 'more than '}{counted(remembered.characters, 'character')}"
    believe = "" if remembered.agree else f" The loss by characters read agrees with {remembered.believed}."
    return f"Its predictions need {enough}. A character has a tenth of the largest influence, on average, up to {far}.{believe}"


def has_curve(report: RunReport) -> bool:
    """Return True if the run has a loss, or will have one, as every run on a text."""
    return bool(report.curve or report.lines)


def _chapter_html(chapter: tuple[str, tuple[str, ...]]) -> str:
    heading, lines = (escape(printable_text(chapter[0])), (escape(printable_text(line)) for line in chapter[1]))
    return f"<h3>{heading}</h3>{''.join(f'<p>{line}</p>' for line in lines)}"


def _section(heading: str, content: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>{content}</section>"


def _table(rows: Iterable[Sequence[str]], heads: Sequence[str] = ()) -> str:
    """Return rows, whose cells are HTML, as a table; the first cell of each is its head."""
    above = "".join(f'<th scope="col">{head}</th>' for head in heads)
    below = (f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>' for first, *rest in rows)
    return f"<table>{f'<tr>{above}</tr>' if heads else ''}{''.join(below)}</table>"


def _of_texts(rows: Iterable[Sequence[str]], heads: Sequence[str] = ()) -> str:
    return _table(([escape(cell) for cell in row] for row in rows), [escape(head) for head in heads])


def _marked(place: tuple[str, str, str]) -> str:
    before, char, after = (escape(printable_text(part)) for part in place)
    return f"{before}<mark>{char}</mark>{after}"


def _units_html(report: RunReport) -> str:
    drawn, width, height = heat_map(report)
    rows = (
        (f"unit {note.unit + 1}", escape(_correlated(note)), _added(note), "  ·  ".join(map(_marked, note.places)))
        for note in report.units
    )
    words = (
        "Orange is above 0, blue below. Of each unit the feature of the text that it follows since it was trained (Pearson's r, in "
        "brackets that before training), what the loss of the first characters gains if it is held at 0, and where it is strongest."
    )
    heat = svg(drawn, width, height, label="units over the text; the table below says what each follows")
    return f"{heat}<p>{words}</p>{_table(rows, _OF_UNITS)}"


def _classes_html(report: RunReport) -> str:
    words = "<p>Nats by class of the character to be predicted, and its share of the total.</p>"
    rows = ((decimals(loss, 2), _marked(place)) for place, loss in report.hardest)
    return f"{words}{_bars('the loss of each class', classes(report))}{_table(rows, ('loss', 'hardest places'))}"


def _correlated(note: UnitNote) -> str:
    """Return the feature that a unit follows, and the correlation with that before training."""
    return f"{note.goes_with} {correlation(note.r)} ({correlation(note.before)})"


def _added(note: UnitNote) -> str:
    """Return what the loss gains without a unit; empty if it is not known."""
    return decimals(note.added, 3, signed=True) if math.isfinite(note.added) else ""


def as_svg(report: RunReport) -> str:
    """Return the report as one picture, with curve, findings, units, classes and samples below each other."""
    drawn, y = [svg_text(0, 20, printable_text(report.title), size=18, bold=True)], 44
    for name, value in report.facts:
        drawn.append(svg_text(0, y, f"{name}: {value}"))
        y += 16
    if has_curve(report):
        for figure in (report.loss, *(other for other in report.figures if other.name != "held-out")):
            drawn.append(translated(chart(figure), 0, y))
            y += CURVE_HEIGHT + 20

    def heading(words: str) -> None:
        nonlocal y
        drawn.append(svg_text(0, y, words, size=14, bold=True))
        y += 20

    def lines(words: str, indent: int = 0) -> None:
        nonlocal y
        for line in textwrap.wrap(" ".join(words.split()), 128 - indent // 8, break_on_hyphens=False):
            drawn.append(svg_text(indent, y, line))
            y += 16

    for title, texts in report.chapters:
        heading(printable_text(title))
        for words in texts:
            lines(printable_text(words), 16)
        y += 6
    heading(f"findings: {len(report.findings) or 'none'}")
    for finding in report.findings:
        lines(f"{_SIGN} {finding.title}")
        lines(finding.meaning, 16)
        for evidence in finding.evidence:
            lines(f"· {evidence.words}", 16)
        lines(f"{finding.cure_label}: {finding.cure}", 16)
        y += 6
    for title, (elements, height) in (
        (f"units of {report.name} over the text", heat_map(report)[::2] if report.units else ([], 0)),
        ("loss by characters read", svg_bars(_contexts(report.memory)) if report.memory is not None else ([], 0)),
        (f"sources of the loss: {report.unit or 'mean'} by class of character", svg_bars(classes(report))),
    ):
        if elements:
            y += 14
            heading(title)
            drawn.append(translated(elements, 0, y - 12))
            y += height
    y += 14
    if report.samples:
        heading("samples")
    for words, sampled in report.samples:
        lines(f"{words}: {printable_text(sampled)}")
    background = f'<rect width="{WIDTH + 200}" height="{y + 24}" fill="{_PAPER}"/>'
    return svg([background, translated(drawn, 24, 16)], WIDTH + 200, y + 24, label=printable_text(report.title)) + "\n"


def as_markdown(report: RunReport) -> str:
    """Return the report as Markdown, with the curve and the units drawn with block characters."""
    out = [f"# {printable_text(report.title)}", "", *_rows(("", ""), report.facts), ""]
    out += ["## Marks", ""] if report.chapters else []
    for heading, texts in report.chapters:
        out += [f"### {printable_text(heading)}", "", *(line for paragraph in texts for line in (printable_text(paragraph), ""))]
    out += ["## Loss", ""] if has_curve(report) else []
    if finite := [loss for _, loss in report.curve if math.isfinite(loss)]:
        compared = ", ".join(f"{name} {rounded(value)}" for name, value in report.lines)
        out += [*_blocks_markdown([("", report)]), ""]
        out.append(f"{rounded(finite[0])} at the beginning, {rounded(finite[-1])} at the end.")
        out[-1] += f" For comparison: {compared}." if compared else ""
        out.append("")
    out += [f"## Findings: {len(report.findings) or 'none'}", ""]
    for finding in report.findings:
        out += [f"### {finding.title}", "", finding.meaning, ""]
        out += [
            *(f"- {evidence.words}" for evidence in finding.evidence),
            f"- {finding.cure_label}: {cure_written(finding.cure, str, '`{}`')}",
            "",
        ]
    if report.units:
        out += [f"## Units of {report.name} over the text", "", *_units_markdown(report), ""]
    if report.memory is not None:
        rows = [(name, words) for name, _, words in _contexts(report.memory)]
        out += ["## How far back it remembers", "", _remembers(report.memory), "", *_rows(("characters", "loss"), rows), ""]
    if report.classes:
        out += ["## Sources of the loss", ""]
        shares = [(share.name, decimals(share.mean, 2), f"{100 * share.share:.0f} %") for share in report.classes]
        out += [*_rows(("class", report.unit or "mean", "share"), shares), ""]
    if report.samples:
        out += ["## Samples", "", *(f"- {words}: `{printable_text(sampled)}`" for words, sampled in report.samples), ""]
    for phase, lines in report.equations:
        out += [f"## Equations: {phase}", "", *(f"    {words}" for _, words in lines), ""]
    out += ["## Configuration", "", *_rows(("", ""), report.options)]
    return "\n".join(out) + "\n"


def _blocks_markdown(named: Sequence[tuple[str, RunReport]]) -> Iterator[str]:
    """Yield the curves of reports as blocks on one scale, and what that and the way along them are."""
    curves = [(name, report, [loss for _, loss in report.curve if math.isfinite(loss)]) for name, report in named]
    all_losses = [loss for _, _, losses in curves for loss in losses]
    for name, report, losses in curves:
        drawn = _blocks(losses[:: max(1, len(losses) // 80)], all_losses)
        first, last = (report.curve[i][0] for i in (0, -1)) if report.curve else (0, 0)
        yield f"    {drawn}  {f'{name}: ' if name else ''}{report.of} {first:,} to {last:,}"
    if all_losses:
        yield f"    {_BLOCKS[0]} {rounded(min(all_losses))} … {_BLOCKS[-1]} {rounded(max(all_losses))}"


def _units_markdown(report: RunReport) -> list[str]:
    """Return a table of the units, and a line of blocks for each of them below the text."""
    rows = []
    for note in report.units:
        places = (f"`{''.join(map(printable_text, place))}`" for place in note.places)
        rows.append((f"unit {note.unit + 1}", _correlated(note), _added(note), " · ".join(places)))
    width = max(len(name) for name, *_ in rows)
    text_line = f"    {'':{width}} {''.join(printable_text(char[:1]) for char in report.text)}"
    drawn = [
        f"    {name:>{width}} {_blocks(values.tolist(), values.tolist())}"
        for (name, *_), values in zip(rows, report.values, strict=True)
    ]
    return [*_rows(_OF_UNITS, rows), "", text_line, *drawn]


def _blocks(values: Sequence[float], scale: Sequence[float]) -> str:
    """Draw values between the least and the largest finite number of a scale; what is not finite has no block."""
    finite = [value for value in scale if math.isfinite(value)]
    low = min(finite, default=0.0)
    span = max(finite, default=0.0) - low
    shares = [(value - low) / (span or 1.0) for value in values]
    return "".join(_BLOCKS[min(int(share * len(_BLOCKS)), len(_BLOCKS) - 1)] if math.isfinite(share) else " " for share in shares)


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    first, *others = (f"| {' | '.join(row)} |" for row in cells)
    return [first, f"|{'---|' * len(head)}", *others]


# Two runs beside each other


def comparison_html(compared: RunComparison) -> str:
    """Return a comparison as an HTML page."""
    one, other = map(escape, compared.names)
    parts = [f"<h1>{one} and {other}</h1>", _section("Loss", figure_svg(compared.loss))]
    parts.append(_section("What differs", _of_texts(compared.differing, ("", *compared.names))))
    for name, findings in zip(compared.names, compared.findings, strict=True):
        parts.append(_section(f"Findings of {name} alone: {len(findings) or 'none'}", "".join(map(finding_html, findings))))
    rows = [(when, printable_text(mine), then, printable_text(theirs)) for (when, mine), (then, theirs) in compared.samples]
    parts.append(_section("Samples", _of_texts(rows, ("", compared.names[0], "", compared.names[1]))))
    return _page(f"{compared.names[0]} and {compared.names[1]}", parts)


def comparison_svg(compared: RunComparison) -> str:
    """Return the curves of a comparison as a picture, above what differs."""
    drawn, y = [translated(chart(compared.loss), 0, 0)], CURVE_HEIGHT + 30
    for name, mine, theirs in (("", *compared.names), *compared.differing):
        drawn += [svg_text(0, y, name, ink=_DIM), svg_text(200, y, mine[:60]), svg_text(580, y, theirs[:60])]
        y += 16
    background = f'<rect width="{WIDTH + 48}" height="{y + 24}" fill="{_PAPER}"/>'
    label = " and ".join(compared.names)
    return svg([background, translated(drawn, 24, 16)], WIDTH + 48, y + 24, label=label) + "\n"


def comparison_markdown(compared: RunComparison) -> str:
    """Return a comparison as Markdown."""
    one, other = compared.names
    out = [f"# {one} and {other}", "", "## What differs", "", *_rows(("", one, other), compared.differing), "", "## Loss", ""]
    out += _blocks_markdown([(one, compared.mine), (other, compared.other)])
    for name, findings in zip(compared.names, compared.findings, strict=True):
        out += ["", f"## Findings of {name} alone: {len(findings) or 'none'}"]
        out += ["", *(f"- {finding.title}: {finding.meaning}" for finding in findings)] if findings else []
    rows = [(when, printable_text(mine), then, printable_text(theirs)) for (when, mine), (then, theirs) in compared.samples]
    return "\n".join([*out, "", "## Samples", "", *_rows(("", one, "", other), rows)]) + "\n"


#: By the ending of the file name.
COMPARISON_WRITERS: Mapping[str, Callable[[RunComparison], str]] = {
    ".html": comparison_html,
    ".svg": comparison_svg,
    ".md": comparison_markdown,
}
WRITERS: Mapping[str, Callable[[RunReport], str]] = {".html": report_html, ".svg": as_svg, ".md": as_markdown}
