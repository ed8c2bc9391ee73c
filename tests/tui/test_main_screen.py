"""The main screen, driven by keys."""

from __future__ import annotations

import asyncio
import itertools
import math
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import numpy as np
import pytest
from textual.pilot import Pilot

from tests.tui.pressing import press_each
from tui_gru.engine.config import Config
from tui_gru.session.session import Session
from tui_gru.tui.app import TuiGruApp, make_app
from tui_gru.tui.command import CommandLine
from tui_gru.tui.headless import headless, until_idle
from tui_gru.tui.keys import execute
from tui_gru.tui.panel import Panel
from tui_gru.tui.panels.derivation import WhatIfPanel
from tui_gru.tui.panels.values import ValueMatrix
from tui_gru.tui.screen import MainScreen
from tui_gru.tui.session_screen import BottomLine, Card
from tui_gru.tui.verbs import BY_ID


class Driver:
    """Types into the app and reads its session."""

    def __init__(self, pilot: Pilot[None], screen: MainScreen) -> None:
        self.pilot, self.screen, self.session = pilot, screen, screen.session

    async def type(self, *tokens: str) -> None:
        """Type keys, and commands such as `:go e3`."""
        await press_each(self.pilot, tokens)

    @property
    def where(self) -> tuple[int, int, int, str]:
        p = self.session.position
        return p.epoch, p.batch, p.t, p.phase

    @property
    def says(self) -> str:
        return self.screen.query_one(BottomLine).message

    @property
    def card(self) -> str:
        """What the card below the panels says, with the texts of its border; empty if there is none."""
        shown = next(iter(self.screen.query(Card)), None)
        if shown is None or not shown.display:
            return ""
        assert shown.region.bottom <= self.pilot.app.size.height
        assert shown.region.height == len(shown.drawn) + 2  # all of it is in view
        assert shown.text is not None
        title, *lines = shown.plain_text().split("\n")
        return " ".join(" ".join((title, shown.text.place, *lines, shown.text.keys, shown.text.data)).split())


def driving(size: tuple[int, int] = (160, 50), **options: Any) -> AbstractAsyncContextManager[Driver]:
    return driving_app(make_app(Config.of(**options)), size)


@asynccontextmanager
async def driving_app(app: TuiGruApp, size: tuple[int, int] = (160, 50)) -> AsyncIterator[Driver]:
    """Run an app whose first screen is only laid out; the last one is drawn."""
    async with headless(app, size, drawn=False) as pilot:
        screen = app.screen
        assert isinstance(screen, MainScreen)
        yield Driver(pilot, screen)
        if app.screen_stack:
            screen.draw()


def wait_for_an_interrupt(session: Session, before: int) -> None:
    """Return when a run of the session has been interrupted more than `before` times."""
    while session.interrupts.count == before:
        time.sleep(0.001)


def waiting_after(d: Driver, monkeypatch: pytest.MonkeyPatch, verb: str, reports: int) -> None:
    """Let a verb of the session report its progress this often, then wait for an interrupt, which so never comes after its end."""
    monkeypatch.setattr("tui_gru.tui.running.SHOW_EVERY", 0.0)  # each report is shown
    monkeypatch.setattr("tui_gru.tui.running.LOOK_EVERY", 0.0)
    method = getattr(d.session, verb)

    def waiting(*arguments: Any, progress: Callable[[Any], object], **options: Any) -> Any:
        interrupts, numbers = d.session.interrupts.count, itertools.count(1)

        def report(place: Any) -> None:
            progress(place)
            if next(numbers) == reports:
                wait_for_an_interrupt(d.session, interrupts)

        return method(*arguments, progress=report, **options)

    monkeypatch.setattr(d.session, verb, waiting)


