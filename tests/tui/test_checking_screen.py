"""The key that checks a batch, with PyTorch running in the background."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.tui.test_main_screen import Driver, driving
from tui_gru.analysis.check import Check, CheckResult
from tui_gru.engine.batch import BatchRecord
from tui_gru.errors import TuiGruError
from tui_gru.tui.headless import until_idle
from tui_gru.tui.panel import Request
from tui_gru.tui.panels.check import CheckReport
from tui_gru.tui.panels.derivation import DerivationPanel
from tui_gru.tui.panels.time import Header


class Gate:
    """Blocks every check until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._open, self.runs = threading.Event(), 0
        run = Check.run

        def held(check: Check, **options: Any) -> CheckResult:
            self.runs += 1
            assert self._open.wait(30)
            return run(check, **options)

        monkeypatch.setattr(Check, "run", held)

    def open(self) -> None:
        self._open.set()


def panel_of(d: Driver) -> CheckReport:
    overlay = d.screen.overlay
    assert isinstance(overlay, CheckReport)
    return overlay


def text_of(d: Driver) -> str:
    panel = panel_of(d)
    panel.render_line(0)
    return "\n".join(strip.text for strip in panel.drawn)


async def report_in(d: Driver) -> CheckResult:
    """Wait for the report."""
    for _ in range(1500):
        report = panel_of(d).report
        if report is not None:
            await d.pilot.pause()
            return report
        await d.pilot.pause(0.02)
    raise AssertionError("no report came")


async def test_k_checks_the_batch_one_is_in() -> None:
    async with driving() as d:
        await d.type("l", "n", "s", "k")
        report = await report_in(d)
        assert report.agrees
        assert report.position == d.session.position
        assert "all 47 arrays agree" in text_of(d)
        assert "epoch 1 · batch 2/3" in str(panel_of(d).border_title)
        await d.type("escape")
        assert d.screen.overlay is None


async def test_the_screen_lives_on_and_the_report_is_of_where_it_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    async with driving() as d:
        await d.type("l", "n", "k")
        where = d.session.position
        while gate.runs == 0:
            await d.pilot.pause(0.02)
        frames = {text_of(d)}
        while len(frames) < 2:  # the spinner turns
            await d.pilot.pause(0.02)
            frames.add(text_of(d))
        assert all("comparing with autograd" in frame for frame in frames)
        await d.type("s", "s", "3n")
        assert d.session.position.number == 3
        gate.open()
        report = await report_in(d)
        assert report.position == where
        title = str(panel_of(d).border_title)
        assert "batch 1/3" in title
        assert "k checks this one" in title
        await d.type("k")
        assert (await report_in(d)).position == d.session.position
        assert "k checks" not in str(panel_of(d).border_title)


async def test_a_report_for_a_panel_that_was_lifted_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    async with driving() as d:
        await d.type("n", "k", "escape", "n", "k")
        second = d.session.position
        gate.open()
        assert (await report_in(d)).position == second
        await d.type("escape")
        assert d.screen.overlay is None
        await d.type("s")
        assert d.session.position.tick > second.tick


async def test_why_nothing_came_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(check: Check, **options: Any) -> CheckResult:
        raise TuiGruError("this batch has NaN or Inf in its loss or gradients")

    monkeypatch.setattr(Check, "run", refused)
    async with driving() as d:
        await d.type("n", "k")
        for _ in range(500):
            if "NaN or Inf" in text_of(d):
                break
            await d.pilot.pause(0.02)
        assert "NaN or Inf" in text_of(d)


async def test_the_cursor_and_enter_choose_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[tuple[str, tuple[int, ...], int | None]] = []
    monkeypatch.setattr(CheckReport, "post_message", _noting(chosen))
    async with driving() as d:
        await d.type("l", "n", ":check")
        report = await report_in(d)
        await d.type("home", "enter")
        await d.type("down", "down", "down", "down", "down", "enter", "up", "enter", *["down"] * 20, "enter", "end", "enter")
        rows = report.rows
        assert [name for name, _, _ in chosen] == [rows[i].name for i in (0, 5, 4, 24, len(rows) - 1)]
        assert chosen[1] == (rows[5].name, rows[5].worst.index[1:], rows[5].worst.index[0])
        assert chosen[3] == (rows[24].name, rows[24].worst.index, None)


def _noting(chosen: list[Any]) -> Any:
    post = CheckReport.post_message

    def noting(panel: CheckReport, message: Any) -> bool:
        if isinstance(message, Request) and message.name == "check.entry":
            chosen.append(message.arguments)
            return True
        return post(panel, message)

    return noting


async def test_enter_on_a_row_asks_where_its_number_comes_from() -> None:
    async with driving() as d:
        await d.type("l", "n", "k")
        await report_in(d)
        await d.type("home", "enter")
        await until_idle(d.pilot)  # on a slow machine it is derived in a thread
        await d.pilot.pause()
        origin = d.screen.overlay
        assert isinstance(origin, DerivationPanel)
        number = origin.leaf.root.number
        assert number is not None
        assert number.name == "dlogits"
        await d.type("escape", "k")
        await report_in(d)
        await d.type("n", "enter")
        assert "this report is about another batch" in d.says
        assert isinstance(d.screen.overlay, CheckReport)


async def test_every_batch_is_checked_while_training() -> None:
    async with driving() as d:
        await d.type("l", ":check every on")
        assert "every batch is checked" in d.says
        await d.type("3n")
        assert d.session.checked is not None
        assert d.session.checked.batches == 3
        assert "✓ 3 checked" in d.screen.query_one(Header).render_line(0).text
        await d.type("k")
        await report_in(d)
        assert "every batch (on)" in str(panel_of(d).border_subtitle)
        assert "3 batches so far" in " ".join(text_of(d).split())
        await d.type("space")
        assert d.session.checked is None
        assert "every batch (off)" in str(panel_of(d).border_subtitle)
        await d.type("escape", ":check sometimes")
        assert "every on, or every off" in d.says


async def test_a_checked_run_stops_where_a_batch_does_not_agree_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from tui_gru.engine import training as trainer

    right = trainer.Trainer.run

    def wrong(self: trainer.Trainer, record: BatchRecord, batch: int, *arguments: Any, **options: Any) -> None:
        right(self, record, batch, *arguments, **options)
        if batch == 2 and record.learned:
            record.array("dah")[0, 0, 0] += 1

    async with driving() as d:
        await d.type("l", ":check every")
        monkeypatch.setattr(trainer.Trainer, "run", wrong)
        await d.type("9n")
        assert d.session.position.number == 2
        assert "batch 3 of epoch 1 does not agree with PyTorch: dah" in d.says
