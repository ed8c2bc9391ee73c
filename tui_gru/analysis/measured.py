"""The facts of a run as tables: its learning rate, targets, inputs, criterion, parameters, and what step() does.

Those of a script were measured while it ran (`capture/facts.py`); those of a run of this program are read off the run. What was not
measured is None, and `missing` says what would measure it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from tui_gru.analysis.losses import baselines
from tui_gru.engine.config import token_word
from tui_gru.engine.data import Corpus, SeriesCorpus
from tui_gru.engine.numbers import counted, percent, significant
from tui_gru.engine.source import Ability, Imported
from tui_gru.errors import TuiGruError, printable

if TYPE_CHECKING:
    from tui_gru.analysis.causes import WatchedSteps
    from tui_gru.capture.criterion import CriterionFacts
    from tui_gru.capture.facts import InputFacts, ParameterRow, StateFacts, StepFacts, TargetFacts, UpdateFacts
    from tui_gru.debugger.moment import Moment
    from tui_gru.debugger.segment import HistorySegment
    from tui_gru.debugger.timeline import Timeline

PARTS = ("rate", "targets", "inputs", "criterion", "parameters", "step")
MOST_STEPS = 24  # rows of a table whose rows are steps
DIGITS = 4
#: What the parts of a run cannot say, by what the run is.
OF_FILE = "a model file has no training; record one: rec = tui_gru.record('run.gru', model, optimizer)"
NOT_WATCHED = "no step of this run was watched; record it again with this version: tui_gru.record('run.gru', model, optimizer)"

FactCell = str | int | float | bool | None


@dataclass(frozen=True)
class FactTable:
    """One part of the facts: sentences, and a table with its columns by their names. `missing` says why something is blank, and
    what would measure it; "" if nothing is missing."""

    name: str
    sentences: tuple[str, ...] = ()
    columns: Mapping[str, Sequence[FactCell]] = field(default_factory=dict)
    missing: str = ""

    @property
    def rows(self) -> tuple[tuple[FactCell, ...], ...]:
        return tuple(zip(*self.columns.values(), strict=True))


def chosen_part(typed: str) -> tuple[str, ...]:
    """Return the parts that are typed: one by its first letters, or all without a word. Raises `TuiGruError`."""
    word = typed.strip().lower()
    parts = tuple(part for part in PARTS if part.startswith(word) or part.removesuffix("s") == word)
    if not word or len(parts) == 1:
        return parts
    about = f"{', '.join(PARTS[:-1])} or {PARTS[-1]}"
    raise TuiGruError(f"facts are about {about}, not {printable(typed.strip(), 40)}; without a word, about all")


def written_cell(cell: FactCell) -> str:
    """Return a cell in words: blank if it is not known."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return significant(cell, DIGITS) if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else cell


# ------------------------------------------------------------------------------
# The facts of a script.


def facts_of_script(watched: WatchedSteps, source: Imported, parts: Sequence[str]) -> tuple[FactTable, ...]:
    """Return parts of the facts of a recording, a live loop or a batch of a script."""
    writers: Mapping[str, Callable[[WatchedSteps, Imported], FactTable]] = {
        "rate": _rate, "targets": _targets, "inputs": _inputs, "criterion": _criterion, "parameters": _parameters, "step": _step,
    }  # fmt: skip
    return tuple(writers[part](watched, source) for part in parts)


def _rate(x: WatchedSteps, source: Imported) -> FactTable:
    from tui_gru.imported.captured import RecordedBatches

    recording = source.batches.recording if isinstance(source.batches, RecordedBatches) else None
    is_complete = recording is not None and bool(recording.rates)
    changes = list(recording.rates) if recording is not None else []
    steps = changes or [
        (step.number, update.settings["lr"]) for step in x.training for update in step.updates[:1] if "lr" in update.settings
    ]
    if not steps:
        return FactTable("rate", missing=NOT_WATCHED if not x.training else "the optimizer of this run has no learning rate")
    total = recording.total if recording is not None and is_complete else steps[-1][0] + 1
    sentences = [_course_of_rate(steps, total, is_complete=is_complete)]
    for update in _optimizers(x):
        settings = _settings(update)
        sentences.append(f"optimizer {update.optimizer + 1}: {update.kind}{f' with {settings}' if settings else ''}")
    table = next((step.table for step in reversed(x.training) if step.table), ())
    rates = {
        f"optimizer {row.optimizer + 1} group {(row.group or 0) + 1}": row.rate
        for row in table
        if row.rate is not None and row.optimizer is not None
    }
    if len(rates) > 1:
        named = ", ".join(f"{group}: {significant(rate)}" for group, rate in rates.items())
        sentences.append(f"rates of the groups in the last table: {named}")
    rows = _spread(steps)
    first = steps[0][1]
    columns: dict[str, Sequence[FactCell]] = {
        "from step": [step for step, _ in rows],
        "rate": [rate for _, rate in rows],
        "of the first": [rate / first if first else None for _, rate in rows],
    }
    missing = "" if is_complete else "only the watched steps are known; a recording has the rate of every step"
    return FactTable("rate", tuple(sentences), columns, missing)


