"""The tour of ten keys: a card for each, back with backspace, paused by other keys, and at its end the finding that explains it."""

from __future__ import annotations

import pytest

from tests.tui.test_answers import SIZES, seen
from tests.tui.test_main_screen import Driver, driving
from tests.tui.test_stopping import command
from tui_gru import Session
from tui_gru.tui.layout import shared
from tui_gru.tui.panel import SnapshotPanel
from tui_gru.tui.panels.line import CurrentLine
from tui_gru.tui.panels.lists import FindingsList
from tui_gru.tui.panels.sequence import Samples
from tui_gru.tui.panels.time import Header, TimeLine
from tui_gru.tui.screen import TourStep, tour_steps
from tui_gru.tui.verbs import KEYS

ONE_ROW = Header, TimeLine
WALK = [
    {"asterisk": "*", "exclamation_mark": "!"}.get(key, key)
    for key in (KEYS[step.verb].split(",")[0] for step in tour_steps(Session()))
]


@pytest.mark.parametrize("size", [*SIZES, (100, 30)])
async def test_the_tour_is_offered_and_goes_through_ten_keys(size: tuple[int, int]) -> None:
    async with driving(size) as d:
        assert "enter a tour of ten keys" in " ".join(d.screen.query_one(CurrentLine).plain_text().split())
        await d.type("enter")
        assert len(WALK) == 10
        for number, (key, step) in enumerate(zip(WALK, tour_steps(Session()), strict=True), 1):
            if size[1] < 20:
                assert f"tour {number}/10 · " in d.says
                assert seen(d).endswith(d.says.split()[-1])  # there is room for all of it
            else:
                assert d.card.startswith(f"tour {number} of 10 ")
                assert "tour" not in d.says
                assert_shown(d, step)
            await d.type(key)
        assert d.session.learning
        assert [sample.text for sample in d.session.samples] == ["MathMathMath", "Matttttttttt"]
        assert d.session.branches == ("main",)  # nothing in it changes the past
        found = d.screen.overlay
        assert isinstance(found, FindingsList)
        assert found.findings[found.cursor].name == "sampler-without-feedback"
        assert "That was the tour." in (d.card or f"That was the tour. {d.says}")
        await d.type("s")
        assert d.card == ""
        assert "tour" not in d.says


def assert_shown(d: Driver, step: TourStep) -> None:
    """Assert that what a card tells of is on the screen, and that no panel is squeezed to a border around nothing."""
    assert step.verb == "stop" or d.screen.overlay is None
    for kind in step.tells_of:
        [told] = d.screen.query(kind)
        assert told.region.height >= 5, kind
    shown = [panel for panel in d.screen.query(SnapshotPanel) if panel.display and panel.region.height]
    assert all(panel.content_size.height >= 2 for panel in shown if not isinstance(panel, ONE_ROW)), step.head


async def test_each_key_does_what_the_card_says() -> None:
    async with driving((80, 24)) as d:
        await d.type("enter")
        assert "o executes one line" in d.card
        await d.type("o")
        line = d.session.position.line
        assert line is not None
        assert line.target == "z"
        await d.type("enter")
        assert d.screen.overlay is not None
        assert "esc leaves" not in d.card  # it closes the panel here
        await d.type("escape")
        assert d.screen.overlay is None
        await d.type("s", "a", "*")
        assert d.says.startswith("1 of 2: the largest: Δ")
        await d.type("l", "e")
        assert d.session.position.epoch == 899
        assert f"The loss is {d.session.loss:.4f} now." in d.card
        await d.type("p")
        assert d.screen.maximized is d.screen.query_one(Samples)  # a small screen shows it alone
        assert "again before every letter: Matttttttttt. The other reads what it has just said: MathMathMath." in d.card
        await d.type("!")
        assert d.screen.maximized is None


def test_a_frame_without_room_is_left_out() -> None:
    wanted = {"line": 12, "gates": 5, "middle": 8}
    assert shared(30, wanted, ()) == {"line": 12, "gates": 5, "middle": 13}
    assert shared(17, wanted, ()) == {"line": 8, "gates": 5, "middle": 4}
    assert shared(15, wanted, ()) == {"line": 10, "gates": 5, "middle": 0}
    assert shared(9, wanted, ()) == {"line": 9, "gates": 0, "middle": 0}
    assert shared(15, wanted, ("line", "middle")) == {"line": 9, "gates": 0, "middle": 6}
    assert shared(15, wanted, (), {"middle"}) == {"line": 0, "gates": 5, "middle": 10}
    assert shared(3, wanted, ()) == {"line": 3, "gates": 0, "middle": 0}


