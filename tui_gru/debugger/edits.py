"""Edits of a run: which numbers can be changed, where in a batch, how a batch continues from there, and the journal of all
changes."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from tui_gru import arguments, errors
from tui_gru.debugger.moment import Moment, equal_values
from tui_gru.debugger.program import Program, Store, ValueKind, brackets, no_entry, unknown_name
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.config import Config, Text, check_setting, text_of_tokens, token_word
from tui_gru.engine.source import Ability
from tui_gru.engine.training import Point, Trainer, corpus_of
from tui_gru.engine.weights import Array
from tui_gru.equations import syntax as e
from tui_gru.equations.syntax import Expression, Name
from tui_gru.errors import TuiGruError

# ------------------------------------------------------------------------------
# The numbers of a run that can be changed, the place in the batch of such a change, and how the batch continues from there.


Index = tuple[int, ...]


@lru_cache(maxsize=8)
def changeable(program: Program) -> tuple[str, ...]:
    """Return the names whose numbers can be changed, in the order of the equations."""
    names = tuple(name for name, named in program.names.items() if named.kind.editable)
    numbers = tuple(name for name, variable in program.model.page.inputs.items() if not variable.one_hot)
    return numbers + tuple(name for name in names if name in _settable_parts(program) or name not in program.parts)


@lru_cache(maxsize=8)
def _settable_parts(program: Program) -> frozenset[str]:
    """Return the labelled parts from which the rest of their line can be computed without reading a weight."""
    labels = set[str]()
    for line in program.lines.values():
        for node in line.formula.walk() if line.formula is not None else ():
            if node.label and line.formula is not None and _rest_is_free(line.formula, node.label, program):
                labels.add(node.label)
    return frozenset(labels)


def _rest_is_free(node: Expression, label: str, program: Program) -> bool:
    """Return True if nothing between a part and its complete line reads a weight, except in other recorded parts."""
    if node.label == label:
        return True
    inside = [child for child in node.children if any(part.label == label for part in child.walk())]
    outside = [child for child in node.children if child not in inside]
    if isinstance(node, e.Product) or not inside:
        return False
    free = all(child.label or not any(n in program.parameters for n in child.names()) for child in outside)
    return free and all(_rest_is_free(child, label, program) for child in inside)


def offset_of(program: Program, name: str, t: int | None) -> int:
    """Return the tick within a batch at which a number exists and no line that reads it has been executed.

    A parameter exists from the start, a gradient once it is complete; `t` is None for both. A value that comes from another
    timestep exists before the line that reads it.
    """
    named = program.names[name]
    if named.kind.is_weight:
        return 0
    if named.kind.store is Store.GRADIENTS:
        return program.backward_end
    offset = program.readable_from(name, t)
    assert offset is not None
    first, _ = program.line_at(offset)
    return offset - 1 if named.kind is ValueKind.STATE or name in first.reads else offset


def replace_number(
    record: BatchRecord, program: Program, name: str, t: int | None, index: tuple[int | slice, ...], value: float
) -> Point:
    """Set entry `index` of `name` (of timestep `t`) to `value` in a record that the caller owns; with a slice, all along its axis.
    Returns where the batch continues.

    Setting the existing value changes no bit. Raises `TuiGruError` for a gradient from after the last timestep, which is always 0.
    """
    named = program.names[name]
    if named.kind.per_batch:
        if named.kind.is_weight:
            record.before = record.before.copy()
        named.array(record, after=False)[index] = value
        return program.point_after(offset_of(program, name, None))
    assert t is not None
    page = program.model.page
    state = program.state_receiving(name)
    if state is not None:
        direction = -1 if page.states[state].backwards else 1
        if not 0 <= t + direction < program.seq_length:
            edge = "last" if direction > 0 else "first"
            raise TuiGruError(f"{name} of the {edge} timestep is 0: nothing comes after it; change {name.rpartition('_')[0]} there")
    array = record.array(name)
    array = array[t : t + 1] if named.timed else array[np.newaxis]  # so that a scalar has an entry to set as well
    array[(0, *index)] = value
    return _rest_of_line(program, name, t)


def _rest_of_line(program: Program, name: str, t: int) -> Point:
    """Return the point from which a batch continues after an edit of `name`: after its line, or inside it after an edited part."""
    offset = offset_of(program, name, t)
    if name in program.lines or name not in program.parts:
        return program.point_after(offset)
    line = program.lines[program.written_with[name]]
    assert line.formula is not None
    point = program.point_after(offset - 1)
    return point._replace(parts=frozenset(part.label for part in line.formula.walk() if part.label and not _contains(part, name)))


def _contains(node: Expression, label: str) -> bool:
    return any(_contains(child, label) or child.label == label for child in node.children) if not isinstance(node, Name) else False


# ------------------------------------------------------------------------------
# The journal of changes that affected the future of a run. Entries are small, so all of them are kept.


MOST_TRAINERS = 2


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One change; `kind` is begin, learning, learning_rate, sgd or edit.

    An edit has a name, an index (empty for a setting of the update rule) and a value. Only in a what-if, which is not in the
    journal, the index may have None, for all along its axis.
    """

    kind: str
    name: str = ""
    index: tuple[Any, ...] = ()
    value: Any = None

    @property
    def args(self) -> dict[str, Any]:
        """Its arguments in a form that JSON can represent."""
        if self.kind == "edit":
            return {"name": self.name, "index": list(self.index), "value": self.value}
        return {} if self.value is None else {"value": self.value}

    @classmethod
    def of(cls, kind: str, args: Mapping[str, Any]) -> JournalEntry:
        """Create an entry from its kind and `args`."""
        return cls(kind, args.get("name", ""), tuple(args.get("index", ())), args.get("value"))


