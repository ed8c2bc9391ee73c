"""The answers of verbs: in words, for the row of answers or without one; and their results as plain data."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tui_gru.debugger.position import Position, as_typed, in_words, position_of
from tui_gru.debugger.program import Program, shown_char, spoken
from tui_gru.engine.numbers import exact, short, significant
from tui_gru.session.snapshot import Snapshot

if TYPE_CHECKING:
    from tui_gru.debugger.derivation import Node, ValueRef
    from tui_gru.debugger.edits import JournalEntry
    from tui_gru.debugger.state import Mark
    from tui_gru.debugger.timeline import BranchInfo
    from tui_gru.engine.sampling import NextChances, Sample
    from tui_gru.files.arrays import AnyArray
    from tui_gru.session.queries import Activity, CheckResult, Finding, Story, TextLosses, WhatIf

# ------------------------------------------------------------------------------
# Answers in words: what was done, and where.


def place_in_words(snapshot: Snapshot) -> str:
    """Return the place as `at epoch 2 · batch 1 · t 3 · forward`; at the end of a batch, with what follows."""
    at, program = snapshot.position, snapshot.program
    if at == snapshot.last:
        return f"at the end of the run, after {f'epoch {at.epoch + 1:,}' if at.step is None else f'step {at.step:,}'}"
    if at.tick == 0:
        return "before the first line"
    if at.offset == (program.ticks if snapshot.moment.learned else program.loss_tick):
        if at.batch + 1 == program.num_batches:
            return f"at the end of epoch {at.epoch + 1:,}: epoch {at.epoch + 2:,} begins with the next line"
        following = f"batch {at.batch + 2:,}" if at.step is None else program.config.source.step(at.number + 1)
        return f"at the end of {in_words(at.epoch, at.batch, step=at.step, between=' · ')}: {following} begins with the next line"
    t = None if snapshot.timestep is None else at.t
    return f"at {in_words(at.epoch, at.batch, t, at.phase, step=at.step, between=' · ')}"


def place_in_full(snapshot: Snapshot) -> str:
    """Return the place in the loops, what has just been executed, and what the next line is, in sentences."""
    at, program = snapshot.position, snapshot.program
    is_end = at.offset == (program.ticks if snapshot.moment.learned else program.loss_tick)
    ends = at == snapshot.last
    following = program.line_at(1 if is_end or at.tick == 0 else at.offset + 1)[0].text
    coming = "this is the last line of the run" if ends else f"next: {following}"
    if at.tick == 0:
        return f"before the first line: the weights are still the initial ones · {coming}"
    epochs, batches = snapshot.state.epochs, program.num_batches
    parts = [f"epoch {at.epoch + 1:,}" + (f" of {epochs:,}" if epochs else ""), f"batch {at.batch + 1:,} of {batches:,}"]
    if at.step is not None:
        parts = [f"step {at.step:,}"]
    if snapshot.timestep is not None:
        parts.append(f"timestep {at.t + 1:,} of {program.seq_length:,}")
    phases = {"forward": "in the forward pass", "backward": "in the backward pass", "update": "in the update of the weights"}
    parts.append("at the loss" if at.offset == program.loss_tick else phases.get(at.phase, f"in the {at.phase}"))
    if is_end and not ends:
        coming = f"the batch is complete; {coming}, of the next {'epoch' if at.batch + 1 == batches else 'batch'}"
    newest = snapshot.newest
    behind = newest.number - at.number
    past = f"in the past: the newest moment is {behind:,} batches later" if behind > 0 and at.step is None else ""
    branch = f"on branch {snapshot.state.branch}" if len(snapshot.state.branches.names) > 1 else ""
    line = snapshot.line
    done = "" if line is None else f"just executed: {line.text}"
    return " · ".join(filter(None, (", ".join(parts), branch, past, done, coming)))


def mark_names(marks: Sequence[Mark], program: Program) -> dict[str, str]:
    """Return the place of each mark by its letter, `e1 b1 t2`; of marks in the same timestep, with the line and the branch."""
    places = {mark.letter: position_of(program, mark.tick) for mark in marks}
    names = {letter: as_typed(place) for letter, place in places.items()}
    same = Counter(names[letter] for letter in {(mark.branch, mark.tick): mark.letter for mark in marks}.values())
    branches = {mark.branch for mark in marks}
    for mark in marks:
        name, line = names[mark.letter], places[mark.letter].line
        if same[name] > 1:
            after = "start" if line is None else program.writer.name(line.target)
            names[mark.letter] = f"{name} {after}" + (f" {mark.branch}" if len(branches) > 1 else "")
    return names


def change(action: JournalEntry, program: Program) -> str:
    """Describe a change: `Wz[“M”, unit 1] = 0.5`, `learning on`."""
    match action.kind:
        case "learning":
            return f"learning {'on' if action.value else 'off'}"
        case "learning_rate":
            return f"η = {significant(action.value)}"
        case "sgd":
            return "the SGD step"
        case "edit" if action.name == "text":
            return f"text[{action.index[0]}] = “{shown_char(action.value)}”"
    return f"{spoken(program, action.name, action.index)} = {significant(action.value + 0)}"


def setting(action: JournalEntry, now: Snapshot) -> str:
    """Return the value that a setting has after its change was undone or redone; empty for other changes."""
    name = action.name or action.kind
    if name == "learning":
        return f": learning is {'on' if now.settings.learning else 'off'} now"
    return f": {spoken(now.program, name, ())} is {significant(now.settings.rule[name])} now" if name in now.settings.rule else ""


def edited(name: str, index: tuple[int, ...], before: Snapshot, now: Snapshot) -> str:
    """Describe an edit of a number or a character: `Wz[“M”, unit 1] is 0.5, was -1.5227685`."""
    if name == "text":
        was, now_is = (f"“{shown_char(snapshot.corpus.text[index[0]])}”" for snapshot in (before, now))
        return f"text[{index[0]}] is {now_is}, was {was}"
    was, now_is = (_number(name, index, snapshot) for snapshot in (before, now))
    return f"{spoken(now.program, name, index)} is {now_is}, was {was}"


def update_in_words(snapshot: Snapshot) -> str:
    """Return what one update of the weights is called with this optimizer."""
    return "an SGD step" if snapshot.config.optimizer == "sgd" else "a step of the optimizer"


def largest_change(now: Snapshot) -> str:
    """Describe the largest change of the last update: `an SGD step: Wy[unit 1, “a”] changed most, by 0.0123`."""
    update = update_in_words(now)
    largest: tuple[float, str, tuple[int, ...], float] | None = None
    for name in now.program.parameters:
        step = now.last_step(name)
        if step is None or not step.size:
            continue
        index = np.unravel_index(int(np.argmax(np.abs(step))), step.shape)
        size = abs(float(step[index]))
        if largest is None or size > largest[0]:
            largest = size, name, tuple(map(int, index)), float(step[index])
    if largest is None:
        return update
    _, name, where, by = largest
    return f"{update}: {spoken(now.program, name, where)} changed most, by {short(by)}"


def branched(before: Snapshot, now: Snapshot) -> str:
    """Return a note about a change of the branch, with where the old future is; empty if the branch is the same."""
    if now.state.branch == before.state.branch:
        return ""
    old_future = f"; the old future stays on {before.state.branch}" if before.state.branch in now.state.branches.names else ""
    return f" · on branch {now.state.branch}{old_future}"


def new_place(before: Snapshot, now: Snapshot) -> str:
    """Return the new place if it has changed; otherwise the empty text."""
    return "" if now.position == before.position else f" · now {place_in_words(now)}"


def _number(name: str, index: tuple[int, ...], snapshot: Snapshot) -> str:
    if name in snapshot.settings.rule:
        return significant(snapshot.settings.rule[name])
    value: Any = snapshot.value(name)
    return "not computed" if value is None else exact(np.asarray(value)[index]).removeprefix("+")


# ------------------------------------------------------------------------------
# Results as plain data: mappings, sequences, strings, numbers and arrays, which JSON can represent.


DEPTH = 3  # levels of terms of a derivation; a further one is the derivation of another number


def position_facts(position: Position) -> dict[str, Any]:
    """Return a position with `epoch`, `batch` and `t` counted from 1, its `phase`, and all of it in `words`; in a recording also
    the `step`, as its script counts it."""
    at, step = (position.epoch, position.batch, position.t), position.step
    words = in_words(*at, position.phase, step=step, between=" · ") if position.tick else "before the first line"
    counts = dict(zip(("epoch", "batch", "t"), (number + 1 for number in at), strict=True))
    return {**counts, **({} if step is None else {"step": step}), "phase": position.phase, "words": words}


def computed_in_words(program: Program, root: Node) -> str:
    """Return when the number of a derivation was computed: `epoch 1 · batch 2 · t 3 · backward`, without a timestep where it has
    none. One that a script gave has the timestep that was asked for, and no phase."""
    number, made = root.number, root.derivation
    assert number is not None
    is_received = made.kind == "given"
    at = position_of(program, number.tick if made.tick is None or is_received else made.tick)
    if at.tick == 0:
        return "before the first line"
    named = program.names.get(number.name)
    t = at.t if number.t is None or not is_received else number.t
    is_timed = named is None or named.timed
    return in_words(at.epoch, at.batch, t if is_timed else None, "" if is_received else at.phase, step=at.step, between=" · ")


class ToldStory(NamedTuple):
    """The story of a run, with the values of other expressions at its moments, each (n)."""

    story: Story
    plotted: Mapping[str, AnyArray]


class PlainResults:
    """Converts the results of verbs on a run of this program. Indices are 0-based; timesteps `t` and places count from 1."""

    def __init__(self, program: Program) -> None:
        self._program = program
        # By name, so that no module of an analysis is imported that has not made a result.
        self._converters: Mapping[str, Callable[[Any], Any]] = {
            "Position": position_facts,
            "ValueRef": self._number,
            "Node": self._derivation,
            "LearningMap": self._learning,
            "Finding": self._finding,
            "Diagnosis": self._finding,
            "FactTable": self._facts,
            "PrintedNumbers": self._printed,
            "Activity": self._activity,
            "WhatIf": self._what_if,
            "TextLosses": self._losses,
            "CheckResult": self._check,
            "Sample": self._sample,
            "NextChances": self._prediction,
            "BranchInfo": self._branch,
            "Mark": self._mark,
            "ToldStory": self._story,
        }

    def plain(self, value: Any) -> Any:
        """Return a value as plain data. Parts of it that are none, such as a record of a batch, are left out or None."""
        converter = self._converters.get(type(value).__name__)
        if converter is not None:
            return converter(value)
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, np.ndarray):
            return value if value.dtype.kind == "f" else value.tolist()
        if isinstance(value, Mapping):
            return {str(key): self.plain(item) for key, item in value.items()}
        if isinstance(value, Set):
            return sorted(map(str, value))
        if hasattr(value, "_asdict"):
            return self.plain(value._asdict())
        if isinstance(value, Sequence):
            return [self.plain(item) for item in value]
        if is_dataclass(value) and not isinstance(value, (type, Program)):
            pairs = ((field.name, getattr(value, field.name)) for field in fields(value))
            return {name: self.plain(item) for name, item in pairs if not name.startswith("_") and _is_plain(item)}
        return None

    def _number(self, ref: ValueRef) -> dict[str, Any]:
        t = {} if ref.t is None else {"t": ref.t + 1}
        return {"name": ref.name, "index": list(ref.index), **t, "computed": position_facts(position_of(self._program, ref.tick))}

    def _derivation(self, node: Node, depth: int = DEPTH, share: float | None = None) -> dict[str, Any]:
        """Return a derivation with its terms, and theirs as far as no other batch has to be computed for them.

        The value of a term has the sign that it has in its sum; the number that it is has its own.
        """
        made = node.derivation
        plain: dict[str, Any] = {"label": node.label, "value": node.contribution, "kind": made.kind}
        plain |= {"share": share} if share is not None else {}
        plain |= {"formula": made.formula} if made.formula else {}
        plain |= {"note": made.note} if made.note else {}
        plain |= {"number": {**self._number(node.number), "value": node.value}} if node.number is not None else {}
        if depth and made.near:
            shares = node.shares or (None,) * len(node.terms)
            terms = [self._derivation(term, depth - 1, share) for term, share in zip(node.terms, shares, strict=True)]
            plain |= {"terms": terms} if terms else {}
        return plain

    def _finding(self, finding: Finding) -> dict[str, Any]:
        return {
            "name": finding.name,
            "title": finding.title,
            "meaning": finding.meaning,
            "cure": finding.cure,
            "cures": [cure.typed for cure in finding.cures],
            "is_tried": finding.is_tried,
            "cause": getattr(finding.follows_from, "name", None),
            "first_seen": None if finding.first_seen is None else position_facts(finding.first_seen),
            **({} if finding.last_seen is None else {"last_seen": position_facts(finding.last_seen)}),
            "place": None if finding.tick is None else position_facts(position_of(self._program, finding.tick)),
            "evidence": self.plain(finding.evidence),
            **self._proof(finding),
        }

    def _facts(self, table: Any) -> dict[str, Any]:
        columns = {
            name: [float(f"{cell:.6g}") if isinstance(cell, float) else cell for cell in column]
            for name, column in table.columns.items()
        }
        plain = {"part": table.name, "sentences": list(table.sentences), "columns": columns}
        return plain | ({"missing": table.missing} if table.missing else {})

    def _printed(self, shown: Any) -> dict[str, Any]:
        """Return numbers whole, up to a budget; of more, the first rows."""
        values, columns = shown.values, max(1, shown.values.shape[-1] if shown.values.ndim else 1)
        rows = max(1, MOST_NUMBERS // columns)
        left = max(0, len(values) - rows) if values.ndim == 2 else 0
        plain = {"expression": shown.expression, "shape": list(values.shape), "t": None if shown.t is None else shown.t + 1}
        finite = values[np.isfinite(values)]
        if values.ndim and finite.size:
            plain |= {"smallest": float(finite.min()), "largest": float(finite.max()), "mean": float(finite.mean())}
        return {**plain, "values": values[:rows] if left else values, **({"rows_left_out": left} if left else {})}

    @staticmethod
    def _proof(finding: Finding) -> dict[str, Any]:
        """Return the proof of a finding of a diagnosis, whose cause is a text; nothing for others."""
        names = ("cause", "seen", "tried", "proof")
        return {name: getattr(finding, name) for name in names} if hasattr(finding, "proof") else {}

    def _learning(self, learned: Any) -> dict[str, Any]:
        courses = [
            {
                "class": course.name,
                "count": course.count,
                "guess": course.guess,
                "losses": course.losses,
                "learned": None if course.learned is None else course.learned + 1,
            }
            for course in learned.classes
        ]
        batches = [batch + 1 for batch in learned.batches.tolist()]
        plain = {"batches": batches, "loss": learned.mean, "classes": self.plain(courses), "sentences": list(learned.sentences)}
        return {**plain, "unseen": learned.unseen}

    def _activity(self, activity: Activity) -> dict[str, Any]:
        row = None if activity.row is None else activity.row + 1
        plain = {"name": activity.name, "row": row, "text": self.plain(activity.text), "values": activity.values}
        plain |= {"means": activity.means, "deviations": activity.deviations}
        return plain if activity.without is None else plain | {"loss": activity.loss, "loss_without": activity.without}

    def _what_if(self, what_if: WhatIf) -> dict[str, Any]:
        before, after = what_if.losses
        names = ("name", "index", "was", "value", "differences")
        plain = {name: self.plain(getattr(what_if, name)) for name in names}
        plain |= {"remark": what_if.remark} if what_if.remark else {}
        return plain | {"t": None if what_if.t is None else what_if.t + 1, "loss": before, "loss_then": after}

    def _losses(self, losses: TextLosses) -> dict[str, Any]:
        plain = {"values": losses.values, "places": self.plain(losses.places), "text": self.plain(losses.text), "mean": losses.mean}
        still = None if losses.standstill is None else losses.standstill.at + 1
        return plain | {"by_class": self.plain(losses.by_class()), "still_from": still}

    def _check(self, check: CheckResult) -> dict[str, Any]:
        return {"batch": position_facts(check.position), "summary": check.summary, "rows": self.plain(check.rows)}

    def _sample(self, sample: Sample) -> dict[str, Any]:
        plain = {name: getattr(sample, name) for name in ("sampler", "temperature", "seed")}
        return plain | {"primer": self.plain(sample.primer), "text": sample.text}

    def _prediction(self, prediction: NextChances) -> dict[str, Any]:
        chances = [{"character": char, "probability": chance} for char, chance in prediction.likeliest]
        return {"text": prediction.text, "chances": chances}

    def _branch(self, branch: BranchInfo) -> dict[str, Any]:
        left, newest = (position_facts(position_of(self._program, tick)) for tick in (branch.tick, branch.newest))
        return {"name": branch.name, "source": branch.source, "left_at": left, "newest": newest, "loss": branch.loss}

    def _story(self, answer: ToldStory) -> dict[str, Any]:
        """Return the numbers of every batch by their names, and the numbers of the moments with their places."""
        story = answer.story
        names = [limit.written(limit.name) for limit in story.shares]
        moments = []
        for i, moment in enumerate(story.moments):
            place = position_facts(position_of(self._program, story.timeline.end_of(moment.batch)))
            plain = {name: self.plain(getattr(moment, name)) for name in _OF_MOMENTS}
            plain |= {"shares": dict(zip(names, moment.shares, strict=True))}
            plain |= {"step": moment.step if moment.steps else None}
            plain |= {"held_out": moment.held_out if math.isfinite(moment.max_weight) else None} if story.held_out else {}
            if answer.plotted:
                plain["plotted"] = {expression: values.tolist()[i] for expression, values in answer.plotted.items()}
            moments.append({"place": place, **plain})
        return {"batches": story.count, "columns": {name: story.column(name) for name in story.columns}, "moments": moments}

    def _mark(self, mark: Mark) -> dict[str, Any]:
        place = position_facts(position_of(self._program, mark.tick))
        return {"letter": mark.letter, "branch": mark.branch, "place": place, "text": mark.text}


MOST_NUMBERS = 4096  # of an array in an answer
_OF_MOMENTS = ("norms", "max_weight", "step", "steps", "deltas", "reach", "sample")


def _is_plain(value: Any) -> bool:
    """Return True unless the value has a part of the run in it, which has no end: a moment, a program, a function."""
    return not (hasattr(value, "record") or isinstance(value, Program) or callable(value))
