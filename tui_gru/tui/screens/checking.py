"""A screen that checks batches against PyTorch: in the background, so that one can step on meanwhile."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from textual import work
from textual.message import Message

from tui_gru.tui.runs import problem_of
from tui_gru.tui.screens.looking import LookingScreen
from tui_gru.tui.widgets.cells import NumberAsked
from tui_gru.tui.widgets.overlay import Overlay
from tui_gru.tui.widgets.refs import Ref

if TYPE_CHECKING:
    from tui_gru.debugger.analysis.checking import Check, Report
    from tui_gru.tui.panels.check_report import CheckReport

LOADING = 1.0  # seconds, about: what the first batch that is checked takes, since PyTorch is loaded with it


class Computing(Message):
    """PyTorch is there, and the check for this panel has begun."""

    def __init__(self, panel: CheckReport) -> None:
        super().__init__()
        self.panel = panel


class Checked(Message):
    """A check has come to its end; `problem` says why it came to nothing."""

    def __init__(self, panel: CheckReport, report: Report | None, problem: str = "") -> None:
        super().__init__()
        self.panel, self.report, self.problem = panel, report, problem


class CheckingScreen(LookingScreen):
    """The report is of the batch that it was asked at. It is dropped where its panel has been lifted by then."""

    @property
    def checking(self) -> bool:
        """Whether a check is waited for."""
        return any(getattr(overlay, "waiting", False) for overlay in self.query(Overlay))

    async def action_check(self) -> None:
        """Check the batch one is in."""
        from tui_gru.tui.panels.check_report import CheckReport  # late, as all that the first picture does not need

        if self.running:
            return
        check = self.session.batch_check()
        panel = CheckReport(check.position)
        panel.read_at = self.session.anchor()
        await self.lay(panel)
        self._carry_out_check(panel, check)

    def check_every(self, value: bool | None) -> None:
        """Check every batch while training, or no longer; None turns it over."""
        value = not self.session.check_every_batch if value is None else value

        def switch(_: object) -> None:
            self.session.check_every_batch = value

        self.do(switch)
        if value and "torch" not in sys.modules:
            self._batch_seconds = max(self._batch_seconds, LOADING)  # so that the next step is none that the screen waits for
        if value:
            self.say("every batch is checked from here on: training takes ten to twenty times as long")
        else:
            self.say("batches are no longer checked")

    @work(thread=True, group="check", exit_on_error=True)
    def _carry_out_check(self, panel: CheckReport, check: Check) -> None:
        from tui_gru.engine.torch_loading import load_torch

        try:
            load_torch()
            self.post_message(Computing(panel))
            self.post_message(Checked(panel, check.run()))
        except Exception as error:
            self.post_message(Checked(panel, None, problem_of(error, "a check")))

    def on_computing(self, event: Computing) -> None:
        if event.panel is self.overlay:
            event.panel.is_doing("comparing with autograd, and with finite differences")

    def on_checked(self, event: Checked) -> None:
        if event.panel is not self.overlay:
            return
        if event.report is not None:
            event.panel.show_report(event.report)
        else:
            event.panel.show_problem(event.problem)

    def on_check_report_entry_chosen(self, event: CheckReport.EntryChosen) -> None:
        """Where the number of the row comes from, if it is one of the batch one is in."""
        from tui_gru.tui.panels.check_report import CheckReport

        panel = self.overlay
        report = panel.report if isinstance(panel, CheckReport) else None
        if report is None or report.position.number != self.snapshot.position.number:
            self.say("this report is of another batch: go there, and enter says where its numbers come from", warning=True)
        else:
            self.post_message(NumberAsked(Ref(event.name, event.index, event.t)))

    def on_check_report_every_batch(self) -> None:
        self.check_every(None)