@dataclass(frozen=True, eq=False, slots=True)
class TextEdit:
    """An edited character of the text at `place` (0-based), and the one edited before it."""

    place: int
    char: str
    before: TextEdit | None


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """The settings of a stretch of training: `rule` has those of the update rule by name. `once` is the batch that learns although
    learning is off (an SGD step)."""

    learning: bool
    rule: Mapping[str, float]
    once: int | None = None
    letters: TextEdit | None = None

    def with_rule(self, name: str, value: float) -> TrainingSettings:
        """Return the settings with another value of one setting of the update rule."""
        return replace(self, rule={**self.rule, name: value})

    def learns(self, batch: int) -> bool:
        """Return True if a batch, counted through all epochs, ends with backward and update."""
        return self.learning or self.once == batch


class Trainers:
    """The trainers of a run, one per version of the text. Only the most recently used are cached; others are created again."""

    def __init__(self, config: Config) -> None:
        self._first = Trainer(config, corpus_of(config))
        self._made: OrderedDict[TextEdit, Trainer] = OrderedDict()

    def keep_records(self, most: int) -> None:
        """Set how many records are kept for reuse."""
        self._first.pool.most = most

    def reserve_record(self) -> None:
        """Take the memory of the first record at once. Otherwise the parts that the first batch does not compute would be taken
        later, beyond the limit of what a session takes after it is opened."""
        self._first.new_record().block.fill(0)

    def of(self, letters: TextEdit | None) -> Trainer:
        """Return the trainer for the text with these characters edited."""
        if letters is None:
            return self._first
        if letters not in self._made:
            config = replace(self._first.config, text=self._text(letters))
            self._made[letters] = Trainer(config, corpus_of(config), self._first.pool)
        self._made.move_to_end(letters)
        while len(self._made) > MOST_TRAINERS:
            self._made.popitem(last=False)
        return self._made[letters]

    def _text(self, letters: TextEdit | None) -> Text:
        changed: dict[int, str] = {}
        while letters is not None:
            changed.setdefault(letters.place, letters.char)
            letters = letters.before
        text = list(self._first.config.text)
        for place, char in changed.items():
            text[place] = char
        return text_of_tokens(text, self._first.config.text)