def _course_of_rate(steps: Sequence[tuple[int, float]], total: int, *, is_complete: bool) -> str:
    changes = [(number, rate) for (_, before), (number, rate) in pairwise(steps) if rate != before]
    first, last = steps[0][1], steps[-1][1]
    where = counted(total, "step") if is_complete else counted(len(steps), "watched step")
    if not changes:
        return f"the rate is {significant(first)} in all of {where}"
    largest = max(steps, key=lambda step: step[1])
    smallest = min(steps, key=lambda step: step[1])
    ends = f"begins at {significant(first)} and ends at {significant(last)}"
    span = f"largest {significant(largest[1])} from step {largest[0]:,}, smallest {significant(smallest[1])}"
    words = [f"the rate {ends}, after {counted(len(changes), 'change')} in {where}", f"{span} from step {smallest[0]:,}"]
    low = next((number for number, rate in steps if number > largest[0] and rate < 0.01 * largest[1]), None)
    if low is not None:
        words.append(f"under a hundredth of the largest from step {low:,} on")
    return "; ".join(words)


def _optimizers(x: WatchedSteps) -> list[UpdateFacts]:
    """Return the last update of each optimizer."""
    return list({update.optimizer: update for step in x.training for update in step.updates}.values())


def _settings(update: UpdateFacts) -> str:
    shown = {name: value for name, value in update.settings.items() if value and name not in ("lr", "decoupled_weight_decay")}
    return ", ".join(f"{name} {significant(value)}" for name, value in shown.items())


def _targets(x: WatchedSteps, source: Imported) -> FactTable:
    steps = [(step, i, target) for step in x.training for i, target in enumerate(step.targets)]
    if not steps:
        reason = "no target was seen in the loss: it is computed out of sight, as within torch.compile or in the model"
        return FactTable("targets", missing=reason if x.training else NOT_WATCHED)
    sentences = list[str]()
    for order in sorted({i for _, i, _ in steps}):
        of_order = [(step, target) for step, i, target in steps if i == order]
        sentences += _of_target(of_order)
    rows = _spread(steps)
    columns: dict[str, Sequence[FactCell]] = {
        "step": [step.number for step, _, _ in rows],
        "read by": [target.read_by for _, _, target in rows],
        "type": [target.dtype for _, _, target in rows],
        "shape": [shape_in_words(target.shape) for _, _, target in rows],
        "low": [target.low for _, _, target in rows],
        "high": [target.high for _, _, target in rows],
        "mean": [target.mean for _, _, target in rows],
        "deviation": [target.deviation for _, _, target in rows],
        "zeros": [target.zeros for _, _, target in rows],
        "different": [target.distinct or None for _, _, target in rows],
        "ignored": [target.ignored for _, _, target in rows],
        "as before": [target.same for _, _, target in rows],
    }
    return FactTable("targets", tuple(sentences), columns)


def _of_target(steps: Sequence[tuple[StepFacts, TargetFacts]]) -> Iterator[str]:
    step, last = steps[-1]
    n = len(steps)
    span = _span(min(t.low for _, t in steps), max(t.high for _, t in steps))
    yield f"{last.read_by} reads {last.dtype} {shape_in_words(last.shape)}: {span} in {counted(n, 'watched step')}"
    if last.counts and not last.dtype.startswith(("float", "bfloat")):
        entries = math.prod(last.shape)
        listed = ", ".join(f"{value:.0f}: {count:,}" for value, count in last.counts)
        more = f" and {last.distinct - len(last.counts):,} others" if last.distinct > len(last.counts) else ""
        yield f"classes in step {step.number:,}: {last.distinct:,} different among {counted(entries, 'target')}; {listed}{more}"
    checks: Sequence[tuple[str, Callable[[TargetFacts], bool]]] = (
        ("one and the same value everywhere", lambda t: t.low == t.high and math.prod(t.shape) > 1),
        ("bit for bit those of the watched step before", lambda t: t.same),
        ("not finite in some entry", lambda t: t.not_finite > 0),
        ("left out in part by ignore_index", lambda t: t.ignored > 0),
    )
    for words, holds in checks:
        if count := sum(holds(target) for _, target in steps):
            yield f"{words}: {_of_steps(count, n)}"
    criteria = [step.criterion for step, _ in steps if step.criterion is not None]
    follows = [c.follows for c in criteria if c.follows is not None]
    if follows:
        yield f"equal to the next input of the same row: {percent(min(follows))} to {percent(max(follows))} of the targets"
    outside = [c.outside for c in criteria]
    if any(outside):
        low, high = criteria[-1].reach
        reach = f"{significant(low)} to {significant(high)}"
        yield f"beyond what the output can reach ({reach}): {percent(max(outside))} of the targets"


