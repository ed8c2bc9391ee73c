"""Verbs that check batches against PyTorch: one batch in the background, or every batch while training."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from textual.message import Message

from tui_gru.engine.errors import TuiGruError
from tui_gru.tui.screens.runner import problem_of
from tui_gru.tui.verbs.verb import Arguments
from tui_gru.tui.widgets.snapshot_panel import SnapshotPanel

if TYPE_CHECKING:
    from tui_gru.debugger.analysis.checks.checking import Check, CheckResult
    from tui_gru.tui.panels.lists.check_report import CheckReport
    from tui_gru.tui.screens.main import MainScreen

LOADING = 1.0  # seconds, approximately: the time to load PyTorch for the first checked batch


@dataclass
class Computing(Message):
    """Posted when PyTorch is loaded and the check for this panel begins."""

    panel: CheckReport


@dataclass
class Checked(Message):
    """Posted when a check has ended; `problem` says why there is no report."""

    panel: CheckReport
    report: CheckResult | None
    problem: str = ""


def checking(screen: MainScreen) -> bool:
    """True while a check is running."""
    return any(getattr(overlay, "waiting", False) for overlay in screen.query(SnapshotPanel))


def check(screen: MainScreen, rest: Arguments) -> None:
    """Check this batch; with `every`, `every on` or `every off`, toggle or set the check of every batch while training."""
    choices = {"every": not screen.session.check_every_batch, "every on": True, "every off": False}
    words = " ".join(rest.split())
    if not words:
        _check_batch(screen)
    elif words in choices:
        check_every(screen, choices[words])
    else:
        raise TuiGruError(f"check takes no argument, or every on, or every off; not {str(rest)!r}")


def _check_batch(screen: MainScreen) -> None:
    """Check this batch in a thread. The report is discarded if its panel has been closed by then."""
    from tui_gru.tui.panels.lists.check_report import CheckReport  # imported late: not needed for the first screen

    if screen.running:
        return
    check = screen.session.batch_check()
    panel = CheckReport(check.position)
    work = partial(_carry_out, screen, panel, check)
    start = partial(screen.run_worker, work, thread=True, group="check", exit_on_error=True)
    screen.overlays.cover(panel, of_this_moment=True, then=start)


def _carry_out(screen: MainScreen, panel: CheckReport, check: Check) -> None:
    from tui_gru.engine.reference.torch_loading import load_torch

    try:
        load_torch()
        screen.post_message(Computing(panel))
        screen.post_message(Checked(panel, check.run()))
    except Exception as error:
        screen.post_message(Checked(panel, None, problem_of(error, "a check")))


def computing(screen: MainScreen, event: Computing) -> None:
    if event.panel is screen.overlay:
        event.panel.is_doing("comparing with autograd, and with finite differences")


def checked(screen: MainScreen, event: Checked) -> None:
    if event.panel is not screen.overlay:
        return
    if event.report is not None:
        event.panel.show_report(event.report)
    else:
        event.panel.show_problem(event.problem)


def entry_chosen(screen: MainScreen, event: CheckReport.EntryChosen) -> None:
    """Show where the number of the row comes from, if it belongs to the batch that is shown."""
    from tui_gru.tui.panels.lists.check_report import CheckReport
    from tui_gru.tui.verbs.explaining import ask_about

    panel = screen.overlay
    report = panel.report if isinstance(panel, CheckReport) else None
    if report is None or report.position.number != screen.snapshot.position.number:
        screen.say("this report is about another batch; go to that batch to see where its numbers come from", warning=True)
    else:
        ask_about(screen, event.name, event.index, event.t)


def every_batch_asked(screen: MainScreen) -> None:
    check_every(screen, not screen.session.check_every_batch)


def check_every(screen: MainScreen, value: bool) -> None:
    """Turn the check of every batch while training on or off."""
    screen.do(lambda _: setattr(screen.session, "check_every_batch", value))
    if value and "torch" not in sys.modules:
        screen.runner.expect(LOADING)  # otherwise the screen would wait for the next step
    if value:
        screen.say("every batch is checked from now on; training takes ten to twenty times as long")
    else:
        screen.say("batches are no longer checked")