# ------------------------------------------------------------------------------
# Edits of a run: what can be edited, how an edit is checked, and how it is applied to a record.
#
# An edit is applied when the user makes it, and again each time its batch is replayed.


# Changes a record that the caller owns, with the trainer that computes the rest. Returns where to continue (None: at the moment).
BatchEdit = Callable[[BatchRecord, Trainer], Point | None]


def nothing(record: BatchRecord, trainer: Trainer) -> None:
    """Do nothing: the change of an edit that changes settings only."""


def change_of(action: JournalEntry, moment: Moment, settings: TrainingSettings) -> BatchEdit:
    """Return the change that a journal entry makes to a record at a moment; `settings` are those before it.

    Raises `TuiGruError`.
    """
    return plan(action, moment, settings)[1] if action.kind == "edit" else nothing


def plan(edit: JournalEntry, moment: Moment, settings: TrainingSettings) -> tuple[TrainingSettings, BatchEdit]:
    """Return the new settings and the change of an edit at a moment.

    Raises `TuiGruError` for an edit that is not possible there.
    """
    program = moment.program
    if edit.name in ("text", *settings.rule):
        why = program.config.source.refusals.get(Ability.TEXT if edit.name == "text" else Ability.TRAIN)
        if why is not None:
            raise TuiGruError(f"{edit.name} cannot be changed here: {why}")
    if edit.name == "limit" and edit.name not in settings.rule:
        raise TuiGruError("this run does not clip its gradients, so there is no limit to change; begin a run with --clip")
    if edit.name in settings.rule:
        if edit.index:
            raise TuiGruError(f"{edit.name} is one number, without an index")
        return settings.with_rule(edit.name, check_setting(edit.name, edit.value)), nothing
    if edit.name == "text":
        return _text(edit, moment, settings)
    if edit.name not in changeable(program):
        allowed = (*changeable(program), *settings.rule, "text")
        raise TuiGruError(f"{edit.name!r} cannot be changed; {unknown_name(edit.name, allowed).split('; ')[-1]}")
    kind = program.names[edit.name].kind
    if edit.name in program.model.page.inputs:
        raise TuiGruError(f"{edit.name} is a given input and cannot be edited; use what_if to see the effect of another value")
    if kind.is_weight:
        return settings, _weight(edit, moment)
    if edit.name in program.model.page.states or kind.is_read:
        return settings, _state(edit, moment)
    return settings, _computed(edit, moment)


def _weight(edit: JournalEntry, moment: Moment) -> BatchEdit:
    """Return an edit of the current value of a weight or of a state of the update rule."""
    check_index(moment.program, edit, moment.weights[edit.name])
    value = checked_number(edit, moment.program.config)

    def change(record: BatchRecord, trainer: Trainer) -> None:
        if edit.name in moment.updated_names:
            record.own_after[edit.name][edit.index] = value
        else:
            record.before = record.before.copy()
            record.before[edit.name][edit.index] = value

    return change


def _state(edit: JournalEntry, moment: Moment) -> BatchEdit:
    """Return an edit of a computed state, or of the state that a timestep reads, before anything has used it."""
    t, program, page = moment.position.t, moment.program, moment.program.model.page
    state = program.names[edit.name].read_in or edit.name
    shown, previous = program.writer.name(state), page.before(state)
    if edit.name == state:
        if moment.value(state) is None:
            raise TuiGruError(f"{shown} has not been computed yet; step over its line first, or change {previous}")
        if moment.position.phase == "backward":
            raise TuiGruError(f"the backward pass has begun to use {shown}; change it before that, or once the update has begun")
    elif moment.executed(state, t) or moment.position.phase not in ("start", "forward"):
        raise TuiGruError(f"{previous} has already been used here; change {shown}, or step back to the start of the timestep")
    elif 0 <= (before := t - program.direction_of(state)) < program.seq_length and not moment.executed(state, before):
        raise TuiGruError(f"{previous} of timestep {t + 1} has not been computed yet; change {shown} once it is")
    check_index(moment.program, edit, moment.record.array(edit.name)[t])
    value = checked_number(edit, program.config)

    def change(record: BatchRecord, trainer: Trainer) -> None:
        record.array(edit.name)[t][edit.index] = value

    return change