def _inputs(x: WatchedSteps, source: Imported) -> FactTable:
    steps = [(step, i, read) for step in x.training for i, read in enumerate(step.inputs)]
    calls = [call for step in x.training for call in step.states]
    if not steps and not calls:
        reason = "no input of the model was seen: numbers have three axes, and token ids two"
        return FactTable("inputs", missing=reason if x.training else NOT_WATCHED)
    sentences = list[str]()
    for order in sorted({i for _, i, _ in steps}):
        sentences += _of_input([read for _, i, read in steps if i == order], order)
    for module in dict.fromkeys(call.module for call in calls):
        sentences += _of_calls([call for call in calls if call.module == module])
    for step in x.training:
        if step.viewed is not None:
            before, after = map(shape_in_words, step.viewed)
            sentences.append(f"step {step.number:,} views {before} as {after}, which cuts the numbers anew and exchanges no axes")
            break
    rows = _spread(steps)
    columns: dict[str, Sequence[FactCell]] = {
        "step": [step.number for step, _, _ in rows],
        "input": [i + 1 for _, i, _ in rows],
        "type": [read.dtype or None for _, _, read in rows],
        "shape": [shape_in_words(read.shape) for _, _, read in rows],
        "low": [read.low for _, _, read in rows],
        "high": [read.high for _, _, read in rows],
        "mean": [read.mean for _, _, read in rows],
        "deviation": [read.deviation for _, _, read in rows],
        "zeros": [read.zeros for _, _, read in rows],
        "different along axis 0": [_slices(read, 0) for _, _, read in rows],
        "axis 1": [_slices(read, 1) for _, _, read in rows],
        "not finite": [read.not_finite for _, _, read in rows],
        "as before": [read.same for _, _, read in rows],
    }
    return FactTable("inputs", tuple(sentences), columns)


def _slices(read: InputFacts, axis: int) -> FactCell:
    if axis >= len(read.slices):
        return None
    count, different = read.slices[axis]
    return f"{different:,} of {count:,}"


def _of_input(reads: Sequence[InputFacts], order: int) -> Iterator[str]:
    last, n = reads[-1], len(reads)
    kind = "token ids" if last.tokens else "numbers"
    span = _span(min(r.low for r in reads), max(r.high for r in reads))
    yield f"input {order + 1}: {kind}, {last.dtype} {shape_in_words(last.shape)}: {span} in {counted(n, 'watched step')}"
    if last.counts:
        listed = ", ".join(f"{value:.0f}: {count:,}" for value, count in last.counts[:5])
        yield f"tokens of the last: {last.distinct:,} different among {math.prod(last.shape):,}; most often {listed}"
    checks: Sequence[tuple[str, Callable[[InputFacts], bool]]] = (
        ("all 0", lambda r: r.zero),
        ("all rows and all timesteps alike", lambda r: r.constant),
        ("bit for bit that of the watched step before", lambda r: r.same),
        ("drawn at random in the step", lambda r: r.random),
        ("not finite in some entry", lambda r: r.not_finite > 0),
        ("rows repeated (axis 0)", lambda r: len(r.slices) > 0 and r.slices[0][1] < r.slices[0][0]),
        ("slices repeated along axis 1", lambda r: len(r.slices) > 1 and r.slices[1][1] < r.slices[1][0]),
    )
    for words, holds in checks:
        if count := sum(holds(read) for read in reads):
            yield f"input {order + 1} {words}: {_of_steps(count, n)}"
    if last.features_not_finite:
        yield f"features with numbers that are not finite, from 0: {', '.join(map(str, last.features_not_finite))}"
    if not last.tokens and last.largest_offset > 3:
        yield f"a feature's mean is up to {significant(last.largest_offset, 3)} times its deviation"


