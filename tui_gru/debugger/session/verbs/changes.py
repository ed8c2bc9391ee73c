"""Verbs that change the future of a run: edits, learning, the learning rate, adopting a what-if, undo and redo."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tui_gru.debugger.session.run import Run
from tui_gru.debugger.session.verbs import places, travel
from tui_gru.debugger.state import by_branch
from tui_gru.debugger.state.outcome import Outcome
from tui_gru.debugger.timeline.branches import Branches
from tui_gru.debugger.timeline.journal import JournalEntry
from tui_gru.engine import arguments
from tui_gru.engine.config import check_setting
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.numbers import given

if TYPE_CHECKING:
    from tui_gru.debugger.analysis.what_if import WhatIf

ALIASES = {"lr": "learning_rate", "clip": "limit"}


def learning(run: Run, value: bool) -> None:
    """Enable or disable backward and update. Raises `TuiGruError` if a run on given batches cannot be trained."""
    value = arguments.truth("learning", value)
    if value and not run.program.goes_back:
        travel.check_trains(run)
    if value != run.settings.learning:
        travel.change(run, replace(run.settings, learning=value, once=None), JournalEntry("learning", value=value))


def learning_rate(run: Run, value: float) -> None:
    """Set the learning rate from the position on. Raises `TuiGruError` if it is not valid, or the run is on given batches."""
    rate = check_setting("learning_rate", value)
    travel.check_trains(run)
    if rate != run.settings.rule["learning_rate"]:
        travel.change(run, run.settings.with_rule("learning_rate", rate), JournalEntry("learning_rate", value=rate))


def edit(run: Run, name: str, index: Any, value: Any) -> Outcome:
    """Edit a number, a character of the text, or a setting of the update rule, unless the setting has the value already.

    Raises `TuiGruError` if it cannot be edited at the position.
    """
    from tui_gru.debugger.timeline import edits

    name = arguments.text("a name", name)
    edit = edits.Edit(ALIASES.get(name, name), edits.as_index(index), value)
    settings, _ = edits.plan(edit, run.moment, run.settings)
    run.notice = None
    if edit.name in settings.rule and settings == run.settings:
        run.say(f"{edit.name} is {given(settings.rule[edit.name])} already")
    else:
        travel.change(run, settings, edits.action(edit))
    return run.outcome


def adopt(run: Run, what: WhatIf) -> Outcome:
    """Go to just after the line that computed the number of a what-if, and edit it there.

    Raises `TuiGruError` if the run has been changed since the what-if was computed.
    """
    from tui_gru.debugger.analysis.what_if import place_of_edit

    name, tick = place_of_edit(run.program, what)
    there = run.timeline.moment(run.timeline.place(tick))
    now = there.record.array(name)[there.position.t] if run.program.names[name].timed else there.value(name)
    if now is None or not np.array_equal(np.asarray(now)[what.index], what.was, equal_nan=True):
        raise TuiGruError("the run has been changed since the what-if was computed; compute it again")
    places.seek(run, tick, None, along=False)
    return edit(run, name, what.index, what.value)


def undo(run: Run) -> bool:
    """Undo the last change, and go to where it was made. False if there is none."""
    return _restore(run, run.state.branches.undo(run.state.tick))


def redo(run: Run) -> bool:
    """Redo the last undone change, and go to the position at which it was undone. False if there is none."""
    return _restore(run, run.state.branches.redo())


def rename_branch(run: Run, old: str, new: str) -> None:
    """Rename a branch, together with its hits, its log and its marks."""
    branches = run.state.branches.renamed(old, new)
    run.update(branches=branches, **by_branch.moved(run.state, old, new))


def delete_branch(run: Run, name: str) -> None:
    """Delete a branch other than the current one, with its hits, its log and its marks."""
    branches = run.state.branches.without(name)
    run.update(branches=branches, **by_branch.moved(run.state, name, None))


def _restore(run: Run, restored: tuple[Branches, int] | None) -> bool:
    if restored is None:
        return False
    branches, tick = restored
    travel.move_to(run, branches, branches.timeline.place(tick))
    return True
