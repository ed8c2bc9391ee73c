"""Keys that arrive faster than they can be handled: each is handled in order, and none is lost."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from textual import events

from tests.extent import examples
from tests.tui.test_main_screen import Driver, driving, waiting_after
from tui_gru.session.session import Session
from tui_gru.tui import app as keyboard
from tui_gru.tui import command as line
from tui_gru.tui.command import CommandLine
from tui_gru.tui.headless import single_keys, until_checked, until_idle
from tui_gru.tui.panels.derivation import DerivationPanel
from tui_gru.tui.panels.line import CurrentLine
from tui_gru.tui.panels.lists import BranchList, StopsList
from tui_gru.tui.panels.time import LossCurve
from tui_gru.tui.screen import MainScreen
from tui_gru.tui.terminal import TypedText, drawn_later, drawn_lines, drawn_once

NAMES = {
    ":": "colon",
    ";": "semicolon",
    "?": "question_mark",
    " ": "space",
    "[": "left_square_bracket",
    "]": "right_square_bracket",
}
SIGNS = {"enter": "\r", "escape": "\x1b", "tab": "\t", "right": None, "down": None, "backspace": "\x7f"}


@pytest.fixture(autouse=True)
def no_key_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep equal keys on a slow machine, where they would wait as those of a key that is held down for too long."""
    monkeypatch.setattr(keyboard, "LAG", math.inf)


def burst(d: Driver, *tokens: str) -> None:
    """Send all keys at once, as a terminal does for keys typed while the program was busy."""
    for key in single_keys(tokens):
        d.pilot.app.post_message(events.Key(NAMES.get(key, key), SIGNS.get(key, key)))


async def settled(d: Driver) -> None:
    """Wait until all keys are handled. The screen is drawn when something reads it, and at the end."""
    with drawn_later(d.pilot.app):
        async with asyncio.timeout(60):
            await d.pilot.pause()
            await until_idle(d.pilot)
            await d.pilot.pause()


