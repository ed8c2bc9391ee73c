"""The table of all findings: the order in which they are computed, and which of them follow from which."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from enum import IntEnum
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tui_gru.analysis import findings_of_course as course
from tui_gru.analysis import findings_of_data as data
from tui_gru.analysis import findings_of_ports as ported
from tui_gru.analysis import findings_of_scripts as scripts
from tui_gru.analysis import findings_of_training as training
from tui_gru.analysis.causes import TRIAL_ALONE, causes_of
from tui_gru.analysis.examined import NO_OPTION, Evidence, Finding, RunFacts
from tui_gru.analysis.trials import (
    LEAST_TRIED,
    Cure,
    changes,
    is_lower,
    loss_after,
    losses_with,
    own_losses,
    repairs,
    trial_batches,
    undo_of,
)
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.segment import Monitor
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.config import Text
from tui_gru.engine.numbers import counted, rounded
from tui_gru.engine.source import Ability
from tui_gru.engine.weights import NUMPY_SETTINGS

if TYPE_CHECKING:
    from tui_gru.engine.sampling import Sample

MOST_EXAMINATIONS = 12  # of earlier moments, to find out since when a run shows a finding
MOST_CHANGES = 3  # places of changes made by hand that may be the cause of a finding
_BETTER, _MOST_FIRST = 0.05, 3  # nats by which a cure that is offered first lowers the loss; such cures of one's own cell
MOST_JUMPS = 4  # of the loss, after which it is examined what has gone again
EARLIER_MOMENTS = 6  # on a logarithmic scale of the batches, and half as many evenly, that are examined for what has gone again


class Harm(IntEnum):
    """How much harm a finding does, in the order in which findings are listed."""

    STOPS = 0  # a run stops at it
    NOT_FINITE = 1
    DIVERGES = 2  # what was learned is lost, or the loss grows
    COSTS = 3  # the loss is higher than it need be, or the numbers are others than those that are meant
    REMARK = 4  # the loss hardly depends on it


class FindingRule(NamedTuple):
    """A row of the table: the name of a finding, its function, and how much harm it does.

    If it is found, those in `instead_of` are omitted, and those in `effects` are its consequences. `placed` is True if the tick of
    the finding is where the run shows it first, so that earlier moments need not be examined. `passes` is True if a healthy run may
    show it for a while: that is no mistake where it has gone again. `shown` says whether there is a finding at all, where that is
    known without a replay.
    """

    name: str
    find: Callable[[RunFacts], Iterator[Finding]]
    harm: Harm = Harm.COSTS
    instead_of: tuple[str, ...] = ()
    effects: tuple[str, ...] = ()
    placed: bool = False
    passes: bool = False
    shown: Callable[[RunFacts], bool] | None = None

    def is_shown(self, examined: RunFacts) -> bool:
        """Return True if a run shows the finding."""
        return next(self.find(examined), None) is not None if self.shown is None else self.shown(examined)


#: What weights that are too large, or steps that are too large, lead to.
_OF_LARGE_WEIGHTS = (
    "exploding-gradient", "vanishing-gradient", "softmax-underflow", "saturated-gate", "gate-never-opens", "dead-unit",
    "mostly-clipped", "zero-gradient", "never-predicted", "worse-than-a-table", "units-are-identical", "rate-too-small",
)  # fmt: skip
_OF_LARGE_STEPS = ("explodes", "not-finite", "loss-not-finite", "loss-rises", "loss-jumps", *_OF_LARGE_WEIGHTS)

_OF_EXPLOSION = tuple(name for name in _OF_LARGE_STEPS if name not in ("explodes", "exploding-gradient"))

#: What a change made by hand may lead to, or a mistake in a cell of the user's own.
_OF_HAND = frozenset(
    {"rate-too-large", "initial-loss", "learning-is-off", "recurrent-weights-too-large", "state-stays-small", *_OF_LARGE_STEPS}
)

#: What follows from a change at once, so that it is taken back even if little is lost in the end.
_AT_ONCE = frozenset({"rate-too-large", "rate-too-small", "learning-is-off", "loss-jumps"})

#: What else a script shows that does not train its module as it means to.
_OF_NO_LEARNING = (
    "zero-gradient", "vanishing-gradient", "rate-too-small", "dead-unit", "no-gradient", "all-gradients-0", "steps-are-lost",
)  # fmt: skip

_OF_TINY_STEPS = ("rate-too-small", "steps-are-tiny")


def _of_cause(name: str, x: RunFacts) -> Iterator[Finding]:
    """Yield the finding of a cause that the watched steps of a script show."""
    for cause in causes_of(x.watched):
        if cause.name == name and cause.proof != TRIAL_ALONE:
            position = x.end(0) if x.count else None
            evidence = (Evidence(cause.seen),)
            yield Finding(name, cause.title, cause.meaning, cause.cure, evidence, position, is_observation=not cause.proof)


def _by_facts(name: str, *instead_of: str, effects: tuple[str, ...] = _OF_NO_LEARNING, harm: Harm = Harm.COSTS) -> FindingRule:
    """Return the row of a cause that facts show: other rules for it are left out, where its facts are there."""
    return FindingRule(name, partial(_of_cause, name), harm, (name, *instead_of), effects)


#: What units do, which no experiment connects to the loss of a script.
_OF_UNITS = ("dead-unit", "saturated-gate", "gate-never-opens")

_OF_LARGE_INPUTS = (*_OF_LARGE_WEIGHTS, *_OF_NO_LEARNING, "one-timestep", "input-not-read", "end-not-read")

#: Causes that facts of a script show, by themselves.
_BY_FACTS = (
    _by_facts("optimizer-of-other", "not-in-optimizer"),
    _by_facts("no-backward"),
    _by_facts("cleared-before-step"),
    _by_facts("gradient-not-cleared", effects=("rate-too-large", *_OF_LARGE_STEPS)),
    _by_facts("accumulation-lost"),
    _by_facts("gradient-turned", "gradient-ascent", effects=_OF_LARGE_STEPS, harm=Harm.DIVERGES),
    _by_facts("clipped-too-late", effects=("rate-too-large", *_OF_LARGE_STEPS)),
    _by_facts("rate-is-0"),
    _by_facts("optimizer-recreated"),
    _by_facts("maximize", "gradient-ascent", effects=("rate-too-large", *_OF_LARGE_STEPS), harm=Harm.DIVERGES),
    _by_facts("not-in-optimizer", effects=("gradient-not-cleared", *_OF_NO_LEARNING)),
    _by_facts("never-moves"),
    _by_facts("frozen"),
    _by_facts("not-registered"),
    _by_facts("under-no-grad", "not-in-optimizer"),
    _by_facts("detached"),
    _by_facts("no-gradient"),
    _by_facts("all-gradients-0"),
    _by_facts("last-output-of-both-directions"),
    _by_facts("evaluating"),
    _by_facts("learns-in-evaluation", effects=()),
    _by_facts("detached-at-every-timestep", effects=()),
    _by_facts("equal-weights", "units-are-identical"),
    _by_facts("tokens-alike"),
    _by_facts("softmax-over-other-axis"),
    _by_facts("changed-outside"),
    _by_facts("dropout"),
    _by_facts("nan-input", "loss-not-finite", harm=Harm.NOT_FINITE),
    _by_facts("zero-input"),
    _by_facts("constant-input"),
    _by_facts("same-batch"),
    _by_facts("softmax-twice"),
    _by_facts("sigmoid-before-ce"),
    _by_facts("relu-before-ce"),
    _by_facts("tanh-before-ce"),
    _by_facts("nll-without-log"),
    _by_facts("sigmoid-twice", "steps-are-tiny"),
    _by_facts("kl-without-log"),
    _by_facts("target-out-of-range"),
    _by_facts("broadcast"),
    _by_facts("view-not-transpose", "one-row-learns"),
    _by_facts("smoothing"),
    _by_facts("constant-target"),
    _by_facts("no-log"),
    _by_facts("negated", "gradient-ascent", effects=_OF_LARGE_STEPS, harm=Harm.DIVERGES),
    _by_facts("random-state"),
    _by_facts("state-swapped"),
    _by_facts("one-timestep-chunks"),
    _by_facts("carried-over-shuffled", "rows-do-not-continue"),
    _by_facts("clipped-too-early", effects=("rate-too-large", *_OF_LARGE_STEPS)),
    _by_facts("rate-decayed"),
    _by_facts("rows-alike"),
    _by_facts("inputs-shrink"),
    _by_facts("softmax-over-one"),
    _by_facts("over-rows", "one-row-learns"),
    _by_facts("nan-target", "loss-not-finite", effects=_OF_LARGE_STEPS, harm=Harm.NOT_FINITE),
    _by_facts("losses-lost"),
    _by_facts("blank-in-targets"),
    _by_facts("ctc-too-short"),
    _by_facts("target-is-input"),
    _by_facts("target-in-input"),
    _by_facts("text-across-rows"),
    _by_facts("missing-as-number", "units-are-identical", effects=_OF_LARGE_INPUTS),
    _by_facts("input-scale", "units-are-identical", effects=_OF_LARGE_INPUTS),
    _by_facts("target-scale"),
    _by_facts("state-not-passed"),
    _by_facts("steps-are-lost"),
)

TABLE = (
    *_BY_FACTS,
    FindingRule("script-ended", scripts.script_ended, Harm.STOPS, placed=True),
    FindingRule(
        "not-finite",
        training.not_finite,
        Harm.NOT_FINITE,
        ("saturated-gate", "gate-never-opens", "dead-unit", "zero-gradient", "rate-too-small", "never-predicted", "overfitting"),
        ("loss-jumps", "softmax-underflow", "mostly-clipped", "worse-than-a-table", "exploding-gradient", "vanishing-gradient"),
        placed=True,
    ),
    FindingRule("sampler-without-feedback", data.sampler_without_feedback, placed=True),
    FindingRule("rows-do-not-continue", data.rows_do_not_continue),
    FindingRule("gradient-into-earlier-batches", data.gradient_into_earlier_batches),
    FindingRule("rows-know-each-other", data.rows_know_each_other),
    FindingRule("character-never-seen", data.character_never_seen, Harm.REMARK),
    FindingRule("axes-swapped", ported.axes_swapped),
    FindingRule("padding-moves-the-state", ported.padding_moves_the_state),
    FindingRule("gates-mixed-up", ported.gates_mixed_up),
    FindingRule("reset-mixed-up", ported.reset_mixed_up),
    FindingRule("z-flipped", ported.z_flipped),
    FindingRule("forget-bias-mixed-up", ported.forget_bias_mixed_up),
    FindingRule("biases-counted-twice", ported.biases_counted_twice),
    FindingRule("bias-left-out", ported.bias_left_out),
    FindingRule("biases-merged", ported.biases_merged),
    FindingRule("output-not-expected", ported.output_not_expected),
    FindingRule("adam-uncorrected", ported.adam_uncorrected),
    FindingRule("one-row-learns", scripts.one_row_learns, effects=_OF_NO_LEARNING),
    FindingRule("last-output-is-padding", scripts.last_output_of_padded_rows, effects=_OF_NO_LEARNING),
    FindingRule("state-is-stale", scripts.state_is_stale, effects=()),
    FindingRule("detached-at-every-timestep", scripts.detached_at_every_timestep, effects=()),
    FindingRule("exploding-gradient", scripts.gradient_grows, Harm.DIVERGES, effects=("rate-too-large", *_OF_LARGE_STEPS)),
    FindingRule("gradient-ascent", scripts.gradient_ascent, Harm.DIVERGES, ("rate-too-large", "loss-rises"), _OF_LARGE_STEPS),
    FindingRule("loss-rises", scripts.loss_rises, Harm.DIVERGES, ("loss-rises", "loss-jumps")),
    FindingRule("weights-are-rounded", scripts.weights_are_rounded, instead_of=_OF_TINY_STEPS, effects=()),
    FindingRule("mostly-clipped", scripts.mostly_clipped, instead_of=_OF_TINY_STEPS, effects=()),
    FindingRule("steps-are-tiny", scripts.steps_are_tiny, effects=()),
    FindingRule("vanishing-gradient", scripts.gradient_vanishes, effects=()),
    FindingRule("loss-not-finite", scripts.loss_not_finite, Harm.NOT_FINITE),
    FindingRule("target-is-read", course.target_is_read),
    FindingRule("gradient-ascent", course.gradient_ascent, Harm.DIVERGES, effects=("rate-too-large", *_OF_LARGE_STEPS)),
    FindingRule(
        "exploding-gradient",
        training.exploding_gradient,
        Harm.DIVERGES,
        effects=("explodes", "not-finite", "mostly-clipped", "softmax-underflow"),
    ),
    FindingRule("initial-loss", course.initial_loss, effects=(*_OF_LARGE_WEIGHTS, "rate-too-large", "explodes")),
    FindingRule(
        "recurrent-weights-too-large",
        course.recurrent_weights_too_large,
        Harm.DIVERGES,
        effects=(*_OF_LARGE_STEPS, "rate-too-large"),
        placed=True,
    ),
    FindingRule(
        "rate-too-large",
        course.rate_too_large,
        Harm.DIVERGES,
        ("explodes", "loss-rises", "rate-too-small"),
        _OF_LARGE_STEPS,
        placed=True,
    ),
    FindingRule("explodes", course.explodes, Harm.STOPS, effects=_OF_EXPLOSION, placed=True),
    FindingRule(
        "mostly-clipped",
        training.mostly_clipped,
        effects=("rate-too-small", "worse-than-a-table"),
        shown=training.is_mostly_clipped,
    ),
    FindingRule("rate-too-small", course.rate_too_small, effects=("worse-than-a-table", "never-predicted"), placed=True),
    FindingRule("learning-is-off", course.learning_is_off, effects=("worse-than-a-table",), placed=True),
    FindingRule("loss-rises", course.loss_rises, Harm.DIVERGES, effects=_OF_LARGE_WEIGHTS, shown=course.has_risen),
    FindingRule(
        "units-are-identical",
        training.units_are_identical,
        effects=(*_OF_NO_LEARNING, "saturated-gate", "worse-than-a-table", "never-predicted"),
    ),
    FindingRule(
        "state-stays-small", training.state_stays_small, effects=(*_OF_NO_LEARNING, "worse-than-a-table", "never-predicted")
    ),
    FindingRule("zero-gradient", training.zero_gradient, effects=("vanishing-gradient", "dead-unit", "worse-than-a-table")),
    # A model that has learned which characters follow each other, and not yet what is farther away, hardly needs its states.
    FindingRule("vanishing-gradient", training.vanishing_gradient, effects=("worse-than-a-table",), passes=True),
    FindingRule("softmax-underflow", training.softmax_underflow, Harm.REMARK),
    FindingRule("gate-never-opens", training.gate_never_opens, effects=("worse-than-a-table", "state-stays-small")),
    FindingRule("dead-unit", training.dead_unit, effects=("worse-than-a-table",)),
    FindingRule(
        "saturated-gate",
        training.saturated_gate,
        effects=("zero-gradient", "vanishing-gradient", "dead-unit", "state-stays-small"),
    ),
    FindingRule(
        "loss-jumps",
        course.loss_jumps,
        Harm.DIVERGES,
        effects=("loss-rises", "softmax-underflow", "rate-too-small", "worse-than-a-table"),
        placed=True,
    ),
    FindingRule("never-predicted", course.never_predicted),
    FindingRule("worse-than-a-table", course.worse_than_a_table, shown=course.is_worse_than_a_table),
    FindingRule("overfitting", course.overfitting, placed=True),
)


def find_problems(
    timeline: Timeline,
    moment: Moment,
    samples: Sequence[Sample] = (),
    *,
    held_out: Text = "",
    monitor: Monitor | None = None,
    progress: Callable[[str], object] | None = None,
) -> tuple[Finding, ...]:
    """Return all findings in a run up to a moment and in its samples: each independent one, followed by its consequences.

    `held_out` is a text that was not trained on. Batches are replayed as needed; `monitor` sees them and may raise an error, and
    `progress` receives a description of each part. The run and its records are not changed.
    """

    examined = RunFacts(timeline, moment.position, samples, held_out, monitor)
    examined.moment = moment
    with NUMPY_SETTINGS:
        findings = _all(examined, progress)
        # The batches of a recording or a model file are independent: their findings begin where they are shown best.
        trains = examined.config.source.can(Ability.TRAIN)
        rules = [row for row in findings if not row.placed] if trains and examined.count else []
        facts = partial(RunFacts.after, timeline, samples=samples, held_out=held_out, monitor=monitor)
        first = _first_seen(rules, examined.count, facts, progress)
        end = moment.position.tick if trains else timeline.end_of(examined.count - 1)
        for row, of_rule in findings.items():
            ticks = (end if finding.tick is None else finding.tick for finding in of_rule)
            if row in first:
                ticks = (timeline.end_of(first[row] - 1) for _ in of_rule)
            begins = (timeline.position(min(tick, end)) for tick in ticks)
            findings[row] = [replace(finding, first_seen=begin) for finding, begin in zip(of_rule, begins, strict=True)]
        _say_what_stops(findings, examined)
        causes = {finding.name for finding in by_cause(findings) if finding.cause is None} if trains and examined.count else set()
        for row, of_rule in findings.items():
            if row.name in causes & _OF_HAND:
                findings[row] = _with_the_cure_of(_with_first_cure(of_rule[0], row, examined, facts), of_rule[1:])
    return tuple(by_cause(findings))


def _say_what_stops(findings: dict[FindingRule, list[Finding]], x: RunFacts) -> None:
    """Let the finding of which an explosion is a consequence begin with the number that has grown."""
    effect = next((finding for finding in by_cause(findings) if finding.name == "explodes" and finding.cause is not None), None)
    if effect is not None and effect.cause is not None and x.explosion is not None:
        row = next(row for row in findings if row.name == effect.cause.name)
        first, *others = findings[row]
        findings[row] = [replace(first, evidence=(course.of_explosion(x.explosion, x), *first.evidence)), *others]


def _with_the_cure_of(leading: Finding, others: Sequence[Finding]) -> list[Finding]:
    """Return a finding with others of its rule: several gates of a run at their limits have the same cure."""
    if leading.name != "saturated-gate":
        return [leading, *others]
    cure, cures, since, is_tried = leading.cure, leading.cures, leading.since, leading.is_tried
    return [leading, *(replace(other, cure=cure, cures=cures, since=since, is_tried=is_tried) for other in others)]


def _with_first_cure(finding: Finding, rule: FindingRule, x: RunFacts, facts: Callable[[int], RunFacts]) -> Finding:
    """Return a finding that first offers what removes its cause: a change made by hand that is taken back, or a line of the user's
    own cell written in another way. Both are tried on copies, and offered if they lower the loss."""
    timeline, most = x.timeline, trial_batches(x.config)

    def evidence_of(cure: Cure, losses: list[float], losses_as_run: list[float], batches: str) -> Evidence:
        return Evidence(
            f"tried on a copy: {cure.typed}; {batches} then end at {rounded(loss_after(losses))}, "
            f"not {rounded(loss_after(losses_as_run))}"
        )

    for together in islice(changes(timeline, x.position.tick), MOST_CHANGES):
        since = timeline.completed(timeline.position(together[0].start))
        if since and rule.is_shown(facts(since)):
            continue  # it was there before the change
        count, undo = min(max(x.count - since, LEAST_TRIED), most), undo_of(timeline, together)
        losses_as_run = own_losses(timeline, x.moment, since, count, x.check)
        losses = losses_with(timeline, x.moment, undo, count, check=x.check) or []
        if is_lower(losses, losses_as_run, _BETTER) or (rule.name in _AT_ONCE and loss_after(losses) < loss_after(losses_as_run)):
            # Other options begin with the first batch: they cannot be compared with what begins at the change.
            others = tuple(cure for cure in finding.cures if not since or cure.name in ("learning_rate", "clip"))
            words = f"{undo.typed}; or {finding.cure}" if others and finding.cure != NO_OPTION else undo.typed
            evidence = evidence_of(undo, losses, losses_as_run, counted(count, "batch"))
            return replace(finding, cure=words, cures=(undo, *others), evidence=(*finding.evidence, evidence), is_tried=True)
    count = min(max(len(x.learned), LEAST_TRIED), most)
    as_it_is = losses_with(timeline, x.moment, None, count, check=x.check) if x.config.cell_text else None
    if as_it_is is None:
        return course.with_tried_cure(finding, x)
    trials: dict[Cure, list[float]] = {}
    for cure in dict.fromkeys((*repairs(x.config), Cure("cell", "gru"), *finding.cures[:2])):
        losses = losses_with(timeline, x.moment, cure, count, check=x.check) or []
        if is_lower(losses, as_it_is, _BETTER):
            trials[cure] = losses
    if not trials:
        return course.with_tried_cure(finding, x)
    # Where several lower the loss about as much, the smallest change of the cell comes first, and another cell after it.
    least, without = min(map(loss_after, trials.values())), min(loss_after(as_it_is), as_it_is[0])
    enough = (least + max(without, least)) / 2
    # A first loss that is far above that of guessing has the cause that one of them removes.
    goal = math.log(x.config.vocab_size) + course.FAR if rule.name == "initial-loss" else -math.inf
    first = [cure for cure, losses in trials.items() if loss_after(losses) <= enough or losses[0] <= goal][:_MOST_FIRST]
    words = f"look at {x.config.cell}: {first[0].typed}" if first[0].words else first[0].typed
    return replace(
        finding,
        cure=words if finding.cure == NO_OPTION else f"{words}; or {finding.cure}",
        cures=(*first, *(cure for cure in finding.cures if cure not in first)),
        evidence=(*finding.evidence, evidence_of(first[0], trials[first[0]], as_it_is, counted(count, "batch"))),
        since=0,
        is_tried=True,
    )


def _all(examined: RunFacts, progress: Callable[[str], object] | None = None) -> dict[FindingRule, list[Finding]]:
    """Return the findings of each rule, in the order of the table, without those that another one stands for."""
    findings, left_out = dict[FindingRule, list[Finding]](), set[str]()
    for row in TABLE:
        if row.name in left_out:
            continue
        if progress is not None:
            progress(f"looking for {row.name}")
        if of_rule := list(row.find(examined)):
            # In a script, units that rest are no mistake by themselves: many healthy models have some, above all with ReLU.
            of_script = row.name in _OF_UNITS and not examined.config.source.can(Ability.TRAIN)
            findings[row] = [replace(finding, is_observation=True) for finding in of_rule] if of_script else of_rule
            left_out.update(row.instead_of)
    return findings


def gone_again(
    timeline: Timeline,
    moment: Moment,
    now: Sequence[Finding],
    *,
    held_out: Text = "",
    monitor: Monitor | None = None,
    progress: Callable[[str], object] | None = None,
) -> tuple[Finding, ...]:
    """Return the findings that earlier moments of a run show, and the moment not, each with when it was seen first and last.

    `now` are the findings at the moment. About ten moments are examined, between them a finding may come and go; where it begins
    and ends is found by bisection. Consequences are left out, and the batches of a recording, which are independent.
    """
    count = timeline.completed(moment.position)
    if not timeline.program.config.source.can(Ability.TRAIN) or count < 2:
        return ()
    logarithmic, even = np.geomspace(1, count, EARLIER_MOMENTS + 1)[:-1], np.linspace(0, count, EARLIER_MOMENTS // 2 + 1)[1:-1]
    jumps = course.after_jumps(RunFacts.after(timeline, count))[:MOST_JUMPS]
    counts = sorted({max(round(spaced), 1) for spaced in (*logarithmic.tolist(), *even.tolist(), *jumps)} - {count})
    present = {finding.name for finding in now}
    present |= {name for rule in TABLE if rule.name in present for name in rule.instead_of}

    facts = partial(RunFacts.after, timeline, held_out=held_out, monitor=monitor)

    def border(rule: FindingRule, low: int, high: int) -> int:
        """Return the last number of batches from `low` on with the same answer of a rule as there, where `high` has the other."""
        shown_at_low = rule.is_shown(facts(low))
        while high - low > 1:
            middle = (low + high) // 2
            same = rule.is_shown(facts(middle)) == shown_at_low
            low, high = (middle, high) if same else (low, middle)
        return low

    earlier: list[dict[FindingRule, Finding]] = []
    with NUMPY_SETTINGS:
        for batches in counts:
            if progress is not None:
                progress(f"looking at batch {batches:,}")
            findings = _all(facts(batches))
            causes = {finding.name for finding in by_cause(findings) if finding.cause is None}
            earlier.append(
                {rule: of_rule[0] for rule, of_rule in findings.items() if rule.name in causes - present and not rule.passes}
            )
        past: list[Finding] = []
        for rule in dict.fromkeys(rule for findings in earlier for rule in findings):
            last = max(i for i, findings in enumerate(earlier) if rule in findings)
            first = last
            while first and rule in earlier[first - 1]:
                first -= 1
            begins = border(rule, counts[first - 1], counts[first]) + 1 if first else counts[0]
            ends = border(rule, counts[last], counts[last + 1] if last + 1 < len(counts) else count)
            finding, begin = earlier[last][rule], timeline.end_of(begins - 1)
            begin = min(begin, finding.tick) if rule.placed and finding.tick is not None else begin
            past.append(
                replace(finding, first_seen=timeline.position(begin), last_seen=timeline.position(timeline.end_of(ends - 1)))
            )
    return tuple(past)


def by_cause(findings: dict[FindingRule, list[Finding]]) -> Iterator[Finding]:
    """Yield each finding that is no consequence of another, then its consequences; the groups are sorted by their worst harm,
    observations last."""
    causes = dict[FindingRule, FindingRule]()
    for row in findings:
        # Rules may be consequences of each other: a rule whose root is this one is not its cause.
        cause = next((rule for rule in findings if row.name in rule.effects and _root(rule, causes) is not row), None)
        if cause is not None and cause is not row:
            causes[row] = cause
    effects: dict[FindingRule, list[FindingRule]] = {row: [] for row in findings if row not in causes}
    for row in causes:
        effects[_root(row, causes)].append(row)
    for row in sorted(effects, key=lambda row: (_only_observes(findings[row]), min(rule.harm for rule in (row, *effects[row])))):
        yield from findings[row]
        for effect in sorted(effects[row], key=lambda row: row.harm):
            yield from (replace(finding, cause=findings[row][0]) for finding in findings[effect])


def _only_observes(findings: Sequence[Finding]) -> bool:
    return all(finding.is_observation for finding in findings)


def _root(row: FindingRule, causes: dict[FindingRule, FindingRule]) -> FindingRule:
    """Return the finding from which all causes of another follow."""
    while row in causes:
        row = causes[row]
    return row


def _first_seen(
    rules: Iterable[FindingRule],
    count: int,
    facts: Callable[[int], RunFacts],
    progress: Callable[[str], object] | None,
) -> dict[FindingRule, int]:
    """Return for each rule the least number of batches after which it finds something, by bisection of the first `count`; at most
    `MOST_EXAMINATIONS` numbers are examined for each, those of several rules together."""
    spans = dict.fromkeys(rules, (0, count))  # numbers of batches: too few for it, enough for it
    last: dict[FindingRule, BatchRecord] = {}  # the last batch of too few, where a replay to a later one begins
    for _ in range(MOST_EXAMINATIONS):
        middles: dict[int, list[FindingRule]] = {}
        for rule, (low, high) in spans.items():
            if high - low > 1:
                middles.setdefault((low + high) // 2, []).append(rule)
        for middle, together in sorted(middles.items()):
            examined = facts(middle)
            low = max(spans[rule][0] for rule in together)
            if (record := next((last[rule] for rule in together if rule in last and spans[rule][0] == low), None)) is not None:
                examined.timeline.remember(low - 1, record)
            for rule in together:
                if progress is not None:
                    progress(f"looking where {rule.name} begins")
                low, high = spans[rule]
                if rule.is_shown(examined):
                    spans[rule] = low, middle
                else:
                    spans[rule] = middle, high
                    if rule.shown is None:
                        last[rule] = examined.record(middle - 1)
    return {rule: high for rule, (_, high) in spans.items()}
