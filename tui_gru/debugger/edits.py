"""Changes to a run: what can be changed, how it is checked, and how it is made to a record and its parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tui_gru.debugger.changeable import gradients_of, offset_of, values_of
from tui_gru.debugger.moment import Moment, unknown_name
from tui_gru.debugger.segment import Action, Settings
from tui_gru.debugger.timeline import Change, nothing
from tui_gru.engine import arguments
from tui_gru.engine.config import Config, check_learning_rate
from tui_gru.engine.corpus import Corpus
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.parameters import Array, Parameters, parameter_names
from tui_gru.engine.record import BatchRecord
from tui_gru.engine.replacing import replace_gradient, replace_value
from tui_gru.engine.trainer import Trainer

STATES = ("h", "h_prev")


@dataclass(frozen=True)
class Edit:
    """One change: a number of a parameter, a value or a gradient, the learning rate (`index` empty), or a character of the text."""

    name: str
    index: tuple[int, ...]
    value: Any


def action(edit: Edit) -> Action:
    """An edit that has been planned, as the action that it is."""
    value = edit.value if edit.name == "text" else float(edit.value)
    return Action("edit", {"name": edit.name, "index": list(edit.index), "value": value})


def plan(edit: Edit, here: Moment, settings: Settings) -> tuple[Settings, Change]:
    """The settings and the change that make an edit at a moment. Raises `TuiGruError` where it makes no sense."""
    config = settings.trainer.config
    if edit.name == "learning_rate":
        return replace(settings, learning_rate=check_learning_rate("learning_rate", edit.value)), nothing
    if edit.name == "text":
        return _text(edit, here, settings)
    if edit.name in STATES:
        return settings, _state(edit, here)
    if edit.name in parameter_names(config.reset):
        check_index(edit, here.parameters[edit.name])
        value = checked_number(edit, here.program.config)

        def change(record: BatchRecord, parameters: Parameters) -> None:
            parameters[edit.name][edit.index] = value

        return settings, change
    if edit.name in (*values_of(config.reset), *gradients_of(config.reset)):
        return settings, _computed(edit, here)
    known = (*parameter_names(config.reset), *values_of(config.reset), *gradients_of(config.reset), "learning_rate", "text")
    raise TuiGruError(f"{edit.name!r} cannot be changed; {unknown_name(edit.name, known).split('; ')[-1]}")


def _state(edit: Edit, here: Moment) -> Change:
    t = here.position.t
    if edit.name == "h":
        if here.value("h") is None:
            raise TuiGruError("h has not been computed at this place yet; step over its line first, or change h_prev")
        if here.position.phase == "backward":
            raise TuiGruError("the backward pass has begun to use h; change it before that, or once the update has begun")
        at = t + 1
    else:
        if here.executed("logits", t):
            raise TuiGruError("h_prev has been used at this place already; change h, or step back to the start of the timestep")
        at = t
    check_index(edit, here.record.activations.states[at])
    value = checked_number(edit, here.program.config)

    def change(record: BatchRecord, parameters: Parameters) -> None:
        record.activations.states[at][edit.index] = value

    return change


def _computed(edit: Edit, here: Moment) -> Change:
    """A value or a delta of the timestep, or a gradient: just after its line, before anything has read it."""
    gradient = edit.name in gradients_of(here.program.config.reset)
    t = None if gradient else here.position.t
    array = here.value(edit.name)
    if array is None:
        raise TuiGruError(f"{edit.name} has not been computed at this place yet; step over its line first")
    if here.position.offset != offset_of(here.program, edit.name, t):
        where = "at the end of the backward pass" if gradient else "just after its line"
        raise TuiGruError(f"{edit.name} can only be changed {where}, before it is used; go there first")
    check_index(edit, np.asarray(array))
    value = checked_number(edit, here.program.config)

    def change(record: BatchRecord, parameters: Parameters) -> None:
        if t is None:
            replace_gradient(record, edit.name[1:], edit.index, value)
        else:
            replace_value(record, edit.name, t, edit.index, value)

    return change


def _text(edit: Edit, here: Moment, settings: Settings) -> tuple[Settings, Change]:
    config = settings.trainer.config
    char = edit.value
    if not isinstance(char, str) or len(char) != 1 or char not in config.vocabulary:
        typed = arguments.shown(char)
        raise TuiGruError(f"a character of the text must be one of the vocabulary {config.shown_vocabulary}, not {typed}")
    if len(edit.index) != 1 or not 0 <= edit.index[0] < len(config.text):
        raise TuiGruError(f"the text has the positions 0 to {len(config.text) - 1}, not {_shown(edit.index)}")
    i = edit.index[0]
    text = config.text[:i] + char + config.text[i + 1 :]
    changed = replace(config, text=text)
    trainer = Trainer(changed, Corpus(changed))

    def change(record: BatchRecord, parameters: Parameters) -> None:
        for t in range(config.seq_length):
            if not here.begun(t):
                trainer.load(record, here.position.batch, t)

    return replace(settings, trainer=trainer), change


def check_index(edit: Edit, array: Array) -> None:
    """Raises `TuiGruError` where the array has no such cell."""
    shape = array.shape
    if len(edit.index) != len(shape) or any(not -n <= i < n for i, n in zip(edit.index, shape, strict=True)):
        raise TuiGruError(
            f"{edit.name} has the shape {' x '.join(map(str, shape))} and no cell {_shown(edit.index)}; indices are counted from 0"
        )


def checked_number(edit: Edit, config: Config) -> float:
    """The value, rounded to the config's dtype. Raises `TuiGruError` where it is no finite number."""
    with np.errstate(over="ignore"):
        value = float(np.dtype(config.dtype).type(arguments.number(edit.name, edit.value)))
    if not math.isfinite(value):
        raise TuiGruError(f"{edit.name} takes a finite {config.dtype}, not {arguments.shown(edit.value)}")
    return value


def _shown(index: Sequence[int]) -> str:
    return f"[{', '.join(map(str, index))}]"


def as_index(index: Any) -> tuple[int, ...]:
    """`2`, `(0, 1)`, `None` as a tuple of whole numbers. Raises `TuiGruError`."""
    if index is None:
        return ()
    parts = tuple(index) if isinstance(index, (tuple, list)) else (index,)
    if not all(isinstance(part, (int, np.integer)) and not isinstance(part, bool) for part in parts):
        raise TuiGruError(f"an index is a whole number or a tuple of them, not {arguments.shown(index)}")
    return tuple(int(part) for part in parts)
