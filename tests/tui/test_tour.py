"""The tour of ten keys: offered before the first line, it says a sentence for each key, and is left at any other."""

from __future__ import annotations

import pytest

from tests.tui.test_answers import SIZES, seen
from tests.tui.test_main_screen import driving
from tests.tui.test_stopping import command
from tui_gru.tui.headless import until_idle
from tui_gru.tui.panels.line import CurrentLine
from tui_gru.tui.screen import STOPS
from tui_gru.tui.verbs import KEYS

WALK = [KEYS[stop.verb].split(",")[0] for stop in STOPS]


@pytest.mark.parametrize("size", SIZES)
async def test_the_tour_is_offered_and_goes_through_ten_keys(size: tuple[int, int]) -> None:
    async with driving(size) as d:
        assert "enter a tour of ten keys" in " ".join(d.screen.query_one(CurrentLine).plain_text().split())
        await d.type("enter")
        assert len(WALK) == 10
        for number, key in enumerate(WALK, 1):
            assert f"tour {number}/10 · " in d.says
            assert seen(d).endswith(d.says.split()[-1])  # there is room for all of it
            await d.pilot.press(key)
            await until_idle(d.pilot)
            await d.type()
        assert "the end of the tour" in d.says
        assert d.session.learning
        assert len(d.session.samples) == 2
        assert d.session.branches == ("main",)  # nothing in it changes the past
        await d.type("s")
        assert d.says == ""


async def test_every_key_of_the_tour_does_what_it_is_said_to_do() -> None:
    async with driving((80, 24)) as d:
        await d.type("enter", "o")
        line = d.session.position.line
        assert line is not None
        assert line.target == "z"
        await d.type("enter")
        assert d.screen.overlay is not None
        await d.type("escape")
        assert d.screen.overlay is None
        await d.type("s", "a", "%")
        assert d.says.startswith("the largest: Δ")


async def test_a_count_does_not_leave_the_tour() -> None:
    async with driving((80, 24)) as d:
        await command(d, "tour")
        for key in WALK[:7]:
            await d.pilot.press(key)
        await d.type("9", "0", "e")
        assert (d.session.position.epoch, d.says.partition(" · ")[0]) == (89, "tour 9/10")


@pytest.mark.parametrize("stop", [0, 3, 9])
async def test_any_other_key_leaves_the_tour_and_does_what_it_does(stop: int) -> None:
    async with driving((80, 24)) as d:
        await command(d, "tour")
        for key in WALK[:stop]:
            await d.pilot.press(key)
        await d.type(";")
        assert d.screen.overlay is not None
        assert "tour" not in d.says.replace("the tour has ended; :tour starts it again", "")
        await d.type(WALK[stop])
        assert "tour" not in d.says


@pytest.mark.parametrize(("key", "answer"), [("n", ""), ("l", "learning on: batches end with backward and update · "), ("tab", "")])
async def test_the_end_of_the_tour_is_said_until_the_next_key(key: str, answer: str) -> None:
    async with driving((80, 24)) as d:
        await d.type("enter", key)
        assert d.says == f"{answer}the tour has ended; :tour starts it again"
        await d.type("n")
        assert d.says == ""


async def test_the_tour_has_the_users_own_keys() -> None:
    async with driving((80, 24)) as d:
        d.pilot.app.own_keys["step.line"] = "g"  # type: ignore[attr-defined]
        await command(d, "tour")
        assert d.says == "tour 1/10 · g executes one line of the program · any other key ends the tour"