def _computed(edit: JournalEntry, moment: Moment) -> BatchEdit:
    """Return an edit of a value or delta of the timestep, or of a gradient: just after its line, before anything has read it."""
    program, per_batch = moment.program, moment.program.names[edit.name].kind.per_batch
    t = None if per_batch else moment.position.t
    array = moment.value(edit.name)
    if array is None:
        why = moment.why_missing(edit.name)
        raise TuiGruError(why or f"{edit.name} has not been computed yet; step over its line first")
    if moment.position.offset != offset_of(program, edit.name, t):
        where = (
            "at the end of the backward pass" if program.names[edit.name].kind.store is Store.GRADIENTS else "just after its line"
        )
        raise TuiGruError(f"{edit.name} can only be changed {where}, before it is used; go there first")
    check_index(program, edit, np.asarray(array))
    value = checked_number(edit, program.config)

    def change(record: BatchRecord, trainer: Trainer) -> Point:
        return replace_number(record, program, edit.name, t, edit.index, value)

    return change


def _text(edit: JournalEntry, moment: Moment, settings: TrainingSettings) -> tuple[TrainingSettings, BatchEdit]:
    config = moment.program.config
    char = edit.value
    if not isinstance(char, str) or char not in frozenset(config.vocabulary):
        typed = errors.shown(char)
        token = token_word(config.vocabulary)
        raise TuiGruError(f"a {token} of the text must be in the vocabulary {config.shown_vocabulary}, not {typed}")
    if len(edit.index) != 1 or not 0 <= edit.index[0] < len(config.text):
        raise TuiGruError(f"the text has the positions 0 to {len(config.text) - 1}, not {brackets(edit.index)}")

    def change(record: BatchRecord, trainer: Trainer) -> None:
        for t in range(config.seq_length):
            if not moment.begun(t):
                trainer.load(record, moment.position.batch, t)

    return replace(settings, letters=TextEdit(edit.index[0], char, settings.letters)), change


def check_index(program: Program, edit: JournalEntry, array: Array) -> None:
    """Raise `TuiGruError` if the array has no entry at the index of the edit."""
    shape = array.shape
    if len(edit.index) != len(shape) or any(not -n <= i < n for i, n in zip(edit.index, shape, strict=True)):
        raise TuiGruError(no_entry(program, edit.name, shape, edit.index))


def checked_number(edit: JournalEntry, config: Config) -> float:
    """Return the value of an edit, rounded to the dtype of the config. Raises `TuiGruError` unless it is a finite number."""
    with np.errstate(over="ignore"):
        value = float(np.dtype(config.dtype).type(arguments.real_number(edit.name, edit.value)))
    if not math.isfinite(value):
        raise TuiGruError(f"{edit.name} takes a finite {config.dtype}, not {errors.shown(edit.value)}")
    return value


def as_index(index: Any) -> tuple[int, ...]:
    """Return an index as a tuple of whole numbers, from `2`, `(0, 1)` or None (empty). Raises `TuiGruError`."""
    if index is None:
        return ()
    parts = tuple(index) if isinstance(index, (tuple, list)) else (index,)
    return tuple(
        arguments.integer("each part of an index", part, least=-arguments.LARGEST, most=arguments.LARGEST) for part in parts
    )


def values_at(moment: Moment) -> dict[str, Any]:
    """Return copies of the values at a moment that a change can change, by name; None for one that has not been computed."""
    settings = moment.program.model.rule.settings if moment.program.update else ()
    names = (*changeable(moment.program), *settings)
    values = {name: moment.value(name) for name in names}
    return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in values.items()}


def changed_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> frozenset[str]:
    """Return the names whose values differ."""
    return frozenset(name for name, value in after.items() if value is not before[name] and not equal_values(before[name], value))
