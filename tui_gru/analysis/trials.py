"""Trials on copies of a run: the losses that other learning rates and other options would have given. The run is never changed."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from tui_gru.analysis.units import values_after_characters
from tui_gru.debugger.edits import Index, JournalEntry
from tui_gru.debugger.history import ScalarRows
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.position import in_words
from tui_gru.debugger.program import spoken
from tui_gru.debugger.segment import HistorySegment
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.config import FROM_FILE, LEARNS, TUTORIAL_TEXT, Config, defaults_for_text, text_of_tokens
from tui_gru.engine.model import page_of
from tui_gru.engine.numbers import rounded, significant
from tui_gru.engine.sampling import Sample, sample_text
from tui_gru.engine.source import Ability
from tui_gru.engine.training import RuleSettings, Trainer, corpus_of, initial_weights
from tui_gru.engine.weights import Array, Float64Array, Weights
from tui_gru.equations import syntax as e
from tui_gru.equations.axes import ranges_of
from tui_gru.equations.functions import FUNCTIONS
from tui_gru.equations.page import Page
from tui_gru.equations.syntax import SourceSpan
from tui_gru.errors import TuiGruError

RATES = tuple(float(f"{10.0 ** (exponent / 2):.2g}") for exponent in range(-10, 3))  # 1e-05, 3.2e-05, … 3.2, 10
RATE_BATCHES = 60  # that each learning rate is tried for
LEAST_BATCHES, MOST_BATCHES = 100, 500  # that a cure is tried for
LEAST_TRIED, MOST_TRIED = 20, 300  # batches of a trial while findings are looked for
WORK = 10**9  # products of a weight and a character that such a trial may compute
LONGEST_AGAIN = 100  # characters sampled again to compare with another sampler
_SHOWN_TEXT = 80  # characters of a text on a command line, at most
_FEW = 8  # batches that the loss after a trial is the mean of, at least
_SHARE = 5  # it is the mean of the last fifth of the trial
_SURE = 3.0  # times the standard error of a difference

# Called between two batches of a trial; it may raise an error, which ends the trial.
Interruption = Callable[[], object]


class Cure(NamedTuple):
    """An option of `Config.of`, or the sampler of a text, with a value that may remedy a finding; or with `UNDO`, the tick of the
    first of some changes that are taken back. `words` says what a cure does that is no option of the command line."""

    name: str
    value: Any
    words: str = ""

    @property
    def typed(self) -> str:
        """The option as it is typed on the command line: `--clip 1`; otherwise what it does, in words."""
        if self.words:
            return self.words
        word = self.name.replace("_", "-")
        if isinstance(self.value, bool):
            return f"--{word}" if self.value else f"--no-{word}"
        return f"--{word} {f'{self.value:.6g}' if isinstance(self.value, float) else self.value}"


class RateTrial(NamedTuple):
    """A learning rate, and the loss after a trial with it: the mean of the trial's last fifth; infinite if it is not finite."""

    rate: float
    loss: float


class CureTrial(NamedTuple):
    """An option as it is typed, with the loss of the same batches without it and with it."""

    option: str
    without: float
    loss: float


class TriedOption(NamedTuple):
    """An option, or None for the run as it is, with the losses of a trial with it; or why it cannot be tried, in words.

    The trial begins with the batch `since` (0-based, over the run). For a sampler, `text` is what it has sampled, and the losses
    are those of its characters when the model reads them.
    """

    cure: Cure | None
    losses: tuple[float, ...] = ()
    refused: str = ""
    text: str = ""
    since: int = 0

    @property
    def option(self) -> str:
        """The option as it is typed; empty for the run as it is."""
        return "" if self.cure is None else self.cure.typed

    @property
    def loss(self) -> float:
        """The loss after the trial, or of the whole text; infinite if it is not finite."""
        return float(np.mean(self.losses)) if self.text else loss_after(self.losses)