def make_slow(d: Driver, monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[int]:
    """Make every step a run in a thread that takes the given time; return the list of steps."""
    steps: list[int] = []
    step = d.session.step

    def slow(level: str, count: int = 1, **options: Any) -> Any:
        steps.append(count)
        time.sleep(seconds)
        return step(level, count, **options)

    monkeypatch.setattr(d.session, "step", slow)
    monkeypatch.setattr("tui_gru.tui.running.AT_ONCE", -1.0)
    return steps


async def test_keys_that_come_while_a_run_goes_on_wait_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async with driving() as d:
        make_slow(d, monkeypatch, 0.002)
        burst(d, "l", "o" * 30, "n", "s", "O")
        await settled(d)
        here = d.session.position
        d.session.step("batch", -1)
        assert (here.epoch, here.batch, here.t, here.phase) == (0, 1, 0, "forward")
        assert here.line is not None
        assert here.line.target == "term2"


async def test_a_key_comes_to_what_the_key_before_it_has_opened() -> None:
    async with driving() as d:
        d.session.break_at("h")
        d.session.break_at("z")
        burst(d, "o", "B", "down", "d", "escape", "o")
        await settled(d)
        assert [stop.line for stop in d.session.stops.breakpoints] == ["h"]
        assert d.screen.overlay is None
        assert d.session.position.tick == 2
        burst(d, "o", "enter", "down", "down")
        await settled(d)
        panel = d.screen.query_one(DerivationPanel)
        assert panel.leaf.cursor == 2
        burst(d, "J", "escape", "?", "o", "escape", "B", "escape", "O")
        await settled(d)
        assert d.pilot.app.screen is d.screen
        assert not d.screen.query(BranchList)
        assert d.session.position.tick == 2


async def test_a_held_key_that_opens_and_closes_a_panel() -> None:
    """Each press is obeyed, also one that arrives while the panel of the one before is still being mounted."""
    async with driving() as d:
        for tick, (key, count) in enumerate(itertools.product("J", (2, 3, 8, 21)), 1):
            burst(d, key * count)
            await settled(d)
            assert (d.screen.overlay is not None) is bool(count % 2), (key, count)
            assert len(d.screen.query(".-overlay")) == count % 2, (key, count)
            assert d.screen.focused is d.screen.overlay
            assert d.screen.has_class("-overlaid") is bool(count % 2), (key, count)
            burst(d, "escape", "o")
            await settled(d)
            assert d.screen.overlay is None, (key, count)
            assert d.session.position.tick == tick, (key, count)


async def test_a_panel_that_cannot_be_mounted_leaves_the_keys_alive(
    monkeypatch: pytest.MonkeyPatch, expected_reports: None
) -> None:
    async with driving() as d:
        board = d.screen.panels.board
        assert board is not None
        with monkeypatch.context() as patch:
            patch.setattr(board, "mount", lambda panel: 1 / 0)
            burst(d, "J")
            await settled(d)
        assert "internal error" in d.says
        burst(d, "o", "J", "o")
        await settled(d)
        assert d.screen.overlay is not None
        assert d.session.position.tick == 2


async def test_a_command_is_done_before_the_key_behind_it() -> None:
    async with driving() as d:
        burst(d, ":", *"go e3 b2 t1", "enter", "s", ":", *"stops", "enter", "escape", "S", "g", *"e1 b1 t1", "enter", "n")
        await settled(d)
        assert d.where == (0, 0, 2, "loss")
        assert not d.screen.query(StopsList)
        assert d.screen.query_one(CommandLine).history == ["go e3 b2 t1", "stops", "go e1 b1 t1"]


@pytest.mark.parametrize("at_once", [True, False], ids=["in one piece", "key by key"])
async def test_what_is_typed_at_once_is_put_on_the_line_at_once(at_once: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand characters are completed and drawn a few times, not a thousand times; the keys behind them are handled as keys."""
    text, completed = "set Wz[0,1] 0.5 [red] 日本 " * 40, []
    complete = line.complete
    monkeypatch.setattr(line, "complete", lambda screen, typed: completed.append(typed) or complete(screen, typed))
    async with driving() as d:
        burst(d, ":")
        if at_once:
            d.pilot.app.post_message(TypedText(text))
        else:
            burst(d, *text)
        await settled(d)
        command = d.screen.query_one(CommandLine)
        assert command.value == text
        assert command.cursor_position == len(text)
        assert len(completed) < 5
        burst(d, "backspace", *"x", "escape", ":", *"go e2", "enter", "o")
        await settled(d)
        assert d.session.position.tick == d.session.program.ticks * 3 + 1


async def test_characters_typed_at_once_are_keys_where_there_is_no_line() -> None:
    async with driving() as d:
        d.pilot.app.post_message(TypedText("oo2s:go e2 b1 t1"))
        d.pilot.app.post_message(events.Key("enter", "\r"))
        d.pilot.app.post_message(TypedText("OO"))
        await settled(d)
        there = d.session.position.tick
        d.session.seek("e2 b1 t1")
        assert there == d.session.position.tick - 2


async def test_tab_and_what_is_typed_behind_it() -> None:
    async with driving() as d:
        burst(d, "n", "tab", "tab", "escape", "right", "right", "n")
        await settled(d)
        assert d.session.position.batch == 1
        assert d.screen.focused is None


async def test_esc_reaches_a_run_at_once_and_what_waits_is_forgotten() -> None:
    async with driving() as d:
        burst(d, "l", "999999e")
        while not d.screen.running:
            await d.pilot.pause(0.01)
        burst(d, "s", "s", "n", ":", *"quit", "enter")
        await d.pilot.pause(0.1)
        assert d.screen.running
        assert not d.screen.query(CommandLine)
        burst(d, "escape")
        await settled(d)
        assert d.where[2:] == (2, "update")
        assert d.pilot.app.is_running
        assert d.pilot.app.return_code is None


@pytest.mark.parametrize("verb", ["c", "]"])
async def test_esc_ends_a_run_that_is_repeated_whatever_stops_each_of_them(verb: str) -> None:
    async with driving() as d:
        d.session.break_at("h")
        d.session.run_until("any(z > 0)")
        d.screen.show_now()
        burst(d, f"99999{verb}")
        while not d.screen.running:
            await d.pilot.pause(0.01)
        burst(d, "escape")
        await settled(d)
        assert d.session.newest.number < 10_000


async def test_esc_that_comes_as_a_run_has_just_ended_stops_no_other() -> None:
    async with driving() as d:
        d.session.interrupt()  # for example while its result is written to the file
        await d.type("9n")
        assert d.where[:2] == (2, 2)


async def test_keys_that_have_nothing_to_do_with_a_run_do_not_wait_for_it() -> None:
    async with driving() as d:
        burst(d, "l", "999999e")
        while not d.screen.running:
            await d.pilot.pause(0.01)
        burst(d, "r")
        async with asyncio.timeout(60):
            while d.screen.view.row is None:
                await d.pilot.pause(0.01)
        assert d.screen.running
        burst(d, "?")
        async with asyncio.timeout(60):
            while d.pilot.app.screen is d.screen:
                await d.pilot.pause(0.01)
        burst(d, "escape", "escape")
        await settled(d)


def typed_every(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each key arrive the given time after the one before, independent of the speed of the machine."""
    clock = SimpleNamespace(monotonic=itertools.count(step=seconds).__next__, perf_counter=time.perf_counter)
    monkeypatch.setattr(keyboard, "time", clock)


async def test_a_key_that_is_held_down_stops_soon_after_it_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    typed_every(0.03, monkeypatch)
    monkeypatch.setattr(keyboard, "LAG", 0.3)
    async with driving() as d:
        steps = make_slow(d, monkeypatch, 0.1)
        burst(d, "s" * 100, "n")
        await settled(d)
        assert steps.count(1) < 20
        assert d.session.position.phase == "loss"


async def test_a_key_pressed_again_is_not_held_down(monkeypatch: pytest.MonkeyPatch) -> None:
    typed_every(0.09, monkeypatch)
    monkeypatch.setattr(keyboard, "LAG", 0.3)
    async with driving() as d:
        steps = make_slow(d, monkeypatch, 0.2)
        burst(d, "s" * 4)
        await settled(d)
        assert len(steps) == 4


async def test_what_waits_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async with driving() as d:
        burst(d, "l", "999999e")
        while not d.screen.running:
            await d.pilot.pause(0.01)
        burst(d, "s", "n")
        async with asyncio.timeout(60):
            while "2 keys wait" not in d.says:
                await d.pilot.pause(0.05)
        burst(d, "escape")
        await settled(d)


async def test_a_paste_comes_in_its_turn() -> None:
    async with driving() as d:
        d.pilot.app.post_message(events.Key("colon", ":"))
        d.pilot.app.post_message(events.Paste("step 2 batch"))
        burst(d, "enter")
        await settled(d)
        assert d.session.position.batch == 1


async def test_keys_behind_a_derivation_that_takes_long_are_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_gru.tui.running.AT_ONCE", -1.0)
    async with driving() as d:
        derive = d.session.derive

        def slow(number: Any, **options: Any) -> Any:
            time.sleep(0.4)
            return derive(number, **options)

        monkeypatch.setattr(d.session, "derive", slow)
        await d.type("o")
        burst(d, "enter", "down", "down")
        await settled(d)
        assert d.screen.query_one(DerivationPanel).leaf.cursor == 2


async def test_a_derivation_that_takes_long_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The origin of a gradient of carry notebook requires another run from the beginning of the epoch."""
    text = "the cat sat on the mat, and then " * 12
    async with driving(text=text, vocabulary=None, carry="notebook", hidden_size=3, batch_size=2, seq_length=3) as d:
        d.session.learning = True
        d.session.step("batch", d.session.program.num_batches - 1)
        d.session.seek(d.session.position.number * d.session.program.ticks + d.session.program.backward_end)
        d.screen.show_now()
        here = d.session.position
        waiting_after(d, monkeypatch, "derive", 1)
        burst(d, ":", *"why dWz[0,0]", "enter")
        async with asyncio.timeout(60):
            while "esc stops" not in d.says:
                await asyncio.sleep(0.005)
        burst(d, "escape")
        await settled(d)
        monkeypatch.undo()
        assert d.says == "stopped before the derivation was complete"
        assert d.screen.overlay is None
        assert d.session.position == here
        burst(d, ":", *"why loss", "enter", "escape", "2N")  # the interrupt before does not stop it
        await settled(d)
        assert here.number - d.session.position.number == 2


class Shown:
    """Counts the keys that reach the main screen, and the snapshots that it takes."""

    def __init__(self, d: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keys = self.snapshots = 0
        on_key, snapshot = MainScreen.on_key, d.session.snapshot

        def counted_key(screen: MainScreen, event: events.Key) -> None:
            self.keys += 1
            on_key(screen, event)

        def counted_snapshot() -> Any:
            self.snapshots += 1
            return snapshot()

        monkeypatch.setattr(MainScreen, "on_key", counted_key)
        monkeypatch.setattr(d.session, "snapshot", counted_snapshot)


async def test_of_keys_without_a_meaning_the_first_and_the_last_are_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    async with driving() as d:
        await d.type(":lesson why")
        shown = Shown(d, monkeypatch)
        d.pilot.app.post_message(TypedText("o" + "£" * 6000 + "§" * 6000 + "o"))
        await settled(d)
        assert shown.keys <= 8
        assert d.session.position.tick == 2
        d.pilot.app.post_message(TypedText("£" * 12000 + "§"))
        await settled(d)
        assert d.says.startswith("§ has no meaning here")
        assert shown.keys <= 12
        d.pilot.app.post_message(TypedText("m" + "y" * 100 + "o"))  # the first is the letter of a mark
        await settled(d)
        assert [mark.letter for mark in d.session.marks] == ["y"]
        assert d.session.position.tick == 3


STEPS = {
    "lines": "o" * examples(600, soak=3000),
    "timesteps": "s" * examples(200, soak=700),
    "many levels": "soO" * examples(60, soak=300) + "n" * 40,
    "and back": "n" * 30 + "S" * 70,
    "to the beginning": "S" * 200,
    "epochs": "e" * 60,
}
LEVELS = {"o": ("op", 1), "O": ("op", -1), "s": ("timestep", 1), "S": ("timestep", -1), "n": ("batch", 1), "e": ("epoch", 1)}


def lines_of(d: Driver) -> list[str]:
    return [strip.text for strip in drawn_lines(d.screen)]


#: Keys that open something, or a panel that gets the focus,, and keys that move there or go round.
MOVES = {
    "rows and panels": ((), ("r", "R", "v", "tab", "shift+tab")),
    "the numbers of the line": ((CurrentLine,), ("down", "right", "up", "left")),
    "the largest entry of a matrix": ((":largest",), ("right", "down", "pagedown", "end", "left", "pageup", "home")),
    "the curve of the losses": ((LossCurve,), ("left", "home", "right", "end")),
    "the arrays": ((":arrays",), ("down", "pagedown", "up", "end", "pageup", "home")),
    "the units": (("h",), ("down", "right", "pagedown", "up", "left", "pageup", "end", "home")),
    "a derivation": ((":why loss",), ("down", "end", "up", "home")),
}


@pytest.mark.parametrize("opened", MOVES)
async def test_many_waiting_moves_are_one_move(opened: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leads to where the moves would lead one by one, with the same lines on the screen."""
    opening, keys = MOVES[opened]
    presses = 12 if opening else 32  # more than two rounds through all panels
    options: dict[str, Any] = {"text": "the cat sat on the mat, and then the rat sat on the cat; " * 3, "vocabulary": None}

    @asynccontextmanager
    async def opens() -> AsyncIterator[Driver]:
        async with driving(**options, hidden_size=20, batch_size=4, seq_length=9) as d:
            await d.type("l", "2n", "2s", "3o")
            for each in opening:
                if isinstance(each, str):
                    await d.type(each)
                else:
                    d.screen.query_one(each).focus()
                    await settled(d)
            await until_checked(d.pilot)  # what is computed in a thread changes the width of the map
            yield d

    one_by_one = []
    async with opens() as d:
        for key in keys:
            with drawn_once(d.pilot.app):
                for _ in range(presses):
                    burst(d, key)
                    await settled(d)
            one_by_one.append(lines_of(d))
    async with opens() as d:
        shown = Shown(d, monkeypatch)
        for key in keys:
            burst(d, *[key] * presses)
            await settled(d)
            assert lines_of(d) == one_by_one.pop(0), key
        assert shown.keys < len(keys) * (2 if opening else presses)


@pytest.mark.parametrize("keys", STEPS.values(), ids=STEPS.keys())
@pytest.mark.parametrize("stops", [False, True], ids=["free", "stops"])
async def test_many_waiting_steps_are_taken_in_one_run(keys: str, stops: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """They lead to where they would lead one by one, with the same answer, hits of breakpoints and lines of log points."""
    monkeypatch.setattr("tui_gru.tui.running.AT_ONCE", math.inf)

    def prepare(d: Driver) -> None:
        d.session.learning = True
        d.session.step("batch", 2)
        if stops:
            d.session.break_at("h", condition="t == 2", hits="%7")
            d.session.break_at("z", log="{h[0, 0]}")
            d.session.watch("Wz[0,0]", stops=True)
        d.screen.show_now()

    def found(d: Driver) -> object:
        hits = [(stop.line, stop.hits) for stop in d.session.stops.breakpoints]
        return d.session.position, d.says, d.session.snapshot().log, hits

    async with driving() as d:
        prepare(d)
        for key in keys[:-1]:
            level, count = LEVELS[key]
            d.session.step(level, count)  # type: ignore[arg-type]
        d.screen.show_now()
        await d.type(keys[-1])
        one_by_one = found(d)
        d.screen.session = d.session = Session()
        prepare(d)
        shown = Shown(d, monkeypatch)
        d.pilot.app.post_message(TypedText(keys))
        await settled(d)
        assert shown.keys <= 10  # some one by one, while the hits of the breakpoint have not been counted yet
        assert shown.snapshots <= 20
        assert found(d) == one_by_one


@pytest.mark.parametrize("before", ["", "tab", "W"], ids=["", "a panel has the focus", "a list is open"])
async def test_a_key_behind_many_steps_waits_for_a_few_walks_and_drawings(before: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_gru.tui.running.AT_ONCE", math.inf)
    async with driving() as d:
        await d.type(*[before] * bool(before))
        shown, walks, step = Shown(d, monkeypatch), [], d.session.step

        def counted(level: Any, count: int = 1, **options: Any) -> Any:
            walks.append(count)
            return step(level, count, **options)

        monkeypatch.setattr(d.session, "step", counted)
        d.pilot.app.post_message(TypedText("o" * 12000 + "?"))
        await settled(d)
        assert d.pilot.app.screen is not d.screen  # it is the help
        assert sum(walks) == 12000
        assert len(walks) == shown.snapshots == 2  # all but the last, and the last, which shows its answer
        assert shown.keys == 2


@pytest.mark.parametrize("key", ["escape", "ctrl+c"])
async def test_many_waiting_steps_can_be_stopped(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_gru.tui.running.AT_ONCE", math.inf)
    async with driving() as d:
        d.session.break_at("h")
        step = d.session.step

        def slow(level: Any, count: int = 1, **options: Any) -> Any:
            time.sleep(0.02)
            return step(level, count, **options)

        monkeypatch.setattr(d.session, "step", slow)
        burst(d, "o" * 12000)
        async with asyncio.timeout(60):
            while not d.screen.running:
                await d.pilot.pause(0.01)
        burst(d, key)
        await settled(d)
        assert d.session.position.tick < 6000
        here = d.session.position.tick
        burst(d, "o" * 3)
        await settled(d)
        assert d.session.position.tick == here + 3


async def test_steps_of_a_count_are_not_taken_together(monkeypatch: pytest.MonkeyPatch) -> None:
    async with driving() as d:
        burst(d, "7", "s" * 100)
        await settled(d)
        reached = d.session.position
        d.session.seek(0)
        for count in (7, *[1] * 99):
            d.session.step("timestep", count)
        assert reached == d.session.position
