"""Unexpected errors: the screen reports them, writes a report, keeps the session and continues."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from textual import events
from textual.theme import Theme

from tests.tui.test_keyboard import burst, settled
from tests.tui.test_main_screen import Driver, driving
from tui_gru.engine.config import Config
from tui_gru.session.session import Session
from tui_gru.storage import recorder as error_reports
from tui_gru.tui import app as app_module
from tui_gru.tui.app import make_app
from tui_gru.tui.headless import headless, type_keys
from tui_gru.tui.keys import execute
from tui_gru.tui.panels.listing import Listing
from tui_gru.tui.panels.lists import StopsList
from tui_gru.tui.panels.values import LossTerms

Reports = Callable[[], list[str]]


def fail(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("a planted fault")


async def goes_on(d: Driver, reports: Reports, doing: str) -> None:
    """Check that the fault was reported with its name and the current action, and that the next command works."""
    assert d.says.startswith("internal error (ZeroDivisionError: a planted fault); report: ")
    assert Path(d.says.partition("report: ")[2]).read_text(encoding="utf-8") == reports()[0]
    (report,) = reports()
    assert "tui-gru 0.1.0" in report
    assert f"while: {doing}" in report
    assert report.rstrip().endswith("ZeroDivisionError: a planted fault")
    assert d.pilot.app.is_running
    assert not d.screen.running
    before = d.session.position
    await d.type("escape", "o")
    assert d.session.position.tick == before.tick + 1
    assert d.says == ""


@pytest.mark.parametrize("thread", [False, True], ids=["at once", "in a thread"])
async def test_in_a_verb(thread: bool, monkeypatch: pytest.MonkeyPatch, expected_reports: Reports) -> None:
    async with driving() as d:
        if thread:
            monkeypatch.setattr("tui_gru.tui.running.AT_ONCE", -1.0)
        monkeypatch.setattr(d.session, "edit", fail)
        await d.type(":set Wz[0,0] 1")
        await settled(d)
        await goes_on(d, expected_reports, "a run" if thread else "a verb")


async def test_in_what_a_command_does(monkeypatch: pytest.MonkeyPatch, expected_reports: Reports) -> None:
    async with driving() as d:
        monkeypatch.setattr("tui_gru.tui.theme.checked_theme", fail)
        await d.type(":theme whiteboard")
        await settled(d)
        await goes_on(d, expected_reports, "the command 'theme whiteboard'")


async def test_in_what_a_key_does(monkeypatch: pytest.MonkeyPatch, expected_reports: Reports) -> None:
    """The keys after it are handled."""
    async with driving() as d:
        monkeypatch.setattr(d.screen, "set_view", fail)
        burst(d, "r", "o")
        await settled(d)
        assert d.session.position.tick == 1
        assert len(expected_reports()) == 1
        await d.type("r")
        await goes_on(d, expected_reports, "handling Key(key='r'")


async def test_in_what_a_message_does(monkeypatch: pytest.MonkeyPatch, expected_reports: Reports) -> None:
    async with driving() as d:
        monkeypatch.setattr("tui_gru.tui.changing.toggle_breakpoint", fail)
        d.screen.query_one(Listing).request("line.gutter", "h")
        await settled(d)
        await goes_on(d, expected_reports, "the request 'line.gutter'")


async def test_in_a_panel(monkeypatch: pytest.MonkeyPatch, expected_reports: Reports) -> None:
    async with driving() as d:
        monkeypatch.setattr(LossTerms, "on_blur", fail, raising=False)
        d.screen.query_one(LossTerms).post_message(events.Blur())
        await settled(d)
        await goes_on(d, expected_reports, "handling Blur in LossTerms")


async def test_in_drawing_a_panel(monkeypatch: pytest.MonkeyPatch, expected_reports: Reports) -> None:
    """The error is shown in the panel; the others are drawn, and so is this one once it can be."""
    async with driving() as d:
        build = LossTerms.build
        monkeypatch.setattr(LossTerms, "build", fail)
        await d.type("o")
        panel = d.screen.query_one(LossTerms)
        assert "internal error (ZeroDivisionError: a planted" in " ".join(panel.plain_text().split())
        assert len(expected_reports()) == 1
        monkeypatch.setattr(LossTerms, "build", build)
        await d.type("o")
        assert "planted" not in panel.plain_text()
        assert d.session.position.tick == 2


async def test_in_work_beside_the_screen(monkeypatch: pytest.MonkeyPatch, expected_reports: Reports) -> None:
    async with driving() as d:
        monkeypatch.setattr(StopsList, "show", fail)
        execute(d.screen, "stops")
        await settled(d)
        assert "a planted fault" in d.says
        monkeypatch.undo()
        await d.type("escape", "escape", "o")
        assert d.session.position.tick == 1
        await d.type("B")
        assert isinstance(d.screen.overlay, StopsList)


async def test_the_session_is_recorded_all_the_same(
    monkeypatch: pytest.MonkeyPatch, expected_reports: Reports, tmp_path: Path
) -> None:
    async with driving() as d:
        d.session.record_to(tmp_path / "kept.tui-gru")
        monkeypatch.setattr(d.session, "snapshot", fail)
        await d.type("s")
        assert "a planted fault" in d.says
        monkeypatch.undo()
        await d.type("s")
        assert d.session.recording is not None
        d.session.close()
    assert Session.open(tmp_path / "kept.tui-gru").position.t == 1


async def test_what_goes_wrong_again_and_again_ends_it_with_one_line(
    monkeypatch: pytest.MonkeyPatch, expected_reports: Reports, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        app_module, "time", SimpleNamespace(monotonic=lambda: 0.0, perf_counter=time.perf_counter)
    )  # all within a second on a slow machine as well

    async def run() -> None:
        async with driving() as d:
            for _ in range(app_module.TOO_MANY + 1):
                d.pilot.app.call_later(fail)
            async with asyncio.timeout(60):
                while d.pilot.app.is_running:
                    await asyncio.sleep(0.01)

    with pytest.raises(ZeroDivisionError):
        await run()
    assert "internal error (ZeroDivisionError: a planted fault); report: " in "".join(capsys.readouterr().err.split("\n"))
    assert len(expected_reports()) == 1


async def test_a_pilot_ends_when_its_app_ends(monkeypatch: pytest.MonkeyPatch, expected_reports: Reports) -> None:
    """An app that fails at its start leaves widgets with messages that nothing handles."""
    monkeypatch.setattr(Theme, "to_color_system", fail)

    async def type_a_key() -> None:
        async with headless(make_app(Config.of())) as pilot:
            await type_keys(pilot, ["s"])

    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(type_a_key(), 60)


# The reports


def test_the_newest_reports_stay(expected_reports: Reports) -> None:
    for i in range(error_reports.STAY + 5):
        try:
            exec(compile(f"{chr(10) * i}1 / 0", "planted", "exec"))  # each on its own line
        except ZeroDivisionError as error:
            said = error_reports.report_error(error, f"the {i}th")
            assert said.endswith(".txt")
    texts = expected_reports()
    assert len(texts) == error_reports.STAY
    assert "the 24th" in texts[-1]
    assert error_reports.reports_folder().stat().st_mode & 0o777 == 0o700


def test_the_same_error_is_reported_once(expected_reports: Reports) -> None:
    said = set()
    for _ in range(3):
        try:
            fail()
        except ZeroDivisionError as error:
            said.add(error_reports.report_error(error, "testing"))
    assert len(said) == len(expected_reports()) == 1


def test_a_report_that_cannot_be_written_is_said(own_state_folder: Path) -> None:
    (own_state_folder / "tui-gru").write_text("in the way")
    try:
        fail()
    except ZeroDivisionError as error:
        said = error_reports.report_error(error, "testing")
    assert said == "internal error (ZeroDivisionError: a planted fault); no report could be written: Not a directory"


def test_an_error_that_cannot_say_what_it_is(expected_reports: Reports) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    said = error_reports.report_error(MuteError(), "\ud800 typed")
    assert "MuteError" in said
    assert "\\ud800 typed" in expected_reports()[0]


def test_a_report_names_the_packages_that_are_missing(monkeypatch: pytest.MonkeyPatch, expected_reports: Reports) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    error_reports.report_error(MemoryError("no torch"), "testing")
    assert "numpy of unknown version · textual of unknown version · torch not installed" in expected_reports()[0]


def test_reports_from_threads_at_once(expected_reports: Reports) -> None:
    errors = []
    for i in range(8):
        try:
            exec(compile(f"{chr(10) * i}1 / 0", "planted in threads", "exec"))
        except ZeroDivisionError as error:
            errors.append(error)
    threads = [threading.Thread(target=error_reports.report_error, args=(error, "testing")) for error in errors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(expected_reports()) == 8
