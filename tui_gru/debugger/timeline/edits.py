"""Edits of a run: what can be edited, how an edit is checked, and how it is applied to a record.

An edit is applied when the user makes it, and again each time its batch is replayed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tui_gru.debugger.program.names import ValueKind, unknown_name
from tui_gru.debugger.program.naming import brackets, no_entry
from tui_gru.debugger.timeline.changes import changeable, is_per_batch, offset_of, replace_number
from tui_gru.debugger.timeline.journal import JournalEntry, TextEdit, TrainingSettings
from tui_gru.debugger.timeline.moment import Moment
from tui_gru.engine import arguments
from tui_gru.engine.config import Config, check_setting
from tui_gru.engine.data.tokens import token_word
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.computing import Point
from tui_gru.engine.running.trainer import Trainer
from tui_gru.engine.running.weights import Array

# Changes a record that the caller owns, with the trainer that computes the rest. Returns where to continue (None: at the moment).
BatchEdit = Callable[[BatchRecord, Trainer], Point | None]


def nothing(record: BatchRecord, trainer: Trainer) -> None:
    """Do nothing: the change of an edit that changes settings only."""


@dataclass(frozen=True)
class Edit:
    """One edit: of an entry of a parameter, value or gradient, of a setting of the update rule (`index` empty), or of a character
    of the text."""

    name: str
    index: tuple[int, ...]
    value: Any


def action(edit: Edit) -> JournalEntry:
    """Return the journal entry of a planned edit."""
    return JournalEntry("edit", edit.name, edit.index, edit.value if edit.name == "text" else float(edit.value))


def change_of(action: JournalEntry, here: Moment, settings: TrainingSettings) -> BatchEdit:
    """Return the change that a journal entry makes to a record at a moment; `settings` are those before it.

    Raises `TuiGruError`.
    """
    if action.kind != "edit":
        return nothing
    return plan(Edit(action.name, action.index, action.value), here, settings)[1]


def plan(edit: Edit, here: Moment, settings: TrainingSettings) -> tuple[TrainingSettings, BatchEdit]:
    """Return the new settings and the change of an edit at a moment.

    Raises `TuiGruError` for an edit that is not possible there.
    """
    program = here.program
    if here.program.config.given is not None and edit.name in ("text", *settings.rule):
        raise TuiGruError(f"{edit.name} cannot be changed here: this run is on given numbers, without a text or an update")
    if edit.name == "limit" and edit.name not in settings.rule:
        raise TuiGruError("this run does not clip its gradients, so there is no limit to change; begin a run with --clip")
    if edit.name in settings.rule:
        if edit.index:
            raise TuiGruError(f"{edit.name} is one number, without an index")
        return settings.with_rule(edit.name, check_setting(edit.name, edit.value)), nothing
    if edit.name == "text":
        return _text(edit, here, settings)
    if edit.name not in changeable(program):
        known = (*changeable(program), *settings.rule, "text")
        raise TuiGruError(f"{edit.name!r} cannot be changed; {unknown_name(edit.name, known).split('; ')[-1]}")
    kind = program.names[edit.name].kind
    if kind is ValueKind.INPUT:
        raise TuiGruError(f"{edit.name} is a given input and cannot be edited; use what_if to see the effect of another value")
    if kind in (ValueKind.PARAMETER, ValueKind.OPTIMIZER_STATE):
        return settings, _weight(edit, here)
    if edit.name in program.model.page.states or kind is ValueKind.STATE:
        return settings, _state(edit, here)
    return settings, _computed(edit, here)


def _weight(edit: Edit, here: Moment) -> BatchEdit:
    """Return an edit of the current value of a weight or of a state of the update rule."""
    check_index(edit, here.weights[edit.name])
    value = checked_number(edit, here.program.config)

    def change(record: BatchRecord, trainer: Trainer) -> None:
        if edit.name in here.updated_names:
            record.own_after[edit.name][edit.index] = value
        else:
            record.before = record.before.copy()
            record.before[edit.name][edit.index] = value

    return change


def _state(edit: Edit, here: Moment) -> BatchEdit:
    """Return an edit of a computed state, or of the state that a timestep reads, before anything has used it."""
    t, program, page = here.position.t, here.program, here.program.model.page
    state = program.names[edit.name].read_in or edit.name
    shown, found = program.writer.name(state), page.before(state)
    if edit.name == state:
        if here.value(state) is None:
            raise TuiGruError(f"{shown} has not been computed yet; step over its line first, or change {found}")
        if here.position.phase == "backward":
            raise TuiGruError(f"the backward pass has begun to use {shown}; change it before that, or once the update has begun")
    elif here.executed(state, t) or here.position.phase not in ("start", "forward"):
        raise TuiGruError(f"{found} has already been used here; change {shown}, or step back to the start of the timestep")
    elif 0 <= (before := t - program.way_of(state)) < program.seq_length and not here.executed(state, before):
        raise TuiGruError(f"{found} of timestep {t + 1} has not been computed yet; change {shown} once it is")
    check_index(edit, here.record.array(edit.name)[t])
    value = checked_number(edit, program.config)

    def change(record: BatchRecord, trainer: Trainer) -> None:
        record.array(edit.name)[t][edit.index] = value

    return change


def _computed(edit: Edit, here: Moment) -> BatchEdit:
    """Return an edit of a value or delta of the timestep, or of a gradient: just after its line, before anything has read it."""
    program, per_batch = here.program, is_per_batch(here.program, edit.name)
    t = None if per_batch else here.position.t
    array = here.value(edit.name)
    if array is None:
        raise TuiGruError(f"{edit.name} has not been computed yet; step over its line first")
    if here.position.offset != offset_of(program, edit.name, t):
        gradient = program.names[edit.name].kind is ValueKind.GRADIENT
        where = "at the end of the backward pass" if gradient else "just after its line"
        raise TuiGruError(f"{edit.name} can only be changed {where}, before it is used; go there first")
    check_index(edit, np.asarray(array))
    value = checked_number(edit, program.config)

    def change(record: BatchRecord, trainer: Trainer) -> Point:
        return replace_number(record, program, edit.name, t, edit.index, value)

    return change


def _text(edit: Edit, here: Moment, settings: TrainingSettings) -> tuple[TrainingSettings, BatchEdit]:
    config = here.program.config
    char = edit.value
    if not isinstance(char, str) or char not in frozenset(config.vocabulary):
        typed = arguments.shown(char)
        what = token_word(config.vocabulary)
        raise TuiGruError(f"a {what} of the text must be in the vocabulary {config.shown_vocabulary}, not {typed}")
    if len(edit.index) != 1 or not 0 <= edit.index[0] < len(config.text):
        raise TuiGruError(f"the text has the positions 0 to {len(config.text) - 1}, not {brackets(edit.index)}")

    def change(record: BatchRecord, trainer: Trainer) -> None:
        for t in range(config.seq_length):
            if not here.begun(t):
                trainer.load(record, here.position.batch, t)

    return replace(settings, letters=TextEdit(edit.index[0], char, settings.letters)), change


def check_index(edit: Edit, array: Array) -> None:
    """Raise `TuiGruError` if the array has no entry at the index of the edit."""
    shape = array.shape
    if len(edit.index) != len(shape) or any(not -n <= i < n for i, n in zip(edit.index, shape, strict=True)):
        raise TuiGruError(no_entry(edit.name, shape, edit.index))


def checked_number(edit: Edit, config: Config) -> float:
    """Return the value of an edit, rounded to the dtype of the config. Raises `TuiGruError` unless it is a finite number."""
    with np.errstate(over="ignore"):
        value = float(np.dtype(config.dtype).type(arguments.number(edit.name, edit.value)))
    if not math.isfinite(value):
        raise TuiGruError(f"{edit.name} takes a finite {config.dtype}, not {arguments.shown(edit.value)}")
    return value


def as_index(index: Any) -> tuple[int, ...]:
    """Return an index as a tuple of whole numbers, from `2`, `(0, 1)` or None (empty). Raises `TuiGruError`."""
    if index is None:
        return ()
    parts = tuple(index) if isinstance(index, (tuple, list)) else (index,)
    if not all(isinstance(part, (int, np.integer)) and not isinstance(part, bool) for part in parts):
        raise TuiGruError(f"an index is a whole number or a tuple of them, not {arguments.shown(index)}")
    return tuple(int(part) for part in parts)
