"""An overlay is closed with a message when the moment that it shows no longer exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.test_main_screen import Driver, driving
from tests.tui.test_stopping import command
from tui_gru.session.session import Session
from tui_gru.tui.headless import until_checked, until_idle
from tui_gru.tui.keys import execute

GONE = "the panel was closed: its moment is no longer in the timeline"
ASKED = {"origin": "why Wz[0,1]", "what-if": "what-if z[0,1] 0.9", "check": "check"}


async def edited(d: Driver) -> None:
    """Edit a weight in the past, which creates a branch."""
    await d.type("l", "3n", "2N")
    await command(d, "set Wz[0,1] 0.5")
    assert d.session.branch == "main~1"
    await d.type("s")


async def ask(d: Driver, what: str) -> None:
    await command(d, ASKED[what])
    await until_checked(d.pilot)
    await d.pilot.pause()
    assert d.screen.overlay is not None


async def test_undoing_the_edit_lifts_what_was_read_after_it() -> None:
    async with driving() as d:
        await edited(d)
        for what in ASKED:
            await ask(d, what)
            await d.type("u")
            assert d.screen.overlay is None, what
            assert "undid Wz[“h”, unit 2] = 0.5" in d.says
            assert d.says.endswith(GONE), what
            await d.type("U")
            assert d.session.branch == "main~1"


@pytest.mark.parametrize("what", ASKED)
async def test_another_session_and_another_branch_lift_it(what: str, tmp_path: Path) -> None:
    twin = Session()
    twin.step("batch", 2)
    twin.save(tmp_path / "twin.tui-gru")
    async with driving() as d:
        await edited(d)
        await ask(d, what)
        await command(d, "branch main")
        assert d.screen.overlay is None
        assert GONE in d.says
        await ask(d, what)
        execute(d.screen, f"open {tmp_path / 'twin.tui-gru'}")
        await until_idle(d.pilot)
        await d.pilot.pause()
        assert d.screen.overlay is None
        assert GONE in d.says


async def test_what_leaves_the_moment_as_it_is_leaves_what_is_shown_of_it() -> None:
    async with driving() as d:
        await edited(d)
        for what in ASKED:
            await ask(d, what)
            overlay = d.screen.overlay
            await d.type("l", "l", "2n", "O", "N", ":go newest", f":rename {d.session.branches[0]} {what}")
            assert d.session.branches[0] == what
            assert d.screen.overlay is overlay
            await command(d, "set Wz[0,1] 0.7")  # later
            assert d.screen.overlay is overlay
            await command(d, "undo")
            assert d.screen.overlay is overlay
            await d.type("escape")


async def test_a_derivation_of_the_past_outlives_an_undone_edit() -> None:
    async with driving() as d:
        await d.type("l", "3n", "2N")
        await command(d, "set Wz[0,1] 0.5")
        await command(d, "why loss")
        overlay = d.screen.overlay
        assert overlay is not None
        await d.type("u")
        assert d.screen.overlay is overlay
        assert GONE not in d.says