def _of_calls(calls: Sequence[StateFacts]) -> Iterator[str]:
    last, n = calls[-1], len(calls)
    read = f" {shape_in_words(last.shape)}" if last.shape else ""
    times = "" if last.calls == 1 else f" in each of {counted(last.calls, 'call')} a step"
    is_batch = len(last.shape) == 3 and last.timesteps > 0
    rows = f" of {counted(last.shape[0 if last.batch_first else 1], 'row')}, batch_first={last.batch_first}" if is_batch else ""
    as_timesteps = f" as {counted(last.timesteps, 'timestep')}" if last.timesteps else ", packed"
    yield f"{last.module} reads{read}{as_timesteps}{rows}{times}"
    begins = sum(call.begins for call in calls)
    yield f"{last.module} begins with a state that the script gives: {_of_steps(begins, n)}" + (
        f", of size {significant(last.size, 3)}" if last.begins else ""
    )
    carried = [call.carried for call in calls if call.carried is not None]
    if carried:
        yield f"that state is the last one of the step before, bit for bit: {_of_steps(sum(carried), len(carried))}"
    continued = [call.continued for call in calls if call.continued is not None]
    if continued:
        yield f"rows whose text goes on where that of the step before ended: {percent(min(continued))} to {percent(max(continued))}"
    passed = [call for call in calls if call.calls > 1]
    if passed:
        one = passed[-1]
        yield (
            f"{one.passed:,} of {one.calls - 1:,} later calls of a step begin with the state of the call before, "
            f"{one.passed_in_graph:,} of them with its graph"
        )


def _criterion(x: WatchedSteps, source: Imported) -> FactTable:
    steps = [step for step in x.training if step.criterion is not None or step.path]
    if not steps:
        reason = "no loss was seen: backward() is called on nothing that this model computes, or within torch.compile"
        return FactTable("criterion", missing=reason if x.training else NOT_WATCHED)
    sentences = [*_of_path(steps[-1])]
    criteria = [step.criterion for step in steps if step.criterion is not None]
    if criteria:
        sentences += _of_criterion(criteria)
    linear = next((step.linear for step in reversed(steps) if step.linear is not None), None)
    if linear is not None:
        sentences.append(f"the gradient at the last Linear is that of {linear[0]}, to {linear[1]:.0e}")
    paired = next((step.broadcast for step in reversed(steps) if step.broadcast is not None), None)
    if paired is not None:
        one, other, result = map(shape_in_words, paired)
        sentences.append(f"a difference of {one} and {other} is {result}: every row is compared with every other")
    if steps[-1].evaluating:
        sentences.append(f"in evaluation mode: {', '.join(steps[-1].evaluating)}")
    rows = _spread(steps)
    listed = [step.criterion for step in rows]
    columns: dict[str, Sequence[FactCell]] = {
        "step": [step.number for step in rows],
        "loss": [step.loss for step in rows],
        "best constant guess": [None if c is None else c.constant for c in listed],
        "× its mean": [None if c is None else c.factor for c in listed],
        "largest |input|": [None if c is None else c.largest for c in listed],
        "deviation of input": [None if c is None else c.deviation for c in listed],
        "zeros of input": [None if c is None else c.zeros for c in listed],
    }
    missing = "" if criteria else "none of PyTorch's criteria gets a gradient here: what is known of the loss is its path"
    return FactTable("criterion", tuple(sentences), columns, missing)


def _of_path(step: StepFacts) -> Iterator[str]:
    if step.path:
        calls = (
            f"{name} {' '.join(map(shape_in_words, read))} → {shape_in_words(returned) if returned else 'a number'}"
            for name, read, returned in step.path
        )
        yield f"the loss of step {step.number:,} is computed by {'; '.join(calls)}"


def _of_criterion(criteria: Sequence[CriterionFacts]) -> Iterator[str]:
    last, n = criteria[-1], len(criteria)
    arguments = "".join(f", {name}={value}" for name, value in last.arguments.items())
    shapes = f"input {shape_in_words(last.input_shape)}, target {shape_in_words(last.target_shape)}"
    yield f"{last.called or last.kind}({shapes}{arguments}); its input comes from {last.feeds or 'no function of autograd'}"
    if last.criteria > 1:
        yield f"{last.criteria:,} criteria in a step; this is the last one that gets a gradient"
    factors = [c.factor for c in criteria if c.factor is not None]
    if factors:
        low, high = min(factors), max(factors)
        span = significant(low, 4) if math.isclose(low, high, rel_tol=1e-3) else f"{significant(low, 3)} to {significant(high, 3)}"
        yield f"the gradient that arrives at its input is {span} times that of its plain mean: {_of_steps(len(factors), n)}"
    else:
        yield "the gradient that arrives at its input is no multiple of that of its plain mean"
    for words, holds in (
        ("each row of its input adds up to 1", lambda c: c.sum_error < 1e-4 and c.classes > 1),
        ("the exponentials of each row of its input add up to 1", lambda c: c.log_sum_error < 1e-4 and c.classes > 1),
        ("all of its input is 0", lambda c: c.zeros == 1),
        ("its input has numbers that are not finite", lambda c: math.isinf(c.largest)),
    ):
        if count := sum(holds(c) for c in criteria):
            yield f"{words}: {_of_steps(count, n)}"
    if last.classes_without_weight:
        yield (
            f"classes with a weight of 0: {', '.join(map(str, last.classes_without_weight))}, "
            f"{percent(last.share_without_weight)} of the targets"
        )


