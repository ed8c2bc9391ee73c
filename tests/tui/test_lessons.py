"""Lessons on the screen: their cards, keys and answers, and that no cell shows what is asked for until it is answered."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from tests.tui.test_answers import SIZES
from tests.tui.test_main_screen import Driver, driving
from tui_gru.teaching.course import Course
from tui_gru.teaching.lesson import Question, read_lesson, shipped_lessons
from tui_gru.teaching.masking import AnswerMask
from tui_gru.tui.console import Console
from tui_gru.tui.layout import shared
from tui_gru.tui.lessons import LessonWalk, finished_lessons, paragraphs
from tui_gru.tui.panel import Panel
from tui_gru.tui.panels.derivation import DerivationPanel
from tui_gru.tui.panels.lessons import LessonList
from tui_gru.tui.panels.lists import FindingsList
from tui_gru.tui.panels.sequence import Samples
from tui_gru.tui.session_screen import Card
from tui_gru.tui.terminal import drawn_lines


@pytest.fixture(autouse=True)
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@asynccontextmanager
async def learning(name: str, size: tuple[int, int] = (120, 36), **options: Any) -> AsyncIterator[Driver]:
    async with driving(size, **options) as d:
        await d.type(f":lesson {name}")
        yield d


def walk_of(d: Driver) -> LessonWalk:
    assert d.screen.walk is not None
    return d.screen.walk


def rows(d: Driver) -> list[str]:
    """Return all rows of the screen as they are drawn."""
    return [strip.text for strip in drawn_lines(d.screen)]


def outside_of_the_card(d: Driver) -> list[str]:
    region = next((card.region for card in d.screen.query(Card) if card.display), None)
    return [row for y, row in enumerate(rows(d)) if region is None or not region.y <= y < region.bottom]


def answers(name: str) -> dict[int, tuple[Question, str, float | None]]:
    """Return the questions of a lesson with their right answers, and the number if it is one that can be hidden."""
    right = {}
    with closing(Course(read_lesson(name), Console)) as course:
        for reached in course.steps():
            if isinstance(question := reached.part, Question):
                value = course.judge.value(question) if question.kind == "answer" else None
                number = float(value) if value is not None and not isinstance(value, str) else None
                right[question.number] = question, course.judge.answer(question), number
    return right


async def go_on(d: Driver) -> None:
    """Press what the card waits for, up to the next question or the end."""
    for _ in range(40):
        stop = walk_of(d).stop
        assert stop is not None
        if stop.is_end or stop.question is not None:
            return
        card = walk_of(d).card
        assert card is not None
        await d.type(card.key)
    raise AssertionError("the lesson does not go on")


@pytest.mark.parametrize("size", [(160, 50), (80, 24), (40, 12)])
async def test_no_cell_shows_what_is_asked_for_until_it_is_answered(size: tuple[int, int]) -> None:
    right = answers("loss")
    async with learning("loss", size) as d:
        for number, (question, answer, value) in right.items():
            await go_on(d)
            stop = walk_of(d).stop
            assert stop is not None
            assert stop.question == question, number
            hidden = value is not None and not float(value).is_integer()
            if hidden:
                assert value is not None
                assert_hidden(d, AnswerMask((value,)))
                if number == 2:
                    assert any("?" in row for row in outside_of_the_card(d)) or size == (40, 12)
            await d.type(*answer, "enter")
            assert walk_of(d).card is not None
            assert walk_of(d).card.mark == "✓", (number, answer, walk_of(d).card.reply)
            if hidden and number == 2 and size[1] > 20:
                assert any("1.6710" in row for row in outside_of_the_card(d))
            await d.type("enter")
        await go_on(d)
        assert finished_lessons() == {"loss": -1}
        assert size == (40, 12) or "12 of 12 right" in d.card


@pytest.mark.parametrize("name", [name for name in shipped_lessons() if name != "loss"])  # another test goes through it
async def test_every_lesson_is_gone_through_with_its_right_answers(name: str) -> None:
    right = answers(name)
    async with learning(name, (100, 30)) as d:
        for number, (question, answer, value) in right.items():
            await go_on(d)
            stop = walk_of(d).stop
            assert stop is not None
            assert stop.question == question, (number, d.card)
            if value is not None and not question.visible and not float(value).is_integer():
                assert_hidden(d, AnswerMask((value,)))
            await d.type(*answer, "enter")
            card = walk_of(d).card
            assert card is not None
            assert card.mark == "✓", (number, answer, card.reply)
            await d.type("enter")
        await go_on(d)
        assert walk_of(d).stop is not None
        assert "That was the lesson." in d.card


def assert_hidden(d: Driver, mask: AnswerMask) -> None:
    """Assert that no cell of the screen shows the number: in panels those whose value it is, elsewhere all that look like it."""
    lines, others = rows(d), outside_of_the_card(d)
    for panel in d.screen.query(Panel):
        if not panel.region or isinstance(panel, Card) or not panel.display:
            continue
        inside, in_view = panel.scrollable_content_region, d.screen.find_widget(panel).visible_region
        for number in panel.numbers_in_view():
            x, y = inside.x + number.x, inside.y + number.y
            if not in_view.contains(x, y):
                continue
            shown = lines[y][x : x + number.width]
            for value in mask.numbers:
                if abs(abs(number.value) - abs(value)) <= 1e-6 * abs(value):
                    assert not re.search(r"\d", shown), (number, lines[y])
            for i, row in enumerate(others):
                if row == lines[y]:
                    others[i] = lines[y] = row[:x] + "_" * number.width + row[x + number.width :]
    for row in others:
        for word in re.findall(r"[-−+]?\d+\.\d+(?:e[-−]?\d+)?(?: ?%)?", row):
            assert not mask.is_answer(word), (word, row)


async def test_why_and_hovers_hide_it_too() -> None:
    mask = AnswerMask((1.6710493564605713,))
    async with learning("loss", (120, 36)) as d:
        await go_on(d)
        await d.type(*"1.7905", "enter", "enter")
        await go_on(d)
        assert walk_of(d).stop is not None
        assert walk_of(d).stop.question is not None
        assert walk_of(d).stop.question.number == 2
        await d.type("escape", ":why term3")  # look around
        assert isinstance(d.screen.overlay, DerivationPanel)
        assert_hidden(d, mask)
        assert any("?" in row for row in rows(d))
        await d.type(":loss")
        assert_hidden(d, mask)
        while d.screen.overlay is not None:
            await d.type("escape")
        for panel in d.screen.query("LossTerms, CurrentLine, Header"):
            for offset in range(2, panel.region.width, 3):
                await d.pilot.hover(type(panel), offset=(offset, 1 if panel.region.height > 2 else 0))
        await d.pilot.pause(0.01)
        assert_hidden(d, mask)
        await d.type("backspace", *"1.671", "enter")
        assert any("1.6710" in row for row in outside_of_the_card(d))


async def test_a_small_whole_number_is_hidden_by_its_name_and_counts_are_not() -> None:
    """At t 3, dh← is 0 in all its entries."""
    right = answers("loss")
    async with learning("loss", (120, 36)) as d:
        for number in range(1, 8):
            await go_on(d)
            await d.type(*right[number][1], "enter", "enter")
        await go_on(d)
        question, answer, _ = right[8]
        assert question.answer == "max(abs(dh_future))"
        mask = walk_of(d).mask
        assert mask is not None
        assert not mask.numbers
        assert mask.hides("dh_future", 0.0)
        assert not mask.hides("dz", 0.0)
        assert not mask.hides("dh_future", 0.1)
        assert_named_count_is_hidden(d)
        await d.type("escape", ":why dh_future[row 1, unit 1]")
        assert isinstance(d.screen.overlay, DerivationPanel)
        assert any("?" in row for row in d.screen.overlay.plain_text().splitlines()) or any("?" in row for row in rows(d))
        assert not any(re.search(r"dh←\S* = [-−+]?0(?![\d.])", row) for row in rows(d))
        await d.type("escape", "backspace", *answer, "enter")
        assert walk_of(d).mask is None or not walk_of(d).mask.hides("dh_future", 0.0)


def assert_named_count_is_hidden(d: Driver) -> None:
    """Assert that no panel shows an entry of dh←."""
    lines, hidden = rows(d), 0
    for panel in d.screen.query(Panel):
        if isinstance(panel, Card) or not panel.region or not panel.display:
            continue
        inside, in_view = panel.scrollable_content_region, d.screen.find_widget(panel).visible_region
        for number in panel.numbers_in_view():
            x, y = inside.x + number.x, inside.y + number.y
            if in_view.contains(x, y):
                text = lines[y][x : x + number.width]
                if number.name == "dh_future":
                    assert not re.search(r"\d", text), (number, lines[y])
                    hidden += 1
    assert hidden


async def test_a_number_to_be_found_on_the_screen_is_not_hidden() -> None:
    async with learning("rows", (120, 36)) as d:
        await d.type("n")
        await go_on(d)
        assert walk_of(d).asks
        assert any("-0.8616" in row for row in outside_of_the_card(d))


async def test_results_are_written_to_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.md"
    async with learning("loss", (100, 30)) as d:
        await go_on(d)
        await d.type(*"2.58", "enter", "ctrl+u", *"1.7905", "enter", "enter")
        await d.type("tab", "tab", *"1.671", "enter", "enter", "escape", f":lesson results {path}")
        assert "2 of 12 questions" in d.says
        text = path.read_text(encoding="utf-8")
        assert "1 of 12 right." in text
        assert "| 1 | 1.7905 | 2 |  | yes |" in text
        assert "| 2 | 1.671 | 1 | answer | no |" in text
        assert "| 3 |  | 0 |  | no |" in text
        await d.type(f":lesson results {path}")
        assert "is left as it is" in d.says
    async with driving((80, 24)) as d:
        await d.type(f":lesson results {tmp_path / 'other.md'}")
        assert "no lesson is under way" in d.says


async def test_keys_stay_on_a_narrow_card_and_the_number_of_a_question_beside_a_long_title() -> None:
    async with learning("sampling", (80, 24)) as d:
        await go_on(d)
        assert "question 1 of 5" in d.card
        await d.type(*"9.09", "enter", "enter")
        await go_on(d)
        assert "enter answers tab a hint esc looks around" in d.card
        assert any("│   b  it falls" in row for row in rows(d))


async def test_the_line_that_is_asked_for_is_cut_in_the_listing_and_in_the_title() -> None:
    right = answers("loss")
    async with learning("loss", (160, 50)) as d:
        for number, (_, answer, _) in right.items():
            await go_on(d)
            text = "\n".join(outside_of_the_card(d))
            if number == 5:
                assert "(ŷ − y)/(B·T)" not in text.replace("-", "−")
                assert "do = " in text
            if number == 9:
                assert "dar Urᵀ" not in text
                assert "dhₜ₋₁ = dh⊙z + drh⊙r + daz Uzᵀ +" in text
                await d.type(*"dr Ur'", "enter")
                assert walk_of(d).card is not None
                assert (walk_of(d).card.mark, walk_of(d).card.reply) == ("✗", "dr in the place of dar")
                await d.type("ctrl+u", *"dar Ur'", "enter")
                assert walk_of(d).card.mark == "✓"
                assert "dar Urᵀ" in "\n".join(outside_of_the_card(d))
                return
            await d.type(*answer, "enter", "enter")


@pytest.mark.parametrize("size", SIZES)
async def test_the_first_lesson_begins_with_enter_and_ends_with_what_explains_it(size: tuple[int, int]) -> None:
    async with driving(size) as d:
        await d.type("enter")
        assert d.screen.session is d.session  # it is about this training
        for _ in range(20):
            stop = walk_of(d).stop
            assert stop is not None
            if stop.is_end:
                break
            if stop.question is not None:
                await d.type("b", "enter")
                assert "Matttttttttt" in " ".join((d.card or d.says).split())
                await d.type("enter")
                continue
            card = walk_of(d).card
            assert card is not None
            await d.type(card.key)
        assert d.session.learning
        assert d.session.position.epoch >= 899
        assert [sample.text for sample in d.session.samples[-2:]] == ["MathMathMath", "Matttttttttt"]
        assert d.session.branches == ("main",)
        assert isinstance(d.screen.overlay, FindingsList)
        await d.type("enter")
        assert walk_of(d).stop is None
        assert d.card == ""


async def test_backspace_takes_back_what_the_last_key_did() -> None:
    async with driving((120, 36)) as d:
        await d.type("enter")
        places = []
        for key in ("o", "enter", "enter", "s", "a", "enter", "l"):
            places.append((d.session.position.tick, len(d.session.state.branches.done), d.card))
            await d.type(key)
        for place in reversed(places):
            await d.type("backspace")
            assert (d.session.position.tick, len(d.session.state.branches.done), d.card) == place
        await d.type("backspace")
        assert d.session.position.tick == 0


async def test_another_key_pauses_and_backspace_goes_on_where_it_was() -> None:
    async with learning("loss", (80, 24)) as d:
        await d.type("n")
        assert "paused" in d.card
        assert d.screen.session.position.tick > 0
        await d.type("n", "backspace")
        assert d.screen.session.position.tick == 0
        assert "paused" not in d.card
        await d.type("s")
        await go_on(d)
        await d.type(*"1.7", "escape", "o", "backspace")
        assert d.screen.session.position.t == 0
        assert "question 1 of 12" in d.card


async def test_a_lesson_has_its_own_session_and_leaves_the_readers_as_it_was() -> None:
    async with driving((80, 24), hidden_size=3) as d:
        await d.type("s", ":lesson loss", "s")
        assert d.screen.session is not d.session
        await d.type("escape", "escape")
        assert d.screen.session is d.session
        assert d.card == ""
        assert d.session.position.t == 0


async def test_hints_come_before_the_answer_which_does_not_count() -> None:
    async with learning("loss", (120, 36)) as d:
        await d.type("s")
        await go_on(d)
        await d.type("tab")
        assert "about 6" in d.card
        await d.type("tab")
        assert "The answer is 1.7905." in d.card
        await d.type(*"1.7905", "enter")
        assert "0 of 1 right" in d.card


async def test_an_answer_is_edited_and_pasted() -> None:
    from textual.events import Paste

    async with learning("loss", (120, 36)) as d:
        await d.type("s")
        await go_on(d)
        await d.type(*"9:q 8", "backspace", "backspace")
        assert walk_of(d).card is not None
        assert walk_of(d).card.typed == "9:q"
        await d.type("ctrl+u")
        d.screen.post_message(Paste("1.79\n05"))
        await d.pilot.pause()
        assert walk_of(d).card.typed == "1.7905"
        await d.type("enter")
        assert walk_of(d).card.mark == "✓"


async def test_several_models_are_shown_by_their_names(tmp_path: Path) -> None:
    path = tmp_path / "two.md"
    path.write_text(
        "# Two\n```lesson\nmodel a:\nmodel b: --cell lstm\n```\n## One\n```do\na\nn\nb\n```\nOf a: {a: loss}.\n"
        "```press\na\n2n\n```\n## Two\nNow {a: loss | 2} at {epoch}.\n```ask\nWhat is b's loss?\non: a\nanswer: loss\n```\n",
        encoding="utf-8",
    )
    async with learning(str(path)) as d:
        assert d.screen.session.config.cell == "lstm"
        assert "Of a: 1.2602." in d.card
        await d.type("enter")
        assert d.screen.session.config.cell == "gru"
        assert "enter types 2n" in d.card
        await d.type("2", "n")
        assert d.screen.session.position.number == 2
        assert "What is b's loss?" in d.card
        await d.type("escape", "escape")
        assert d.screen.session is d.session


async def test_the_list_has_a_tick_for_what_was_finished() -> None:
    async with driving((80, 24)) as d:
        await d.type(":lesson")
        assert isinstance(d.screen.overlay, LessonList)
        text = d.screen.overlay.plain_text()
        assert "The loss and its gradient, by hand" in text
        assert "15" in text
        assert "✓" not in text
        await d.type("down", "enter")
        assert "The loss and its gradient" in d.card
        assert d.screen.overlay is None


async def test_a_lesson_that_cannot_be_computed_says_where(tmp_path: Path) -> None:
    path = tmp_path / "wrong.md"
    path.write_text("# T\n## C\nIt is {loss}.\n", encoding="utf-8")
    async with learning(str(path)) as d:
        assert "{loss}: loss is not computed yet" in d.card
        await d.type("escape", "escape")
        assert d.card == ""
        await d.type(":lesson nothing")
        assert "there is no lesson and no file nothing" in d.says


async def test_small_screens_show_the_panel_that_the_card_speaks_of() -> None:
    async with driving((80, 24)) as d:
        await d.type("enter", "o", "enter")
        assert isinstance(d.screen.overlay, DerivationPanel)
        assert "enter goes on" in d.card
        await d.type("enter", "s", "a")
        assert d.screen.overlay is None
        assert "The model has learned" in d.card
        assert d.screen.query_one(Samples) is not None


def test_paragraphs_are_joined_and_items_are_not() -> None:
    assert paragraphs("One\ntwo.\n\nThree\n- a\n  b\n- c") == ["One two.", "Three", "- a b", "- c"]
    assert paragraphs("In\nfive:\n\n    state h : H\n      f = σ(x)\n\nThen") == [
        "In five:", "    state h : H", "      f = σ(x)", "Then",
    ]  # fmt: skip


def test_a_frame_without_room_is_left_out() -> None:
    wanted = {"line": 12, "gates": 5, "middle": 8}
    assert shared(27, wanted, ()) == {"line": 12, "gates": 5, "middle": 10}
    assert shared(30, wanted, ()) == {"line": 12, "gates": 7, "middle": 11}
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


def test_a_mask_hides_a_number_in_each_form_and_nothing_else() -> None:
    mask = AnswerMask((1.6710493564605713,))
    hidden = ("1.6710", "+1.67", "-1.7", "1.6710494", "167 %", "1.67e0", "1.67105")
    assert all(mask.hidden(text) == "?" for text in hidden)
    for text in ("1", "2", "t 16", "1.68", "16.7", "0.1671", "1.5516", "e1671"):
        assert mask.hidden(text) == text
    assert mask.hidden("③ = 1.6710 and -1.5516") == "③ = ? and -1.5516"
    small = AnswerMask((2.0e-5,))
    assert small.hidden("2.0e-5 2.1e-5 +2e-5 0.0002") == "? 2.1e-5 +2e-5 0.0002"
    line = AnswerMask((), ("(ŷ − y)/(B·T)",))
    assert line.hidden("do = (ŷ - y)/(B·T)  x") == "do = ?  x"
    assert line.hidden("do = (ŷ - y)/…") == "do = ?…"