async def test_the_walk_of_the_readme() -> None:
    async with driving() as d:
        await d.type("s")
        assert d.where == (0, 0, 0, "forward")
        assert f"{d.session.value('y_hat')[0, 1]:.4f}" == "0.1669"
        await d.type("o", "o", "o")
        assert d.session.position.line is not None
        assert d.session.position.line.target == "h_tilde"
        assert d.session.value("h") is None
        await d.type("n")
        assert f"{d.session.loss:.4f}" == "1.2602"
        before = d.session.parameter("Wy").copy()
        await d.type("a")
        assert d.where == (0, 0, 2, "update")
        assert not np.array_equal(before, d.session.parameter("Wy"))
        await d.type("l", "900e")
        assert d.session.position.epoch == 899
        await d.type(":sample Ma 10 0.0")
        assert [s.text for s in d.session.samples] == ["MathMathMath", "Matttttttttt"]
        here = {name: d.session.parameter(name).copy() for name in ("Wz", "Uh", "by")}
        await d.type("E", "e")
        assert all(np.array_equal(here[name], d.session.parameter(name)) for name in here)


async def test_a_count_multiplies_the_next_step_only() -> None:
    async with driving() as d:
        await d.type("1", "2", "s", "s")
        assert d.where == (1, 1, 0, "forward")


async def test_a_key_without_a_meaning_says_so_and_changes_nothing() -> None:
    async with driving((80, 24)) as d:
        for key in ("j", "D", "<", "é"):
            await d.type(key)
            assert d.says == f"{key} has no meaning here · ? lists the keys"
        await d.type("s")
        assert d.says == ""
        await d.type("5", "j", "s")
        assert d.where == (0, 1, 2, "forward")  # after one and five timesteps: the count was kept
        for keys in ("escape", "f5", "ctrl+x", "delete", "backspace", "up"):
            await d.type(keys)
            assert d.says == "", keys
        await d.type("m", "j")
        assert d.says.startswith("j marks")
        await d.type("J", "down", "end", "r", "escape")
        assert "meaning" not in d.says
        await d.type(":", "j")
        assert d.screen.query_one(CommandLine).value == "j"
        assert "meaning" not in d.says


async def test_a_count_that_is_too_large_is_cut_and_said() -> None:
    async with driving() as d:
        await d.type("10000000000")
        assert d.says == "a count is at most 1,000,000,000"
        await d.type("escape", "s")
        assert d.where == (0, 0, 0, "forward")


async def test_escape_forgets_a_count() -> None:
    async with driving() as d:
        await d.type("9", "escape", "s")
        assert d.where == (0, 0, 0, "forward")


async def test_capitals_go_back() -> None:
    async with driving() as d:
        await d.type("s", "o", "o")
        where = d.session.position
        for there, back in (("o", "O"), ("s", "S"), ("n", "N"), ("e", "E"), ("right", "left")):
            await d.type("3", there)
            assert d.session.position > where, there
            await d.type("3", back)
            assert d.session.position == where, back


async def test_an_error_is_said_and_nothing_is_lost() -> None:
    async with driving() as d:
        await d.type("s", ":until loss=1")
        assert "==" in d.says
        assert d.where == (0, 0, 0, "forward")
        await d.type("o")
        assert d.says == ""


async def test_names_are_typed_as_on_the_screen_or_as_in_code() -> None:
    async with driving() as d:
        await d.type("s", "o", "o", "o")
        for command in (
            "set h̃[0,0] 0.5", "set h_tilde[0,0] 0.25", "set η 0.1", "why hₜ₋₁[0,1]", "why o[0,1] t 1", "why ③ t 1",
        ):  # fmt: skip
            execute(d.screen, command)
            await until_idle(d.pilot)
            assert not d.screen.query_one(BottomLine).warning, (command, d.says)


async def test_names_in_a_what_if_are_those_of_the_screen() -> None:
    async with driving() as d:
        await d.type("l", "n")
        for place in ("dh←[0,1]", "dhₜ₋₁[0,1]", "hₜ₋₁[0,1]", "ŷ[0,1]", "①[0,1]", "②[0]", "③"):
            assert d.screen.overlay is None
            execute(d.screen, f"what-if {place} 0.25 t 2")
            await until_idle(d.pilot)
            await d.pilot.pause()
            assert isinstance(d.screen.overlay, WhatIfPanel), (place, d.says)
            await d.type("escape")