def _parameters(x: WatchedSteps, source: Imported) -> FactTable:
    step = next((step for step in reversed(x.training) if step.table), None)
    if step is None:
        return FactTable("parameters", missing=NOT_WATCHED)
    table, parameters = step.table, x.parameters
    total = len(table) + step.rows_left_out
    sentences = [f"{counted(total, 'parameter')} in step {step.number:,}, the last one with a table"]
    sentences += _exceptions(table, step)
    if parameters is not None:
        if parameters.cut:
            sentences += [
                f"{module} gets no gradient: its output {'has a graph that the loss does not reach' if graph else 'has no graph'}"
                for module, graph in parameters.cut.items()
            ]
        if parameters.strange:
            shapes = ", ".join(map(shape_in_words, parameters.strange))
            sentences.append(f"weights in use that are no parameters of the model and in no optimizer: {shapes}")
        if parameters.equal:
            sentences.append(f"at the start, all entries are {significant(parameters.equal_value)}: {', '.join(parameters.equal)}")
        if parameters.copies:
            sentences.append(f"all units have the same weights: {', '.join(parameters.copies)}")
        if parameters.dropout and any(parameters.dropout.values()):
            sentences.append("dropout " + ", ".join(f"{name} {significant(p)}" for name, p in parameters.dropout.items() if p))
    columns: dict[str, Sequence[FactCell]] = {
        "parameter": [row.name for row in table],
        "shape": [shape_in_words(row.shape) for row in table],
        "trains": [row.trains for row in table],
        "‖gradient‖": [row.gradient for row in table],
        "‖ΔW‖/‖W‖": [row.update for row in table],
        "optimizer": [None if row.optimizer is None else row.optimizer + 1 for row in table],
        "group": [None if row.group is None else row.group + 1 for row in table],
        "rate": [row.rate for row in table],
        "decay": [row.decay for row in table],
        "‖W‖": [row.size for row in table],
        "since start": [row.moved for row in table],
    }
    missing = f"{step.rows_left_out:,} more parameters are left out" if step.rows_left_out else ""
    if not missing and all(row.moved is None for row in table):
        missing = "whether they move is not measured: the model is larger than 64 MB"
    return FactTable("parameters", tuple(sentences), columns, missing)


def _exceptions(table: Sequence[ParameterRow], step: StepFacts) -> Iterator[str]:
    """Say of what a training needs which parameters lack it."""
    trained = [row for row in table if row.trains]
    checks: tuple[tuple[str, Iterable[ParameterRow]], ...] = (
        ("requires_grad is False", [row for row in table if not row.trains]),
        ("in no optimizer that ran", [row for row in trained if row.optimizer is None]),
        ("no gradient", [row for row in trained if row.optimizer is not None and row.gradient is None]),
        ("a gradient of 0", [row for row in trained if row.gradient == 0]),
        ("a rate of 0", [row for row in trained if row.rate == 0]),
        ("not moved by this step()", [row for row in trained if row.update == 0]),
        ("where they were at the start", [row for row in trained if row.moved == 0 and step.number > 0]),
    )
    is_blank = True
    for words, rows in checks:
        if names := [row.name for row in rows]:
            is_blank = False
            listed = ", ".join(names[:6]) + (f" and {len(names) - 6:,} more" if len(names) > 6 else "")
            yield f"{words}: {len(names):,} of {len(table):,}: {listed}"
    if is_blank and step.updates:
        yield "each trains, is in an optimizer, has a gradient that is not 0, and moves"


