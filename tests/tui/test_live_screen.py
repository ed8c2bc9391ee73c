"""The screen during a run: it follows the batches that are finished, and says nothing that has ceased to be true."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from textual.screen import Screen

from tests.tui.test_main_screen import Driver, driving, driving_app
from tui_gru import Session
from tui_gru.engine.numbers import plain
from tui_gru.session.snapshot import RunPace, Snapshot
from tui_gru.tui import running
from tui_gru.tui.app import HAND_OVER, TuiGruApp, run
from tui_gru.tui.headless import until_idle
from tui_gru.tui.panel import Panel
from tui_gru.tui.panels.time import Header, LossCurve, TimeLine
from tui_gru.tui.panels.values import Gates
from tui_gru.tui.panels.weights import WeightsPanel

EPOCHS = 3
#: What is true at most before a run.
OF_BEFORE = ("no batch finished yet", "0 updates", "before the first line", "not computed yet")


@pytest.fixture(autouse=True)
def _each_batch_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "SHOW_EVERY", 0.0)
    monkeypatch.setattr(running, "SHOW_SHARE", 0.0)
    monkeypatch.setattr(running, "LOOK_EVERY", 0.0)


async def sampled(d: Driver, run: Callable[..., Any], look: Callable[[], None]) -> None:
    """Execute a run in a thread, and call `look` whenever one of its batches is drawn. The run waits meanwhile."""

    async def drawn() -> None:
        done = asyncio.Event()
        d.screen.call_after_refresh(done.set)
        await done.wait()
        look()

    def each(progress: Any) -> None:
        def passed(place: Any) -> None:
            progress(place)
            d.pilot.app.call_from_thread(drawn)

        run(progress=passed)

    d.screen.do(each, batches=None)
    await until_idle(d.pilot)


def text_of(d: Driver) -> str:
    """Return what is on the screen: the texts and the borders of all panels in view."""
    panels = [panel for panel in d.screen.query(Panel) if panel.region]
    return "\n".join(f"{panel.plain_text()}{panel.subheading}" for panel in panels)


def goes_to_the_end_of(session: Session, number: int) -> None:
    """Go to the end of a batch, counted from 0 over the run."""
    session.seek((number + 1) * session.program.ticks)


@pytest.mark.parametrize("size", [(160, 50), (80, 24)])
async def test_nothing_on_the_screen_is_of_before_the_last_batch(size: tuple[int, int]) -> None:
    other, seen = Session(optimizer="adam"), list[int]()
    other.learning = True
    async with driving(size, optimizer="adam") as d:
        await d.type("l")

        def look() -> None:
            number, text = d.screen.snapshot.position.number, text_of(d)
            goes_to_the_end_of(other, number)
            header = d.screen.query_one(Header).plain_text()
            found = re.search(r"epoch (\d+)\D+batch (\d+)", header)
            assert found is not None
            assert [*map(int, found.groups())] == [number // 3 + 1, number % 3 + 1]
            assert f"loss {plain(other.snapshot().losses[number])}" in " ".join(header.split())
            assert [words for words in OF_BEFORE if words in text] == []
            assert len(d.screen.snapshot.losses) == number + 1
            assert f"epoch {number // 3 + 1} ·" in d.says
            for name in other.program.parameters:
                assert np.array_equal(d.screen.snapshot.parameter(name), other.parameter(name))
            seen.append(number)

        await sampled(d, lambda progress: d.session.step("epoch", EPOCHS, progress=progress), look)
        assert seen == list(range(1, 3 * EPOCHS))  # the first batch is computed with the first screen
        assert not d.screen.snapshot.passing


async def test_a_run_to_a_condition_and_its_watches_are_followed() -> None:
    async with driving() as d:
        await d.type("l", ":watch loss", ":watch prev(loss)", ":watch nonsense(", "n")
        watched = []

        def look() -> None:
            assert "not computed yet" not in text_of(d)
            watched.append(tuple(each.value for each in d.screen.snapshot.watched))

        await sampled(d, lambda progress: d.session.run_until("step == 6", progress=progress), look)
        found = [loss for loss, _ in watched]
        assert found[:5] == list(d.session.state.timeline.column("loss", 1, 5))  # some batches are computed before they are tested
        assert {before for _, before in watched} == {None}  # it is read of the batch before, when the run has ended


async def test_batches_that_are_replayed_are_not_passed() -> None:
    session, passed = Session(), list[int]()
    session.learning = True

    def progress(place: Any) -> None:
        snapshot = session.passing()
        if snapshot is not None:
            passed.append(snapshot.position.number)

    session.step("epoch", 2, progress=progress)
    assert passed == [1, 2, 3, 4, 5]
    assert session.passing() is None
    passed.clear()
    session.run_back_until("step == 2", progress=progress)
    assert passed == []
    session.run_until("step == 4 and all(z < 2)", progress=progress)
    assert passed[:2] == [1, 2]  # it began in the middle of step 2
    assert session.newest.number == 5


async def test_of_large_batches_the_results_are_followed_and_other_panels_say_of_which_place_they_are() -> None:
    session = Session(history_memory=0, optimizer="adam")
    session.learning = True
    assert session.state.timeline.memory.large
    session.step("batch")
    async with driving_app(TuiGruApp(session)) as d:
        seen = list[str]()

        def look() -> None:
            header, text = d.screen.query_one(Header), text_of(d)
            assert header.snapshot.position.number == len(d.screen.query_one(LossCurve).snapshot.losses) - 1
            assert header.snapshot.position == d.screen.query_one(TimeLine).snapshot.position
            assert f"{header.snapshot.position.number + 1} updates" in header.plain_text()
            assert not header.snapshot.has_arrays
            for panel in (*d.screen.query_one(Gates).query(Panel), *d.screen.query_one(WeightsPanel).query(Panel)):
                assert "at e1 b1" in str(panel.border_title) or not panel.display
            seen.append(text)

        await sampled(d, lambda progress: d.session.step("epoch", 2, progress=progress), look)
        assert len(seen) == 5
        assert not any("at e1 b1" in str(panel.border_title) for panel in d.screen.query(Panel))


async def test_pictures_take_a_small_share_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run computes for a multiple of the time that a picture has taken before it draws the next one."""
    now, taken, drawn = [0.0], [0.0], list[float]()
    monkeypatch.setattr(running, "SHOW_EVERY", 0.25)
    monkeypatch.setattr(running, "SHOW_SHARE", 16)

    def thread_time() -> float:
        return taken[0] if threading.current_thread() is threading.main_thread() else now[0]

    clock = {"monotonic": lambda: now[0], "thread_time": thread_time}
    monkeypatch.setattr(running, "time", SimpleNamespace(perf_counter=time.perf_counter, **clock))
    async with driving() as d:
        show = d.screen.show_passing

        def showing(snapshot: Snapshot, pace: RunPace) -> None:
            show(snapshot, pace)
            drawn.append(now[0])
            taken[0] += 1 / 128 if len(drawn) < 5 else 1 / 32

        monkeypatch.setattr(d.screen, "show_passing", showing)

        def look() -> None:
            now[0] += 1 / 16

        await sampled(d, lambda progress: d.session.step("batch", 40, progress=progress), look)
    assert drawn == [0.25, 0.5, 0.75, 1.0, 1.25, 1.75, 2.25]


