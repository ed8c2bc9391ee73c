"""The answers of verbs in words, shown in the last row of the screen or printed without one: what was done, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tui_gru.debugger.position import in_words
from tui_gru.debugger.program import shown_char, spoken
from tui_gru.engine.numbers import exact, given, short
from tui_gru.session.snapshot import Snapshot

if TYPE_CHECKING:
    from tui_gru.debugger.edits import JournalEntry
    from tui_gru.debugger.program import Program


def place_in_words(snapshot: Snapshot) -> str:
    """Return the place as `at epoch 2 · batch 1 · t 3 · forward`; at the end of a batch, with what follows."""
    at, program = snapshot.position, snapshot.program
    if at == snapshot.last:
        return f"at the end of the run, after epoch {at.epoch + 1:,}"
    if at.tick == 0:
        return "before the first line"
    if at.offset == (program.ticks if snapshot.moment.learned else program.loss_tick):
        if at.batch + 1 == program.num_batches:
            return f"at the end of epoch {at.epoch + 1:,}: epoch {at.epoch + 2:,} begins with the next line"
        return f"at the end of {in_words(at.epoch, at.batch, between=' · ')}: batch {at.batch + 2:,} begins with the next line"
    t = None if snapshot.timestep is None else at.t
    return f"at {in_words(at.epoch, at.batch, t, at.phase, between=' · ')}"


def change(action: JournalEntry, program: Program) -> str:
    """Describe a change: `Wz[“M”, unit 1] = 0.5`, `learning on`."""
    match action.kind:
        case "learning":
            return f"learning {'on' if action.value else 'off'}"
        case "learning_rate":
            return f"η = {given(action.value)}"
        case "sgd":
            return "the SGD step"
        case "edit" if action.name == "text":
            return f"text[{action.index[0]}] = “{shown_char(action.value)}”"
    return f"{spoken(program, action.name, action.index)} = {given(action.value + 0)}"


def setting(action: JournalEntry, now: Snapshot) -> str:
    """Return the value that a setting has after its change was undone or redone; empty for other changes."""
    name = action.name or action.kind
    if name == "learning":
        return f": learning is {'on' if now.settings.learning else 'off'} now"
    return f": {spoken(now.program, name, ())} is {given(now.settings.rule[name])} now" if name in now.settings.rule else ""


def edited(name: str, index: tuple[int, ...], before: Snapshot, now: Snapshot) -> str:
    """Describe an edit of a number or a character: `Wz[“M”, unit 1] is 0.5, was -1.5227685`."""
    if name == "text":
        was, now_is = (f"“{shown_char(snapshot.corpus.text[index[0]])}”" for snapshot in (before, now))
        return f"text[{index[0]}] is {now_is}, was {was}"
    was, now_is = (_number(name, index, snapshot) for snapshot in (before, now))
    return f"{spoken(now.program, name, index)} is {now_is}, was {was}"


def stepped(now: Snapshot) -> str:
    """Describe the largest change of the last SGD step: `an SGD step: Wy[unit 1, “a”] changed most, by 0.0123`."""
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
        return "an SGD step"
    _, name, where, by = largest
    return f"an SGD step: {spoken(now.program, name, where)} changed most, by {short(by)}"


def branched(before: Snapshot, now: Snapshot) -> str:
    """Return a note about a change of the branch, with where the old future is; empty if the branch is the same."""
    if now.state.branch == before.state.branch:
        return ""
    kept = f"; the old future stays on {before.state.branch}" if before.state.branch in now.state.branches.names else ""
    return f" · on branch {now.state.branch}{kept}"


def moved(before: Snapshot, now: Snapshot) -> str:
    """Return the new place if it has changed; otherwise the empty text."""
    return "" if now.position == before.position else f" · now {place_in_words(now)}"


def _number(name: str, index: tuple[int, ...], snapshot: Snapshot) -> str:
    if name in snapshot.settings.rule:
        return given(snapshot.settings.rule[name])
    value: Any = snapshot.value(name)
    return "not computed" if value is None else exact(np.asarray(value)[index]).removeprefix("+")