def _step(x: WatchedSteps, source: Imported) -> FactTable:
    steps = x.training
    if not steps:
        return FactTable("step", missing=NOT_WATCHED)
    updates = [(step, update) for step in steps for update in step.updates]
    sentences = [
        f"a gradient arrived: {_of_steps(sum(step.backward for step in steps), len(steps))}",
        f"an optimizer ran step(): {_of_steps(sum(bool(step.updates) for step in steps), len(steps))}",
    ]
    n = len(updates)
    scaled = sum(not _is_one(_scale(update)) for _, update in updates)
    for words, count in (
        ("p.grad still had the gradient of the step before: it was not cleared", sum(u.stale for _, u in updates)),
        ("no backward pass since the step() before", sum(u.passes == 0 for _, u in updates)),
        ("more than one backward pass since the step() before", sum(u.passes > 1 for _, u in updates)),
        ("p.grad was another size than what autograd gave, as by a clip or a scale", scaled),
        ("p.grad was scaled after step()", sum(not _is_one(u.rescaled) for _, u in updates)),
        ("the model was in evaluation mode", sum(not u.training for _, u in updates)),
        ("the optimizer has none of this model's parameters", sum(not u.parameters for _, u in updates)),
        ("the optimizer was new, without a state, after the first step", sum(u.begins and s.number > 0 for s, u in updates)),
        ("gradients were taken away before step()", sum(bool(u.emptied) for _, u in updates)),
        ("gradients are subtracted with maximize", sum(bool(u.settings.get("maximize")) for _, u in updates)),
    ):
        if count:
            sentences.append(f"{words}: {count:,} of {counted(n, 'watched update')}")
    outside = [(step, step.outside) for step in steps if step.outside is not None]
    changed = [(step, facts) for step, facts in outside if facts.changed]
    if changed:
        step, facts = changed[-1]
        which = f"{facts.changed:,} of {facts.total:,} entries by {significant(facts.distance, 3)} of their size"
        often = _of_steps(len(changed), len(outside))
        sentences.append(f"weights were changed between step() and the next step: {often}, in step {step.number:,} {which}")
    rows = _spread(updates)
    columns: dict[str, Sequence[FactCell]] = {
        "step": [step.number for step, _ in rows],
        "optimizer": [f"{update.optimizer + 1} {update.kind}" for _, update in rows],
        "rate": [update.settings.get("lr") for _, update in rows],
        "passes": [update.passes for _, update in rows],
        "cleared": [None if step.number == 0 else _is_cleared(update) for step, update in rows],
        "‖gradient‖": [update.norm for _, update in rows],
        "from autograd": [update.handed if update.handed else None for _, update in rows],
        "scale": [_scale(update) for _, update in rows],
        "training": [update.training for _, update in rows],
        "‖ΔW‖/‖W‖": [_largest_update(step, update) for step, update in rows],
    }
    return FactTable("step", tuple(sentences), columns)


def _is_one(factor: float | None) -> bool:
    """Return True for a factor of 1, up to a thousandth, or one that is not known."""
    return factor is None or math.isclose(factor, 1, rel_tol=1e-3)


def _is_cleared(update: UpdateFacts) -> bool | None:
    """Return whether p.grad was empty before the backward passes of an update; None if it is not known.

    Where it is a multiple of what autograd gave, as after a clip, it had no other part. Rounded to float32, two multiples have a
    cosine within 2⁻⁴⁸ of 1; a part of 1e-6 of its size that is left from before moves it by 5e-13.
    """
    if update.stale:
        return False
    return True if update.passes and 1 - update.cosine < 5e-13 else None


def _scale(update: UpdateFacts) -> float | None:
    """Return the factor from what autograd gave to what the optimizer used, negative if it points the other way; None if the two
    are no multiples of each other."""
    if not update.handed or update.stale or not math.isfinite(update.norm) or abs(update.cosine) < 0.999:
        return None
    return math.copysign(update.norm / update.handed, update.cosine)


def _largest_update(step: StepFacts, update: UpdateFacts) -> float | None:
    changes = [row.update for row in step.table if row.optimizer == update.optimizer and row.update is not None]
    return max(changes, default=None)


def _spread(rows: Sequence[Any]) -> list[Any]:
    """Return the first rows, the last ones, and some between."""
    if len(rows) <= MOST_STEPS:
        return list(rows)
    edge = MOST_STEPS // 3
    between = np.linspace(edge, len(rows) - edge - 1, MOST_STEPS - 2 * edge).round().astype(int).tolist()
    chosen = sorted({*range(edge), *between, *range(len(rows) - edge, len(rows))})
    return [rows[i] for i in chosen]


def _of_steps(count: int, total: int) -> str:
    return f"{count:,} of {counted(total, 'watched step')}"


def _span(low: float, high: float) -> str:
    return f"{significant(low, DIGITS)} to {significant(high, DIGITS)}" if not math.isnan(low) else "no finite number"