async def test_a_run_waits_while_its_pictures_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "LONGEST_WAIT", 60.0)
    async with driving() as d:
        reporting, drawn, when_drawn = [False], list[bool](), d.screen.when_drawn

        def run(progress: Any) -> None:
            def passed(place: Any) -> None:
                reporting[0] = True
                progress(place)
                reporting[0] = False

            d.session.step("batch", 20, progress=passed)

        def observed(callback: Callable[[], object]) -> None:
            when_drawn(lambda: (drawn.append(reporting[0]), callback()))

        monkeypatch.setattr(d.screen, "when_drawn", observed)
        d.screen.do(run, batches=None)
        await until_idle(d.pilot)
    assert drawn == [True] * 19


async def test_a_run_does_not_wait_for_a_screen_that_another_one_covers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "LONGEST_WAIT", 60.0)
    async with driving() as d:
        main, ended = d.screen, threading.Event()

        def run(progress: Any) -> None:
            d.session.step("batch", 20, progress=progress)
            ended.set()

        d.pilot.app.push_screen(Screen[None]())
        await d.pilot.pause()
        main.do(run, batches=None)
        assert await asyncio.to_thread(ended.wait, 30)
        d.pilot.app.pop_screen()
        await until_idle(d.pilot)


def test_a_thread_that_computes_hands_the_interpreter_over_soon_while_the_screen_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = sys.getswitchinterval(), list[float]()
    monkeypatch.setattr(TuiGruApp, "run", lambda app: seen.append(sys.getswitchinterval()))
    run(Session(), theme=None, ascii=False, keys=None)
    assert seen == [pytest.approx(HAND_OVER)]
    assert sys.getswitchinterval() == pytest.approx(before)


async def test_a_run_that_has_not_reported_yet_is_said_to_go_on() -> None:
    """A batch of a large model takes seconds, within which a run cannot say how far it is."""
    async with driving() as d:
        end = threading.Event()
        d.screen.do(lambda progress: end.wait(), batches=None)
        try:
            for _ in range(1000):
                if d.says:
                    break
                await asyncio.sleep(0.01)
            assert d.says == "running · esc stops"
        finally:
            end.set()
        await until_idle(d.pilot)
        assert d.says == ""


async def test_a_batch_that_takes_long_never_runs_in_the_thread_of_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    async with driving() as d:
        assert d.screen.runner.is_quick(1)
        monkeypatch.setattr(running, "LARGE", d.session.config.record_bytes - 1)
        assert d.screen.runner.is_quick(0)
        assert not d.screen.runner.is_quick(1)
