"""The time line on the main screen: clicks, drags and keys move to the right tick."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from textual.pilot import Pilot

from tui_gru.engine.config import Config
from tui_gru.tui.app import VerbScreen, make_app
from tui_gru.tui.headless import headless, type_keys, until_idle
from tui_gru.tui.panels.time import TimeLine
from tui_gru.tui.screen import MainScreen
from tui_gru.tui.terminal import drawn_once


class Hand:
    """Points at the time line of a run of 40 batches that learn."""

    def __init__(self, pilot: Pilot[None], screen: MainScreen) -> None:
        self.pilot, self.screen, self.session = pilot, screen, screen.session
        self.line = screen.query_one(TimeLine)
        self.sought: list[int] = []

    @property
    def tick(self) -> int:
        return self.session.position.tick

    def at(self, column: int) -> tuple[int, int]:
        return column + 1, 0  # beside the margin

    async def settled(self) -> None:
        await until_idle(self.pilot)
        await self.pilot.pause()

    async def click(self, column: int) -> None:
        await self.pilot.click(TimeLine, offset=self.at(column))
        await self.settled()

    async def press(self, *keys: str) -> None:
        await type_keys(self.pilot, keys)


@asynccontextmanager
async def pointing(size: tuple[int, int] = (160, 50), batches: int = 40, learning: bool = True) -> AsyncIterator[Hand]:
    app = make_app(Config.of())
    async with headless(app, size) as pilot:
        screen = app.screen
        assert isinstance(screen, MainScreen)
        screen.session.learning = learning
        screen.session.step("batch", batches)
        screen.show_now()
        await pilot.pause()
        yield Hand(pilot, screen)


@pytest.mark.parametrize("size", [(160, 50), (120, 36), (80, 24)])
async def test_a_click_goes_to_the_tick_of_its_column(size: tuple[int, int]) -> None:
    async with pointing(size) as hand:
        assert hand.line.size.height == (2 if size[0] == 160 else 1)
        for column in (30, 0, 61):
            await hand.click(column)
            assert hand.tick == hand.line.scale.tick(column)
            assert hand.line.scale.column(hand.tick) == column


async def test_there_is_none_where_there_is_hardly_room_to_step() -> None:
    async with pointing((40, 12), 3) as hand:
        assert not hand.line.display


async def test_dragging_goes_along_and_no_further_than_the_run_has_come() -> None:
    async with pointing() as hand:
        await hand.pilot.mouse_down(TimeLine, offset=hand.at(20))
        for column in (21, 25, 40):
            await hand.pilot.hover(TimeLine, offset=hand.at(column))
            await hand.settled()
            assert hand.tick == hand.line.scale.tick(column)
        await hand.pilot.hover(TimeLine, offset=(80, -20))  # above it, the button still held
        await hand.settled()
        assert hand.line.scale.column(hand.tick) == 79
        await hand.pilot.hover(TimeLine, offset=hand.at(157))
        await hand.settled()
        assert hand.tick == hand.session.newest.tick
        await hand.pilot.mouse_up(TimeLine, offset=hand.at(157))
        await hand.pilot.hover(TimeLine, offset=hand.at(10))
        await hand.settled()
        assert hand.tick == hand.session.newest.tick


async def test_many_moves_between_two_pictures_are_one_seek(monkeypatch: pytest.MonkeyPatch) -> None:
    async with pointing() as hand:
        sought = []
        monkeypatch.setitem(VerbScreen.requests, "go", lambda screen, tick, along: sought.append(tick))
        for tick in range(100, 200):
            hand.line.seek(tick)
        await hand.settled()
        assert sought == [199]


async def test_a_click_on_what_is_not_reached_runs_on_to_it() -> None:
    async with pointing(batches=2, learning=False) as hand:
        newest = hand.session.newest.tick
        hand.session.learning = True
        hand.screen.show_now()
        await hand.settled()
        await hand.click(157)
        assert hand.session.newest.tick == hand.tick == 2 * hand.session.program.ticks > newest


async def test_keys_go_by_columns_to_the_ends_and_to_signs() -> None:
    async with pointing() as hand:
        session, scale = hand.session, hand.line.scale
        session.seek(7 * session.program.ticks)
        session.mark("k")
        session.seek(20 * session.program.ticks)
        hand.screen.show_now()
        hand.line.focus()
        await hand.settled()
        column = scale.column(hand.tick)
        await hand.press("left")
        assert hand.tick == scale.tick(column - 1)
        await hand.press("left", "right", "right")
        assert hand.tick == scale.tick(column)
        await hand.press("home")
        assert hand.tick == 0
        await hand.press("enter")
        assert hand.tick == 7 * session.program.ticks
        await hand.press("end")
        assert hand.tick == session.newest.tick
        await hand.press("backspace")
        assert hand.tick == 7 * session.program.ticks
        await hand.press("backspace")
        assert hand.tick == 7 * session.program.ticks


async def test_keys_get_over_what_is_stepped_over() -> None:
    """With learning off, the lines of backward and update are skipped, and many columns lead to the loss."""
    async with pointing((80, 24), batches=2, learning=False) as hand:
        session = hand.session
        session.seek(session.program.loss_tick)
        hand.screen.show_now()
        hand.line.focus()
        await hand.settled()
        pressed = 0
        with drawn_once(hand.pilot.app):
            while hand.tick == session.program.loss_tick:
                await hand.press("right")
                pressed += 1
                assert pressed < 50
        assert pressed > 10
        assert hand.tick > session.program.ticks
        await hand.press(*["left"] * pressed)
        assert hand.tick <= session.program.loss_tick


async def test_a_step_between_two_keys_is_heeded() -> None:
    async with pointing() as hand:
        hand.line.focus()
        await hand.press("left", "left")
        hand.session.seek(10 * hand.session.program.ticks)
        hand.screen.show_now()
        await hand.settled()
        await hand.press("left")
        assert hand.line.scale.column(hand.tick) == hand.line.scale.column(10 * hand.session.program.ticks) - 1


async def test_pointing_says_the_place_and_its_loss() -> None:
    async with pointing() as hand:
        await hand.pilot.hover(TimeLine, offset=hand.at(50))
        place = hand.line.scale.tick(50)
        loss = hand.screen.snapshot.losses[(place - 1) // hand.session.program.ticks]
        assert str(hand.line.tooltip).endswith(f" · loss {loss:.4f}")
        assert hand.tick == hand.session.newest.tick


async def test_a_drag_is_one_jump_and_a_click_is_one() -> None:
    async with pointing() as hand:
        begun = hand.tick
        for target in (60, 100):
            await hand.pilot.mouse_down(TimeLine, offset=hand.at(20))
            for column in (21, 40, target):
                await hand.pilot.hover(TimeLine, offset=hand.at(column))
                await hand.settled()
            await hand.pilot.mouse_up(TimeLine, offset=hand.at(target))
            await hand.settled()
            dragged = hand.tick
            assert dragged == hand.line.scale.tick(target)
            hand.session.jump("'")
            assert hand.tick == begun
            hand.session.jump("'")
            begun = dragged
            assert hand.tick == dragged
            hand.screen.show_now()
            await hand.settled()
        await hand.click(30)
        await hand.click(50)
        hand.session.jump("'")
        assert hand.tick == hand.line.scale.tick(30)


async def test_keys_after_a_drag_are_jumps_of_their_own() -> None:
    async with pointing() as hand:
        await hand.pilot.mouse_down(TimeLine, offset=hand.at(20))
        await hand.pilot.hover(TimeLine, offset=hand.at(40))
        await hand.settled()
        await hand.pilot.mouse_up(TimeLine, offset=hand.at(40))
        hand.line.focus()
        dragged = hand.tick
        await hand.press("home")
        assert hand.tick == 0
        hand.session.jump("'")
        assert hand.tick == dragged
