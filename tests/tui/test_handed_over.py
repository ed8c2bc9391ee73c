"""A shared session on the screen: it can be viewed freely, and the first change asks where to save."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.session.acting import assert_same, untouched
from tests.tui.test_main_screen import Driver
from tests.tui.test_surviving import command, driving
from tui_gru.engine.config import Config
from tui_gru.session import opening
from tui_gru.session.session import Session
from tui_gru.storage.state import StateWriter
from tui_gru.tui.app import new_session
from tui_gru.tui.panels.time import Header

QUESTION = "not recorded: y writes to math.tui-gru, c to a copy, esc continues in memory"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    session = Session()
    session.step("batch", 3)
    session.save(tmp_path / "math.tui-gru")
    return tmp_path / "math.tui-gru"


@asynccontextmanager
async def looking(path: Path, size: tuple[int, int] = (160, 50)) -> AsyncIterator[Driver]:
    async with driving(opening.open_session(path), size) as d:
        yield d


def header(d: Driver) -> str:
    return d.screen.query_one(Header).render_line(0).text


async def test_looking_asks_nothing_and_changes_nothing(path: Path) -> None:
    async with looking(path) as d:
        with untouched(path):
            await d.type("N", "O", "s", ":go newest", "v", "x", "tab", "z", "z")
            await command(d, "go e1 b1 t2")
            assert "not recorded" not in d.says
            assert "unrecorded" not in header(d)


@pytest.mark.parametrize("size", [(160, 50), (80, 24), (40, 12)], ids=str)
async def test_the_first_change_asks_until_it_is_answered(path: Path, size: tuple[int, int]) -> None:
    async with looking(path, size) as d:
        with untouched(path):
            await d.type("n")
            assert d.says == QUESTION
            await d.type("O", "b")
            assert d.says.endswith(f" · {QUESTION}")
            assert "breakpoint" in d.says
            assert "unrecorded" in header(d)
    assert not list(path.parent.glob("math-*"))


async def test_y_records_to_the_file(path: Path) -> None:
    async with looking(path) as d:
        await d.type("n", "y")
        await d.pilot.pause()
        assert d.says == f"recorded to {path}"
        assert d.session.recording == path
        assert "unrecorded" not in header(d)
        await d.type("n")
        assert d.says == ""
        assert_same(d.session, Session.open(path))


async def test_c_records_to_a_copy(path: Path) -> None:
    async with looking(path) as d:
        with untouched(path):
            await d.type("n")
        before = path.read_bytes()
        await d.type("c")
        await d.pilot.pause()
        copy = path.with_name("math-2.tui-gru")
        assert d.says == f"recorded to {copy}"
        await d.type("n")
        assert_same(d.session, Session.open(copy))
        assert path.read_bytes() == before


async def test_escape_goes_on_in_memory_and_the_screen_says_so_as_long_as_it_is_true(path: Path) -> None:
    async with looking(path) as d:
        with untouched(path):
            await d.type("n", "escape")
            assert d.says == "not recorded; the session continues in memory only"
            await d.type("n", "c")
            assert QUESTION not in d.says
            assert "unrecorded" in header(d)
        await command(d, f"save {path}")
        assert "saved to" in d.says


async def test_what_another_has_written_meanwhile_is_said_and_it_is_asked_again(path: Path) -> None:
    async with looking(path) as d:
        await d.type("n")
        other = Session.open(path)
        other.edit("Wz", (0, 0), 1.0)
        other.save(path)
        with untouched(path):
            await d.type("y")
            await d.pilot.pause()
        assert "was written to since it was opened here; save it elsewhere" in d.says
        assert d.says.endswith(QUESTION)


async def test_leaving_with_a_question_open_warns_once(path: Path) -> None:
    async with looking(path) as d:
        await d.type("n", "q")
        assert d.pilot.app.is_running
        assert d.says == f"press q again to quit and lose the changes that are not recorded · {QUESTION}"
        await d.type("n")
        await command(d, "quit")
        assert "press q again to quit" in d.says
        await command(d, "open elsewhere")
        assert "answer first where to record them" in d.says
        await d.type("q")
        assert d.pilot.app.return_code is not None or not d.pilot.app.is_running


async def test_a_session_opened_inside_is_looked_at_too(path: Path) -> None:
    async with driving() as d:
        with untouched(path):
            await command(d, f"open {path}")
            assert "reopened where it was left" in d.says
            assert d.session.recording is None
            await d.type("n")
            assert d.says == QUESTION


async def test_a_recording_that_has_ended_stays_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    async with driving(new_session(Config.of(), record=True)) as d:
        await d.type("s")
        assert "unrecorded" not in header(d)

        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(StateWriter, "write", full)
            await d.type("n")
        await d.type("n", "n")
        assert d.says == ""
        assert "unrecorded" in header(d)
        await command(d, "save elsewhere")
        await command(d, "open elsewhere")
        assert "unrecorded" not in header(d)


async def test_a_link_that_leads_in_a_circle_is_said(tmp_path: Path) -> None:
    loop = tmp_path / "loop.tui-gru"
    loop.symlink_to(loop)
    async with driving() as d:
        await command(d, f"open {loop}")
        assert "loop.tui-gru cannot be opened: Too many levels of symbolic links" in d.says