async def test_tab_completes_a_command_or_does_nothing() -> None:
    async with driving() as d:
        await d.type(":", *"wat", "tab")
        line = d.screen.query_one(CommandLine)
        assert line.value == "watch "
        await d.type(*"loss", "tab", "shift+tab")
        assert line.value == "watch loss"
        assert d.screen.focused is line
        await d.type("ctrl+u", *"un", "tab")
        assert line.value == "un"  # undo or until
        await d.type("ctrl+u", "tab", *"xyz", "tab")
        assert line.value == "xyz"


async def test_a_click_elsewhere_closes_the_command_line() -> None:
    async with driving() as d:
        await d.type(":", *"go")
        await d.pilot.click(ValueMatrix)
        await d.pilot.pause()
        assert not d.screen.query_one(CommandLine).display
        await d.type("s")
        assert d.where == (0, 0, 0, "forward")


async def test_a_long_run_can_be_stopped_at_a_whole_batch() -> None:
    async with driving() as d:
        for key in "99999999n":  # before the first command the cost of a batch is not known
            await d.pilot.press(key)
        assert d.screen.running
        await d.pilot.press("escape")
        await until_idle(d.pilot)
        for key in "l99999999e":
            await d.pilot.press(key)
        assert d.screen.running
        await d.pilot.press("s")  # does not apply now
        await d.pilot.press("escape")
        await until_idle(d.pilot)
        await d.pilot.pause()
        assert d.where[2:] == (2, "update")
        assert 0 < d.session.position.tick < 99999999


async def test_go_to_understands_places_counts_and_parts() -> None:
    async with driving() as d:
        await d.type("g", *"e3", "space", *"b2", "space", *"t1", "enter")
        assert d.where == (2, 1, 0, "forward")
        await d.type("g", *"0", "enter")
        assert d.session.position.tick == 0
        await d.type("g", *"+4s", "enter")
        assert d.where == (0, 1, 0, "forward")
        await d.type(":go newest")
        assert d.where == (2, 1, 0, "forward")


async def test_edits_fork_in_the_past_and_can_be_undone() -> None:
    async with driving() as d:
        await d.type("3n", "2N", ":set Wz[0,1] 0.5")
        assert d.session.parameter("Wz")[0, 1] == np.float32(0.5)
        assert d.session.branches == ("main", "main~1")
        await d.type("u")
        assert d.session.branches == ("main",)
        await d.type("U")
        assert d.session.branch == "main~1"


async def test_a_nan_stops_a_run_and_is_said() -> None:
    async with driving(learning_rate=3e38) as d:
        await d.type("l", "50n")
        assert "the largest weight grew" in d.says
        await d.type("50n", "50n")
        assert "not finite" in d.says
        assert d.session.position.number < 49


@pytest.mark.parametrize("size", [(160, 50), (120, 36), (80, 24), (40, 12), (10, 3), (1, 1)])
async def test_every_size_steps(size: tuple[int, int]) -> None:
    async with driving(size) as d:
        await d.type("s", "n", "a", "v", "o", "v", "v", "z", "z", "tab", "r")
        await d.pilot.resize_terminal(80, 24)
        await d.type("o")
        assert d.session.position.offset > 0


async def test_every_key_in_help_is_bound() -> None:
    async with driving() as d:
        await d.type("?")
        assert d.pilot.app.screen is not d.screen
        await d.type("escape")
        assert d.pilot.app.screen is d.screen


async def test_the_last_step_is_repeated_once_whatever_its_count_was() -> None:
    async with driving() as d:
        await d.type("20e", "1", "space")
        assert d.where[:2] == (20, 2)
        await d.type("3", "space")
        assert d.where[:2] == (23, 2)
        await d.type("4n", "2N", "1", "space")
        assert d.where[:2] == (24, 0)
        await d.type("50n", "space")
        assert "batches a second" in d.says