def last_losses(losses: Sequence[float] | ScalarRows) -> Float64Array:
    """Return the losses of the last fifth of some batches, of `_FEW` at least."""
    return np.asarray(losses, float)[-max(_FEW, len(losses) // _SHARE) :]


def loss_after(losses: Sequence[float] | ScalarRows) -> float:
    """Return the mean of `last_losses`, in nats; infinite if one is not finite."""
    last = last_losses(losses)
    return float(last.mean()) if len(last) and np.isfinite(last).all() else math.inf


def final_loss(loss: float) -> str:
    """Return the loss at the end of a trial, of `loss_after`, in words."""
    return rounded(loss) if math.isfinite(loss) else "a loss that is not finite"


def is_lower(losses: Sequence[float], losses_as_run: Sequence[float], by: float) -> bool:
    """Return True if a trial ends with a loss that is surely lower than that of another trial of the same batches, by some nats:
    the difference is `_SURE` times its standard error."""
    without, loss = loss_after(losses_as_run), loss_after(losses)
    if not (loss < without - by and math.isfinite(loss)):
        return False
    differences = last_losses(losses_as_run) - last_losses(losses) if math.isfinite(without) else np.zeros(1)
    return without - loss >= _SURE * float(differences.std()) / math.sqrt(len(differences))


# ------------------------------------------------------------------------------
# Learning rates, tried from the weights of a moment.


def try_rates(timeline: Timeline, moment: Moment, *, check: Interruption | None = None) -> Iterator[RateTrial]:
    """Yield the loss after `RATE_BATCHES` batches with each of `RATES` and with the run's own rate, in ascending order.

    Each trial begins with the batch of the moment, or with the next one if that is complete, with the weights, the states of the
    update rule and the hidden states that the run has there. Raises `TuiGruError` for a run that cannot be trained.
    """
    begin, rule = _Beginning(timeline, moment), timeline.segment_at(moment.position.tick).settings.rule
    if "learning_rate" not in rule:
        raise TuiGruError("the update rule of this run has no learning rate to be tried")
    for rate in sorted({*RATES, rule["learning_rate"]}):
        yield RateTrial(rate, loss_after(begin.losses({**rule, "learning_rate": rate}, RATE_BATCHES, check)))


class _Beginning:
    """The start of the first batch that is not complete at a moment: its number, its weights and its hidden states. With `before`,
    the text is that before a change there, as the moment is."""

    def __init__(self, timeline: Timeline, moment: Moment, *, before: bool = False) -> None:
        config, position = timeline.program.config, moment.position
        config.source.check(Ability.TRAIN)
        self.batch, record = timeline.completed(position), moment.record
        complete = self.batch > position.number
        # Records are recycled: what a trial begins with is copied.
        weights = record.after if complete else record.before
        self.weights = weights.copy()
        self.state = record.states(end=True).copy() if complete else record.states(end=False).copy()
        segment = timeline.segment_at(position.tick)
        self.trainer = Trainer(config, ((before and segment.base) or segment).trainer.corpus)
        self.earlier = timeline.earlier(self.batch)

    def losses(
        self, settings: RuleSettings, count: int, check: Interruption | None, *, learn: bool = True, config: Config | None = None
    ) -> list[float]:
        """Return the losses of `count` batches from here on, with another clip if a config is given; fewer if one is not finite."""
        trainer = self.trainer if config is None or config == self.trainer.config else Trainer(config, self.trainer.corpus)
        run = _batches(trainer, self.batch, self.weights, self.state, settings, self.earlier, learn=learn)
        return _losses(run, count, check)


def _batches(
    trainer: Trainer,
    batch: int,
    weights: Weights,
    state: Array,
    settings: RuleSettings,
    earlier: Sequence[BatchRecord] = (),
    *,
    learn: bool = True,
) -> Iterator[BatchRecord]:
    """Train from batch `batch` on, counted through all epochs, without end; yield each record."""
    config, before = trainer.config, list(earlier)
    while True:
        in_epoch = batch % config.num_batches
        if in_epoch == 0:
            before.clear()
        record = trainer.new_record()
        trainer.run(
            record, in_epoch, weights, trainer.carried(in_epoch, state), learn=learn, settings=settings, earlier=before
        )  # fmt: skip
        yield record
        batch, weights, state = batch + 1, record.after, record.states(end=True)
        if config.carry == "notebook":
            before.insert(0, record)


def _losses(run: Iterator[BatchRecord], count: int, check: Interruption | None) -> list[float]:
    losses: list[float] = []
    for record in run:
        losses.append(record.loss)
        if check is not None:
            check()
        if len(losses) == count or not math.isfinite(record.loss):
            return losses
    return losses


def fastest_rate(trials: Sequence[RateTrial]) -> RateTrial | None:
    """Return the trial with the lowest loss, of equal ones that with the smallest rate; None if none has a finite loss."""
    finite = (trial for trial in trials if math.isfinite(trial.loss))
    return min(finite, key=lambda trial: (trial.loss, trial.rate), default=None)


def smaller_rates(settings: RuleSettings) -> tuple[Cure, ...]:
    """Return a tenth and smaller parts of a learning rate as options; none without a rate that can be changed."""
    rate = settings.get("learning_rate", 0.0)
    return tuple(Cure("learning_rate", float(f"{rate / times:.2g}")) for times in (10, 30, 100, 1000) if rate)


def larger_rates(settings: RuleSettings) -> tuple[Cure, ...]:
    """Return multiples of a learning rate as options; usual rates if it is 0."""
    rate = settings.get("learning_rate", 0.0)
    return tuple(Cure("learning_rate", float(f"{(rate or 1e-4) * times:.2g}")) for times in (10, 100, 1000, 30, 10_000))


# ------------------------------------------------------------------------------
# Cures of a finding, tried from the first batch on.


LATER = ("learning_rate", "clip")  # options with which a run can go on from any batch
UNDO = "undo"  # the name of a cure that takes changes back
_NEW_WEIGHTS = ("init", "seed", "dtype", "cell", "hidden_size", "embedding", "layers", "bidirectional")
_TEXT_OF = {"cell": ("cell_text", "reset"), "optimizer": ("optimizer_text",)}  # options that belong to the value of another
_SETTING_OF = {"clip": "limit"}  # the setting of the update rule that an option sets, where its name is another


def cured(config: Config, cure: Cure) -> Config | None:
    """Return a config with one option changed; None if the run has that value already, or it does not fit the other options."""
    changed = _changed(config, cure)
    return changed if isinstance(changed, Config) else None


def _changed(config: Config, cure: Cure) -> Config | str:
    """Return a config with one option changed, or in words why it cannot be."""
    if getattr(config, cure.name) == cure.value:
        return "the run has it"
    options = {name: value for name, value in config.options.items() if name not in _TEXT_OF.get(cure.name, ())}
    try:
        return config.with_options({**options, cure.name: cure.value})
    except TuiGruError as error:
        return str(error)


def trial_batches(config: Config) -> int:
    """Return for how many batches an option may be tried while findings are looked for: fewer for a large model."""
    return min(MOST_TRIED, WORK // (config.parameter_count * config.batch_size * config.seq_length))


def can_have(timeline: Timeline, moment: Moment, cure: Cure) -> bool:
    """Return True if a run is another one with an option: it has not got it, and its other options allow it."""
    return cure.name == "sampler" or not isinstance(_with(timeline, moment, cure), str)


def losses_with(
    timeline: Timeline, moment: Moment, cure: Cure | None, count: int, *, since: int = 0, check: Interruption | None = None
) -> list[float] | None:
    """Return the losses of the first `count` batches of the run with an option, or with its own options for None; fewer if one is
    not finite. None if the run has the option already, or it does not fit its other options.

    The trial begins with the weights of the run, unless the option says how they are drawn or changes their shapes, and has the
    settings of the update rule at the moment. With `since` it begins at that batch, as a trial of `LATER` options can; a trial
    without some changes begins where they were made.
    """
    if cure is not None and cure.name == UNDO:
        return _losses_without(timeline, cure.value, count, check)
    segment = timeline.segment_at(moment.position.tick)
    changed = segment.trainer.config if cure is None else _with(timeline, moment, cure, since)
    if isinstance(changed, str):
        return None
    settings = {name: segment.settings.rule.get(name, value) for name, value in changed.settings.items()}
    weights = None
    if cure is not None:
        name = _SETTING_OF.get(cure.name, cure.name)
        settings |= {name: cure.value} if name in settings else {}
    if since:
        begin = _Beginning(timeline, timeline.moment(timeline.end_of(since - 1)))
        return begin.losses(settings, count, check, config=changed)
    if cure is not None:
        weights = initial_weights(changed) if cure.name in _NEW_WEIGHTS and changed.init != FROM_FILE else None
    if weights is None:
        weights = _with_layout(timeline.record(0).before, changed)
    trainer = Trainer(changed, corpus_of(changed))
    return _losses(_batches(trainer, 0, weights, trainer.initial_state(), settings), count, check)


def losses_without_learning(timeline: Timeline, since: int, count: int, check: Interruption | None = None) -> list[float]:
    """Return the losses of `count` batches from `since` on, at least 1, with the weights that the run has at the start of it."""
    moment = timeline.moment(timeline.end_of(since - 1))
    rule = timeline.segment_at(moment.position.tick).settings.rule
    return _Beginning(timeline, moment).losses(rule, count, check, learn=False)


def losses_with_first_weights(timeline: Timeline, batch: int, count: int, check: Interruption | None = None) -> list[float]:
    """Return the losses of `count` batches from `batch` on with the weights that the run began with, and zeros as the state."""
    moment = timeline.moment(timeline.end_of(batch))
    segment = timeline.segment_at(moment.position.tick)
    weights, trainer = timeline.record(0).before.copy(), Trainer(timeline.program.config, segment.trainer.corpus)
    run = _batches(trainer, batch, weights, trainer.initial_state(), segment.settings.rule, timeline.earlier(batch), learn=False)
    return _losses(run, count, check)


def _with(timeline: Timeline, moment: Moment, cure: Cure, since: int = 0) -> Config | str:
    """Return the config of a run with an option, or in words why there is none. A setting of the update rule is compared with that
    of the moment, which may have been changed since the run began."""
    if since and cure.name not in (*LATER, UNDO):
        return "only a new run can have it"
    segment, name = timeline.segment_at(moment.position.tick), _SETTING_OF.get(cure.name, cure.name)
    if cure.name == UNDO:
        return segment.trainer.config
    now, config = segment.settings.rule.get(name), segment.trainer.config
    if now == cure.value:
        return "the run has it"
    if cure.name in _NEW_WEIGHTS and config.init == FROM_FILE and cure.name not in ("init", "dtype"):
        return "the weights are from a file"
    return config if now is not None and getattr(config, cure.name) == cure.value else _changed(config, cure)


def tried_options(
    timeline: Timeline, moment: Moment, cures: Sequence[Cure], *, since: int = 0, check: Interruption | None = None
) -> Iterator[TriedOption]:
    """Yield the losses of the run as it is, then those with each of the cures.

    Each trial trains from the batch `since` on: as many batches as the run has from there on, at least `LEAST_BATCHES` and at most
    `MOST_BATCHES`. Where changes may be taken back, each begins where these were made. Raises `TuiGruError` for a run that cannot
    be trained.
    """
    timeline.program.config.source.check(Ability.TRAIN)
    completed = timeline.completed(moment.position)
    if (undo := next((cure for cure in cures if cure.name == UNDO), None)) is not None:
        since = timeline.completed(timeline.position(undo.value))
    count = min(max(completed - since, LEAST_BATCHES), MOST_BATCHES)
    for cure in (None, *cures):
        if cure is None and undo is not None:
            losses: list[float] | None = own_losses(timeline, moment, since, count, check)
        else:
            losses = losses_with(timeline, moment, cure, count, since=since, check=check)
        if losses is not None:
            yield TriedOption(cure, tuple(losses), since=since)
        elif cure is not None and isinstance(reason := _with(timeline, moment, cure, since), str):
            yield TriedOption(cure, refused=reason)


def own_losses(timeline: Timeline, moment: Moment, since: int, count: int, check: Interruption | None = None) -> list[float]:
    """Return the losses of `count` batches of the run from `since` on; it is continued as it is if it has fewer."""
    completed = timeline.completed(moment.position)
    losses: list[float] = timeline.column("loss", since, min(completed, since + count) - 1).tolist()
    if len(losses) < count and all(map(math.isfinite, losses)):
        now = timeline.segment_at(moment.position.tick).settings
        losses += _Beginning(timeline, moment).losses(now.rule, count - len(losses), check, learn=now.learning)
    return losses


# ------------------------------------------------------------------------------
# Changes of a run that may be taken back: of a number, of a setting, of the text, and that learning was turned off.


_MOST_NAMES = 4  # of changes that belong together
_NEIGHBOURS = 16  # batches between changes that belong together


def changes(timeline: Timeline, tick: int) -> Iterator[list[HistorySegment]]:
    """Yield the changes up to a tick that can be taken back, those that belong together in their order, the last ones first."""
    together: list[HistorySegment] = []
    segment: HistorySegment | None = timeline.segment_at(tick)
    while segment is not None:
        action = segment.action
        if action.kind in ("edit", "learning_rate") or (action.kind == "learning" and not action.value):
            if together and together[0].first_batch - segment.first_batch > _NEIGHBOURS:
                yield together
                together = []
            together = [segment, *together]
        segment = segment.before
    if together:
        yield together


def put_back(timeline: Timeline, tick: int) -> list[JournalEntry]:
    """Return the changes that take back those at a tick: what was changed, with the value before it."""
    moment, segment = timeline.moment_before(tick), timeline.chain.beginning_at(tick)
    entries = dict[tuple[str, Index], JournalEntry]()
    while segment is not None and segment.start == tick:
        action, before = segment.action, segment.base
        if before is None:
            break
        if action.kind == "learning" and not action.value:
            entries["learning", ()] = JournalEntry("learning", value=True)
        elif action.kind in ("edit", "learning_rate"):
            name = "learning_rate" if action.kind == "learning_rate" else action.name
            if name in before.settings.rule:
                value: Any = before.settings.rule[name]
            elif name == "text":
                value = before.trainer.corpus.text[action.index[0]]
            else:
                value = float(np.asarray(moment.value(name))[action.index])
            entries[name, action.index] = JournalEntry("edit", name, action.index, value)
        segment = segment.before
    return list(entries.values())[::-1]


def undo_of(timeline: Timeline, together: Sequence[HistorySegment]) -> Cure:
    """Return the cure that takes some changes back."""
    tick = together[0].start
    first, *others = put_back(timeline, tick)
    for start in dict.fromkeys(change.start for change in together if change.start > tick):
        others += put_back(timeline, start)
    begin = divmod(timeline.completed(timeline.position(tick)), timeline.program.num_batches)
    at = in_words(*begin)
    if first.kind == "learning":
        return Cure(UNDO, tick, f"turn learning on again at {at}")
    subject = first.name
    if first.index:
        is_text = first.name == "text"
        subject = f"character {first.index[0] + 1} of the text" if is_text else spoken(timeline.program, first.name, first.index)
    if others:
        names = dict.fromkeys((subject, *(change.name for change in others if change.name != first.name)))
        words = ", ".join(names) if len(names) <= _MOST_NAMES else f"{subject} and {len(names) - 1} others"
        return Cure(UNDO, tick, f"take {1 + len(others)} changes back at {at}: of {words}")
    value = first.value if isinstance(first.value, str) else significant(first.value)
    return Cure(UNDO, tick, f"put {subject} back to {value} at {at}")


def _losses_without(timeline: Timeline, tick: int, count: int, check: Interruption | None) -> list[float]:
    """Return the losses of `count` batches from `tick` on if the run goes on there as it was before its changes."""
    changed = timeline.chain.beginning_at(tick)
    assert changed is not None
    assert changed.base is not None
    return _Beginning(timeline, timeline.moment_before(tick), before=True).losses(changed.base.settings.rule, count, check)


# ------------------------------------------------------------------------------
# Cells of one's own with a line changed where cells often have a mistake: a number, a sign, a function, no way through the line.


_MOST_REPAIRS = 12
_PLUS, _MINUS = "+", "−"


def repairs(config: Config) -> Iterator[Cure]:
    """Yield the user's cell with one place of a line changed, for each place that may be a mistake; at most `_MOST_REPAIRS`."""
    page = page_of(config.structure, "cell") if config.cell_text else None
    cures = islice(_repairs(page, config.cell_text), _MOST_REPAIRS) if page is not None else ()
    yield from (cure for cure in cures if cured(config, cure) is not None)


def _repairs(page: Page, text: str) -> Iterator[Cure]:
    ranges, lines = ranges_of(page), text.splitlines()

    def cell(span: SourceSpan | None, new: str, words: str) -> Iterator[Cure]:
        if span is not None:
            line = lines[span.line - 1]
            changed = [*lines[: span.line - 1], f"{line[: span.start]}{new}{line[span.stop :]}", *lines[span.line :]]
            yield Cure("cell_text", "\n".join(changed), words)

    def written(span: SourceSpan | None) -> str:
        return "" if span is None else lines[span.line - 1][span.start : span.stop]

    for line in page.lines:
        for node in line.formula.walk():
            for part in node.children:
                number = part.argument if isinstance(part, e.Negative) else part
                if not isinstance(number, e.Number) or number.value == 1:
                    continue
                if isinstance(node, e.Times | e.Quotient | e.Sum):
                    plain = "0" if isinstance(node, e.Sum) else "1"
                    words = f"the line {line.target} with {plain} in the place of {written(number.span)}"
                    yield from cell(number.span, plain, words)
            formula, ones = written(node.span), [part for part in node.children if isinstance(part, e.Number) and part.value == 1]
            plus = isinstance(node, e.Sum) and not any(isinstance(part, e.Negative) for part in node.parts)
            if ones and plus and formula.count(_PLUS) == 1:
                new = formula.replace(_PLUS, _MINUS)
                yield from cell(node.span, new, f"the line {line.target} with {new} in the place of {formula}")
            if isinstance(node, e.Apply) and len(node.parts) == 1 and isinstance(node.parts[0], e.Apply):
                inner = written(node.parts[0].span)
                yield from cell(node.span, inner, f"the line {line.target} without the outer {FUNCTIONS[node.function].text}")
    for line in page.lines:
        formula = written(line.formula.span)
        if line.target in page.states:
            half = f"0.5 ⊙ {page.before(line.target)} + 0.5 ⊙ ({formula})"
            yield from cell(line.formula.span, half, f"the line {line.target} that keeps half of {page.before(line.target)}")
        if not all(map(math.isfinite, ranges[line.target])):
            for function in ("tanh", "σ"):
                yield from cell(line.formula.span, f"{function}({formula})", f"the line {line.target} within {function}")


# ------------------------------------------------------------------------------
# Samplers, tried with the same weights and random numbers.


def tried_samplers(config: Config, weights: Weights, drawn: Sample, *cures: Cure) -> Iterator[TriedOption]:
    """Yield a text as it was sampled, then as other samplers sample it with the same weights and random numbers.

    Of a long text, the first `LONGEST_AGAIN` characters are sampled. Raises `TuiGruError` for weights that are not finite.
    """
    primer, length, name = config.as_string(drawn.primer), min(len(drawn.draws), LONGEST_AGAIN), config.model.prediction
    for cure in (None, *cures):
        sampler = drawn.sampler if cure is None else cure.value
        sample = sample_text(config, weights, primer, length, sampler=sampler, temperature=drawn.temperature, seed=drawn.seed)
        chances = values_after_characters(config, weights, text_of_tokens(sample.tokens, config.vocabulary), [name])[name]
        chosen = chances[np.arange(length) + len(sample.primer) - 1, [draw.index for draw in sample.draws]]
        losses = -np.log(np.maximum(chosen.astype(np.float64), np.finfo(np.float64).tiny))
        yield TriedOption(cure, tuple(losses.tolist()), text=sample.text)


def better(options: Sequence[TriedOption]) -> tuple[CureTrial, ...]:
    """Return the options that have lowered the loss, the lowest first; the first of `options` is the run as it is."""
    if not options:
        return ()
    without = options[0].loss
    lower = (
        CureTrial(option.option, without, option.loss) for option in options[1:] if not option.refused and option.loss < without
    )
    return tuple(sorted(lower, key=lambda trial: trial.loss))


def command_line(config: Config, option: str = "") -> str:
    """Return the command that starts a run with the options of a config, and with one of them as it is typed in `option`, if any.

    What is in a file, a longer text or a cell of one's own, is a name in capitals.
    """
    plain = Config.__dataclass_fields__
    usual = {name: plain[name].default for name in plain} | _own_defaults(config)
    words = ["tui-gru"]
    if config.text != TUTORIAL_TEXT:
        short = isinstance(config.text, str) and len(config.text) <= _SHOWN_TEXT and config.text.isprintable()
        words += ["--text", shlex.quote(str(config.text))] if short else ["--file", "TEXT"]
    for name, value in config.options.items():
        if name in ("text", "vocabulary", "reset") or name not in usual or value in ("", usual[name]):
            continue
        if name.endswith("_text"):
            words += [f"--{name.removesuffix('_text')}", f"{name.removesuffix('_text').upper()}-FILE"]
        elif not getattr(config, f"{name}_text", "") and Cure(name, value).typed.split()[0] not in option.split()[:1]:
            words.append(Cure(name, value).typed)
    return " ".join([*words, option]).rstrip()


def _own_defaults(config: Config) -> dict[str, Any]:
    """Return the defaults of a config that differ from the tutorial's."""
    if not config.text:
        return LEARNS
    if config.text == TUTORIAL_TEXT:
        return {}
    defaults = defaults_for_text(len(config.text))
    if (config.batch_size, config.seq_length) != (defaults["batch_size"], defaults["seq_length"]):
        defaults["batch_size"] = defaults["seq_length"] = None  # the default of one depends on the other, so both are written
    return defaults


def changed_line(config: Config, cure: Cure) -> str:
    """Return the line of the user's cell that is different with a cure, as it is to be written."""
    changed: str = cure.value
    lines = zip(config.cell_text.splitlines(), changed.splitlines(), strict=True)
    return next(new for old, new in lines if new != old)


def _with_layout(weights: Weights, config: Config) -> Weights:
    """Return weights with the same parameters in the layout and the type of a config, whose update rule may have other states."""
    same = Weights.zeros(config.compiled.layout, config.dtype)
    for name in same.names:
        same[name][...] = weights[name]
    return same