def test_the_rows_of_a_line_that_only_write_out_more_come_after_the_weights() -> None:
    wanted, first = {"line": 12, "gates": 5, "middle": 8, "bottom": 11}, ("line", "gates", "bottom")
    for room, line, bottom in ((31, 10, 10), (32, 10, 11), (33, 11, 11), (34, 12, 11), (36, 12, 11)):
        heights = shared(room, wanted, first)
        assert (heights["line"], heights["bottom"]) == (line, bottom), room
        assert sum(heights.values()) == room


async def test_backspace_takes_back_what_the_last_key_did() -> None:
    async with driving((120, 36)) as d:
        await d.type("enter")
        places = []
        for key in WALK[:8]:
            places.append((d.session.position.tick, len(d.session.state.branches.done)))
            await d.type(key)
        for number in range(8, 0, -1):
            assert d.card.startswith(f"tour {number + 1} of 10 ")
            await d.type("backspace")
            assert (d.session.position.tick, len(d.session.state.branches.done)) == places[number - 1]
            assert (d.screen.overlay is not None) == (number == 3)
        assert d.card.startswith("tour 1 of 10 ")
        await d.type(*WALK)
        assert "That was the tour." in d.card
        assert d.session.branches == ("main",)


@pytest.mark.parametrize("stop", [0, 3, 8])
async def test_another_key_pauses_the_tour_and_backspace_goes_on_where_it_was(stop: int) -> None:
    async with driving((80, 24)) as d:
        await command(d, "tour")
        await d.type(*WALK[:stop])
        place = d.session.position.tick
        await d.type("n")
        assert d.session.position.tick > place
        assert d.card.startswith(f"tour {stop + 1} of 10, paused ")
        await d.type("n", "?", ";")
        assert d.screen.overlay is not None
        await d.type("backspace")
        assert d.screen.overlay is None
        assert d.session.position.tick == place
        assert d.card.startswith(f"tour {stop + 1} of 10 ")
        await d.type(WALK[stop])
        assert d.card.startswith(f"tour {stop + 2} of 10 ")


async def test_escape_leaves_the_tour_and_a_count_does_not_pause_it() -> None:
    async with driving((80, 24)) as d:
        await d.type("enter", "3", "o")
        assert d.card.startswith("tour 2 of 10 ")
        assert d.session.position.tick == 3
        await d.type("escape")
        assert d.card == ""
        await d.type("o")
        assert d.session.position.tick == 4
        await command(d, "tour")
        await d.type("w", "escape", "escape", "escape")  # out of the line, and out of the paused tour
        assert d.card == ""


@pytest.mark.parametrize("hidden_size", [2, 64, 512])
async def test_the_training_in_the_tour_fits_the_model(hidden_size: int) -> None:
    text = "the quick brown fox jumps over the lazy dog. " * 200
    session = Session(text=text, hidden_size=hidden_size, batch_size=8, seq_length=16)
    step = next(step for step in tour_steps(session) if step.verb == "step.epoch")
    _, count, level = step.command.split()
    batches = int(count) * (session.config.num_batches if level == "epoch" else 1)
    work = session.config.parameter_count * 8 * 16
    assert 1 <= batches <= 10_000
    assert batches == 1 or batches * work * 2e-9 <= 5  # seconds, about
    assert "Math" not in "".join(each.body for each in tour_steps(session))


async def test_on_a_text_of_ones_own_the_tour_ends_with_what_the_model_says() -> None:
    async with driving((80, 24), text="a cat and a hat. " * 2, hidden_size=8) as d:
        await d.type("enter", *(key for key in WALK[:-1] if key != "l"))  # learning is on already
        (sample,) = d.session.samples
        assert sample.sampler == "fed-back"
        assert f"It says {' '.join(sample.text.split())}" in d.card


async def test_learning_that_is_on_already_is_not_turned_off() -> None:
    async with driving((80, 24)) as d:
        await d.type("l", ":tour")
        assert d.card.startswith("tour 1 of 9 ")
        assert "learn.toggle" not in {step.verb for step in tour_steps(d.session)}


async def test_the_tour_has_the_users_own_keys() -> None:
    async with driving((80, 24)) as d:
        d.pilot.app.own_keys["step.line"] = "g"  # type: ignore[attr-defined]
        await command(d, "tour")
        assert "g executes one line" in d.card