def shape_in_words(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


# ------------------------------------------------------------------------------
# The facts of a run of this program, and of a model file.


def facts_of_run(timeline: Timeline, moment: Moment, parts: Sequence[str]) -> tuple[FactTable, ...]:
    """Return parts of the facts of a run of this program, or of a model file, at a moment."""
    writers: Mapping[str, Callable[[Timeline, Moment], FactTable]] = {
        "rate": _own_rate, "targets": _own_data("targets", "target"), "inputs": _own_data("inputs", "input"),
        "criterion": _own_criterion, "parameters": _own_parameters, "step": _own_step,
    }  # fmt: skip
    return tuple(writers[part](timeline, moment) for part in parts)


def _trains(timeline: Timeline) -> bool:
    return timeline.program.config.source.can(Ability.TRAIN)


def _own_rate(timeline: Timeline, moment: Moment) -> FactTable:
    if not _trains(timeline):
        return FactTable("rate", missing=OF_FILE)
    program = timeline.program
    segment: HistorySegment | None = timeline.segment_at(moment.position.tick)
    changes = list[tuple[int, float]]()
    while segment is not None:
        rate = segment.settings.rule.get("learning_rate")
        if rate is not None:
            changes.append((segment.start // program.ticks, float(rate)))
        segment = segment.before
    changes.reverse()
    changes = [changes[i] for i in range(len(changes)) if i == 0 or changes[i][1] != changes[i - 1][1]]
    now = timeline.segment_at(moment.position.tick).settings.rule
    rule = {name: value for name, value in now.items() if name != "learning_rate"}
    update = program.config.optimizer
    words = f"{update} with {', '.join(f'{name} {significant(value)}' for name, value in rule.items())}" if rule else f"{update}"
    if not changes:
        return FactTable("rate", (words,), missing="this update rule has no learning_rate")
    columns: dict[str, Sequence[FactCell]] = {
        "from batch": [batch + 1 for batch, _ in changes],
        "rate": [rate for _, rate in changes],
    }
    total = moment.position.number + 1
    if len(changes) == 1:
        course = f"the rate is {significant(changes[0][1])} in all of {counted(total, 'batch')}"
    else:
        course = f"the rate begins at {significant(changes[0][1])} and is {significant(changes[-1][1])} now"
    return FactTable("rate", (course, words), columns)


def _own_data(part: str, word: str) -> Callable[[Timeline, Moment], FactTable]:
    """Return what writes the facts of the inputs or the targets of a run."""

    def facts(timeline: Timeline, moment: Moment) -> FactTable:
        config = timeline.program.config
        corpus = timeline.segment_at(moment.position.tick).trainer.corpus
        if not isinstance(corpus, Corpus | SeriesCorpus):
            if part == "targets":
                return FactTable(part, missing=OF_FILE)
            values = moment.record.array(next(iter(timeline.program.model.page.inputs)))
            return FactTable(part, tuple(_of_numbers(values, f"{word}s of this batch")))
        values = corpus.inputs if part == "inputs" else corpus.targets
        of_batch = values[moment.position.batch]
        places = ("batch", values[moment.position.batch : moment.position.batch + 1]), ("epoch", values)
        sentences = [sentence for where, part_values in places for sentence in _of_numbers(part_values, f"{word}s of this {where}")]
        if part == "inputs":
            rows, timesteps = of_batch.shape[1], of_batch.shape[0]
            different = len(np.unique(np.moveaxis(of_batch, 1, 0).reshape(rows, -1), axis=0))
            length = counted(timesteps, "timestep")
            sentences.append(f"{different:,} of {counted(rows, 'row')} of this batch differ, of {length} each")
        if isinstance(corpus, Corpus) and part == "targets":
            sentences.append("each target is the next character of the text")
        columns: dict[str, Sequence[FactCell]] = {}
        if values.dtype.kind != "f":
            different_ids, counts = np.unique(values, return_counts=True)
            in_batch = dict(zip(*(array.tolist() for array in np.unique(of_batch, return_counts=True)), strict=True))
            order = np.argsort(-counts, kind="stable")[: 2 * MOST_STEPS].tolist()
            ids = [int(different_ids[i]) for i in order]
            columns = {
                "class": [token_word(config.vocabulary[i]) for i in ids],
                "in this batch": [in_batch.get(i, 0) for i in ids],
                "in an epoch": [int(counts[i]) for i in order],
            }
        return FactTable(part, tuple(sentences), columns)

    return facts


def _of_numbers(values: Any, name: str) -> Iterator[str]:
    shape = shape_in_words(values.shape)
    if values.dtype.kind != "f":
        yield f"{name}: {counted(len(np.unique(values)), 'class')} among {values.size:,}, {shape}"
        return
    finite = values[np.isfinite(values)]
    span = _span(float(finite.min()), float(finite.max())) if finite.size else "no finite number"
    zeros = percent(float((values == 0).mean())) if values.size else ""
    yield f"{name}: {values.dtype} {shape}, {span}, {zeros} of them 0, {values.size - finite.size:,} not finite"


def _own_criterion(timeline: Timeline, moment: Moment) -> FactTable:
    program, config = timeline.program, timeline.program.config
    if not program.knows_loss:
        return FactTable("criterion", missing=OF_FILE)
    lines = [line.text for block in program.blocks for line in block.lines if line.phase == "loss"]
    sentences = [f"{config.loss}: {'; '.join(lines)}"] if lines else [str(config.loss)]
    columns: dict[str, Sequence[FactCell]] = {}
    corpus = None if isinstance(config.source, Imported) else timeline.segment_at(moment.position.tick).trainer.corpus
    if isinstance(corpus, Corpus) and config.loss == "cross-entropy":
        named = baselines(corpus.text, config.vocab_size).lines
        columns = {"guess": [guess for guess, _ in named], "loss of an epoch": [loss for _, loss in named]}
    loss = moment.value("loss")
    sentences += [f"the loss of this batch is {significant(loss, 5)}"] if loss is not None else []
    return FactTable("criterion", tuple(sentences), columns)


def _own_parameters(timeline: Timeline, moment: Moment) -> FactTable:
    program, trains = timeline.program, _trains(timeline)
    number = moment.position.number
    done = timeline.completed(moment.position) if trains else 0
    last = timeline.record(done - 1) if done else None
    learned = last is not None and last.learned
    begun = timeline.record(0).before if trains else None
    rate = timeline.segment_at(moment.position.tick).settings.rule.get("learning_rate") if trains else None
    columns: dict[str, list[FactCell]] = {
        name: [] for name in ("parameter", "shape", "‖gradient‖", "rate", "‖W‖", "‖ΔW‖/‖W‖", "since start")
    }
    for name in program.parameters:
        now = np.asarray(moment.value(name))
        gradient = last.gradients[name] if last is not None and learned and last.gradients is not None else None
        change = _change(last.after[name], last.before[name]) if last is not None and learned else None
        row: tuple[FactCell, ...] = (
            name, shape_in_words(now.shape), None if gradient is None else _norm(gradient), rate, _norm(now), change,
            None if begun is None else _change(now, begun[name]),
        )  # fmt: skip
        for column, cell in zip(columns.values(), row, strict=True):
            column.append(cell)
    sentences = [f"{counted(len(program.parameters), 'parameter')}, all trained by one rule at one rate"] if trains else []
    if not trains:
        missing = OF_FILE
    elif not learned:
        missing = "gradients and changes are those of a batch that learns; type l, and n"
        if done:
            sentences.append(f"batch {done:,} ends without an update: learning is off")
    else:
        missing = ""
        before = f", the last before batch {number + 1:,}" if done <= number else ""
        sentences.append(f"gradients and changes are those of batch {done:,}{before}")
    return FactTable("parameters", tuple(sentences), columns, missing)


def _own_step(timeline: Timeline, moment: Moment) -> FactTable:
    if not _trains(timeline):
        return FactTable("step", missing=OF_FILE)
    done = timeline.completed(moment.position)
    batches = list(range(max(0, done - MOST_STEPS), done))
    learned = timeline.learned(0, done - 1) if done else np.zeros(0, bool)
    norms = [float(timeline.column("grad_norm", batch, batch)[0]) if learned[batch] else None for batch in batches]
    limit = timeline.segment_at(moment.position.tick).settings.rule.get("limit")
    sentences = [
        f"{int(np.count_nonzero(learned)):,} of {counted(done, 'batch')} so far ended with backward and update",
        "every update computes its gradient anew: nothing is accumulated",
        f"gradients are clipped to the norm {significant(limit)}" if limit else "gradients are not clipped",
    ]
    columns: dict[str, Sequence[FactCell]] = {
        "batch": [batch + 1 for batch in batches],
        "updated": [bool(learned[batch]) for batch in batches],
        "‖gradient‖": norms,
        "scale": [None if norm is None else min(1.0, limit / norm) if limit and norm else 1.0 for norm in norms],
    }
    return FactTable("step", tuple(sentences), columns)


def _norm(values: Any) -> float:
    return float(np.linalg.norm(np.asarray(values, np.float64)))


def _change(now: Any, before: Any) -> float | None:
    size = _norm(before)
    return _norm(np.subtract(now, before, dtype=np.float64)) / size if size else None