async def test_play_steps_by_itself_and_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_gru.tui.running.AT_ONCE", math.inf)
    async with driving() as d:
        timers: list[tuple[float, Callable[[], None]]] = []
        set_interval = d.screen.set_interval

        def noted(seconds: float, step: Callable[[], None]) -> Any:
            timers.append((seconds, step))
            return set_interval(seconds, step)

        monkeypatch.setattr(d.screen, "set_interval", noted)
        await d.type(":play 50")
        assert "playing" in d.says
        ((seconds, step),) = timers
        assert seconds == 1 / 50
        async with asyncio.timeout(60):
            while d.session.position.tick == 0:
                await d.pilot.pause(0.01)
        await d.type("space")
        assert not d.screen.play.playing
        where = d.session.position
        step()  # as of a timer whose call was on its way when the key came
        await d.pilot.pause()
        assert d.session.position == where


async def test_a_step_of_play_that_is_stopped_ends_play(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_gru.tui.running.AT_ONCE", -1.0)
    async with driving() as d:
        step, stopped = d.session.step, []

        def endless(level: Any, count: int = 1, **options: Any) -> Any:
            wait_for_an_interrupt(d.session, d.session.interrupts.count)
            stopped.append(level)
            return step(level, count, **options)

        monkeypatch.setattr(d.session, "step", endless)
        d.screen.play.set_speed(5)
        await d.pilot.press("space")
        async with asyncio.timeout(60):
            while not d.screen.running:
                await d.pilot.pause(0.01)
            await d.pilot.press("escape")
            while d.screen.play.playing:
                await d.pilot.pause(0.01)
            await until_idle(d.pilot)
        assert stopped == ["timestep"]


async def test_own_keys(tmp_path: Any) -> None:
    file = tmp_path / "keys.toml"
    file.write_text('[keys]\n"step.timestep" = "j,down"\n')
    app = make_app(Config.of(), keys=file)
    async with headless(app, (80, 24)) as pilot:
        screen = app.screen
        assert isinstance(screen, MainScreen)
        await pilot.press("s")
        assert screen.session.position.tick == 0
        await pilot.press("j")
        assert screen.session.position.t == 0
        assert screen.session.position.phase == "forward"


async def test_a_click_on_a_line_runs_to_it() -> None:
    async with driving() as d:
        from tui_gru.tui.panels.listing import Listing

        d.screen.query_one(Listing).request("line", "h")
        await d.pilot.pause()
        assert d.session.position.line is not None
        assert d.session.position.line.target == "h"


async def test_a_session_is_saved_and_opened_where_it_was_left(tmp_path: Any) -> None:
    file = tmp_path / "walk.tui-gru"
    async with driving() as d:
        await d.type("l", "4n", "s")
        execute(d.screen, f"save {file}")
        await until_idle(d.pilot)
        await d.pilot.pause()
        assert str(file) in d.says
        left, weights = d.session.position, d.session.parameter("Wz").copy()
        await d.type("5n")
        execute(d.screen, f"open {file}")
        await until_idle(d.pilot)
        await d.pilot.pause()
        assert d.screen.session.position == left
        assert np.array_equal(d.screen.session.parameter("Wz"), weights)
        execute(d.screen, f"open {tmp_path / 'none'}")
        await until_idle(d.pilot)
        await d.pilot.pause()
        assert "none" in d.says
        assert d.screen.session.position == left


async def test_many_sgd_steps_can_be_stopped() -> None:
    async with driving() as d:
        for key in "99999a":
            await d.pilot.press(key)
        assert d.screen.running
        await d.pilot.press("escape")
        async with asyncio.timeout(60):
            await until_idle(d.pilot)
        await d.pilot.pause()
        assert d.where[3] == "update"
        assert d.session.position.number < 99998


async def test_zero_after_a_length_is_a_temperature() -> None:
    async with driving() as d:
        for typed in ("sample Ma 6 0", "sample Ma 0.5 4 tutorial"):
            execute(d.screen, typed)
            await until_idle(d.pilot)  # on a slow machine it is drawn in a thread
        drawn = d.session.samples
        assert [(s.temperature, len(s.draws), s.sampler) for s in drawn] == [
            (0.0, 6, "fed-back"), (0.0, 6, "tutorial"), (0.5, 4, "tutorial"),
        ]  # fmt: skip


async def test_a_long_sample_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is drawn in a thread with progress; the part drawn so far is kept and equals a shorter sample."""
    async with driving(text="MathMathMathMathMath" * 3, vocabulary=None, hidden_size=32) as d:
        waiting_after(d, monkeypatch, "sample", 20)
        execute(d.screen, "sample Ma 10000")
        assert d.screen.running
        async with asyncio.timeout(60):
            while not re.search(r"\b\d+ of 10,000 characters · esc stops", d.says):
                await d.pilot.pause(0.01)
        await d.pilot.press("escape")
        async with asyncio.timeout(60):
            await until_idle(d.pilot)
        await d.pilot.pause()
        monkeypatch.undo()
        (drawn,) = d.session.samples
        count = len(drawn.draws)
        assert 0 < count <= 20  # progress is shown before the last of them, so the key may come earlier
        assert d.says.endswith(f"stopped after {count} of 10,000 characters")
        assert d.session.sample("Ma", count, temperature=drawn.temperature, seed=drawn.seed) == drawn.text


@pytest.mark.parametrize("verb", ["go", "back", "undo", "switch", "jump", "why"])
async def test_what_has_to_be_computed_again_on_the_way_is_computed_in_a_thread(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with driving() as d:
        await d.type("l", "9n", "m", "a", "3N", ":set lr 0.5")
        far: list[int | None] = []

        def batches_to(tick: int | None = None) -> int:
            far.append(tick)
            return 10**6

        monkeypatch.setattr(d.session, "batches_to", batches_to)
        screen, here = d.screen, d.session.position
        {
            "go": lambda: execute(screen, "go 3"),
            "back": lambda: execute(screen, "step -2 batch"),
            "undo": lambda: execute(screen, "undo"),
            "switch": lambda: execute(screen, "branch main"),
            "jump": lambda: execute(screen, "jump a"),
            "why": lambda: execute(screen, "why Wz[0,0]"),
        }[verb]()
        assert screen.running
        expected = {"go": 3, "back": here.tick - 2 * d.session.program.ticks, "why": here.tick}
        assert far == [expected.get(verb)]
        await until_idle(d.pilot)
        await d.pilot.pause()


async def test_every_sample_has_a_seed_of_its_own() -> None:
    async with driving() as d:
        for _ in range(40):
            execute(d.screen, "sample")
            await until_idle(d.pilot)  # on a slow machine it is drawn in a thread
        seeds = [s.seed for s in d.session.samples]
        assert sorted(set(seeds)) == list(range(8, 40))


@pytest.mark.parametrize(("size", "several"), [((160, 50), False), ((160, 40), True), ((120, 36), True), ((40, 12), True)])
async def test_the_page_key_is_dim_where_there_is_one_page(size: tuple[int, int], several: bool) -> None:
    async with driving(size) as d:
        pages = len(d.screen.panels.on_pages)
        assert BY_ID["page"].applies(d.screen) is (pages > 1) is several
        await d.pilot.pause()
        seen = set()
        for _ in range(pages):
            seen.add(tuple(w.__class__.__name__ for w in d.screen.query(Panel) if w.region))
            await d.screen.run_action("verb('page')")
            await d.pilot.pause()
        assert len(seen) == pages
        assert tuple(w.__class__.__name__ for w in d.screen.query(Panel) if w.region) in seen
