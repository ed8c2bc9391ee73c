"""Verbs that try in the loop of a script, which stands still at a pause: `:again`, and what its panel does."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tui_gru.debugger.position import Reader, shortened_input
from tui_gru.engine.source import Imported
from tui_gru.errors import TuiGruError
from tui_gru.tui import panels
from tui_gru.tui.keys import sign_of_key

if TYPE_CHECKING:
    from tui_gru.analysis.live import LiveLoop
    from tui_gru.session.session import Session
    from tui_gru.session.travel import SearchProgress
    from tui_gru.tui.keys import Arguments
    from tui_gru.tui.screen import MainScreen

USAGE = "again, again step 40 lr=1e-3, again skip, again clip=1, again seed=7, again line 31 loss = F.l1_loss(p, y), or again file"
_NUMBERS = ("lr", "rate", "clip", "weight_decay", "seed")


def live_loop(screen: MainScreen) -> LiveLoop:
    """Return the loop whose steps the session shows. Raises `TuiGruError` if there is none."""
    loop = screen.session.live
    if loop is None:
        raise TuiGruError("no script stands still here; pause one with for … in tui_gru.steps(loader, model, optimizer, pause=40)")
    return loop


def again(screen: MainScreen, rest: Arguments) -> None:
    """Run the last steps of the script's loop again, with a change, and show its losses beside those of the run."""
    loop = live_loop(screen)
    change = typed_change(rest, step=_step_shown(screen), loop=loop)
    add_edited_weights(screen.session, change, step=_step_shown(screen), loop=loop)
    panel = panels.trials.TrialsList(loop.trials, "the steps are computed again …")

    def attempt(progress: SearchProgress | None) -> Any:
        interrupts = screen.session.interrupts

        def report(number: int) -> None:
            interrupts.check("stopped; the script is as it was")
            if progress is not None:
                progress(f"step {number}")

        try:
            return loop.again(progress=report, **change)
        finally:
            screen.show_on(panel, lambda: panel.tell(loop.trials))

    def say(trial: Any) -> None:
        screen.say(panels.trials.trial_in_words(trial))

    screen.overlays.cover(panel, then=partial(screen.do, attempt, batches=None, then=say))


def typed_change(text: str, *, step: int | None, loop: LiveLoop) -> dict[str, Any]:
    """Return the arguments of `again` that are typed. `step` is the step on the screen, from 1, which `skip` leaves out."""
    change: dict[str, Any] = {}
    reader = Reader(text, USAGE)
    while reader.left:
        word = reader.next_word
        name, equals, value = word.partition("=")
        if word == "step":
            reader.word()
            change["since"] = reader.integer("a step", least=1)
        elif word == "skip":
            reader.word()
            number = reader.integer("a step", least=1) if reader.next_is_integer() else step
            if number is None:
                raise reader.error("skip takes the number of a step")
            change["skip"] = number
            change.setdefault("since", number)
        elif word == "line":
            reader.word()
            number = reader.integer("a line", least=1)
            change["lines"] = {**change.get("lines", {}), number: reader.left}
            break
        elif word == "file":
            reader.word()
            change["lines"] = {**change.get("lines", {}), **loop.edited_lines()}
        elif equals and name in _NUMBERS:
            reader.word()
            try:
                change[name] = int(value) if name == "seed" else float(value)
            except ValueError:
                raise TuiGruError(f"{name} takes a number, not {shortened_input(value)}; type {USAGE}") from None
        else:
            raise reader.error(f"again takes no {shortened_input(word)}")
    return change


def add_edited_weights(session: Session, change: dict[str, Any], *, step: int | None, loop: LiveLoop) -> None:
    """Let a trial begin with the weights on the screen, if they were edited in the step that it shows. Raises `TuiGruError` if they
    are no parameters of the script, or the trial is to begin elsewhere."""
    from tui_gru.imported.captured import CapturedBatch, changed_parameters

    source = session.config.source
    batch = source.batch(session.position.number) if isinstance(source, Imported) else None
    if step is None or not isinstance(batch, CapturedBatch):
        return
    weights = {name: session.value(name) for name in batch.weights.names}
    values = changed_parameters(batch, weights)
    if not values:
        return
    if session.is_on_trial:
        raise TuiGruError(
            f"{session.branch} is a trial, and the script stands after its own steps: edit the weight on {session.branches[0]}"
        )
    if change.get("since", step) != step:
        raise TuiGruError(f"the edited weights are those of step {step}, where the trial then begins: type again step {step}")
    edited = [name for name in batch.weights.names if not np.array_equal(weights[name], batch.weights[name], equal_nan=True)]
    change |= {"since": step, "edit": loop.with_parameters(values, f"{', '.join(edited)} edited")}


def _step_shown(screen: MainScreen) -> int | None:
    _, _, number = screen.snapshot.config.source.step(screen.snapshot.position.number).rpartition(" ")
    digits = number.replace(",", "")
    return int(digits) if digits.isdigit() else None


def trial_opened(screen: MainScreen, trial: Any) -> None:
    """Go to the steps of a trial, a branch beside the run, which can be compared with it."""
    name, key = trial.words or "unchanged", sign_of_key(screen, "compare")

    def open_trial(progress: object) -> bool:
        session = trial.session
        if screen.session.add_trial(session, trial.since, name):
            return True
        screen.session = session
        return False

    def say(is_branch: bool) -> None:
        if is_branch:
            then = f"{key} compares it with {screen.session.branches[0]}"
        else:
            then = f"its steps have other sizes than the run, so it is no branch of it and {key} has nothing to compare"
        screen.say(f"this is the trial {name}; {then}; the script still stands after its own steps")

    screen.do(open_trial, batches=None, then=say)


def trial_adopted(screen: MainScreen, trial: Any) -> None:
    """Ask whether the script goes on from the end of a trial; the next key is the answer."""
    loop = live_loop(screen)
    screen.say(
        f"your script goes on from the end of this trial ({trial.words or 'unchanged'}), not from its own steps? y/n", warning=True
    )

    def adopt(progress: object) -> None:
        loop.adopt(trial)
        screen.note("the script goes on from the end of the trial")

    screen.pending.ask(lambda: screen.do(adopt, batches=None), otherwise="the script goes on from its own steps")
