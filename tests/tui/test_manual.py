"""The manual in the help: what `?` and `:help` find, and how a section is drawn."""

from __future__ import annotations

import re

import pytest

from tests.pages import MANUAL
from tests.tui.test_explanations import SIZES, help_text
from tests.tui.test_main_screen import Driver, driving
from tui_gru import Session, TuiGruError
from tui_gru.tui import manual
from tui_gru.tui.app import TuiGruApp
from tui_gru.tui.ask import AskPanel
from tui_gru.tui.headless import headless, until_idle
from tui_gru.tui.help import HelpPanel, HelpScreen
from tui_gru.tui.keys import execute
from tui_gru.tui.theme import ASCII

WIDTHS = [150, 74, 34]


async def asked(d: Driver, words: str) -> HelpPanel:
    execute(d.screen, f"help {words}")
    await until_idle(d.pilot)
    await d.pilot.pause()
    assert isinstance(d.pilot.app.screen, HelpScreen)
    return d.pilot.app.screen.query_one(HelpPanel)


def test_every_heading_is_that_of_a_section_and_no_text_is_left_out() -> None:
    for page in MANUAL.values():
        outside = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
        title, *headings = re.findall(r"^##? (.*)$", outside, re.MULTILINE)
        found = [section for section in manual.sections() if section.page == title]
        assert [section.title for section in found if section.title != title] == headings
        words = set(re.findall(r"\w+", re.sub(r"^!.*$|\]\([^)]*\)|^```\w*$", "", page, flags=re.MULTILINE)))
        assert words <= {word for section in found for word in re.findall(r"\w+", f"{section.heading} {section.markdown}")}


@pytest.mark.parametrize(
    ("words", "title"),
    [
        ("breakpoints", "Breakpoints and watches: stop where it matters"),
        ("compare branches", "Branches: compare two futures"),
        ("how do I compare the branches", "Branches: compare two futures"),
        ("your own keys", "Your own keys"),
        ("HISTORY-MEMORY", "How much memory the past takes"),
        ("random tests", "Random tests"),
        ("measured", "Measured"),
        ("record a run", "Record a run"),
    ],
)
def test_a_section_is_found_by_its_heading_and_its_words(words: str, title: str) -> None:
    assert manual.search(words)[0].title == title


def test_a_section_that_is_found_has_all_of_the_words() -> None:
    found = manual.search("gradient weight")
    assert len(found) > 2
    assert all("gradient" in section.plain.lower() and "weight" in section.plain.lower() for section in found)
    assert manual.search("gradient kangaroo") == manual.search("") == []


@pytest.mark.parametrize("size", SIZES)
async def test_help_with_words_opens_a_section(size: tuple[int, int]) -> None:
    async with driving(size) as d:
        panel = await asked(d, "compare branches")
        assert help_text(d).startswith(
            f"{panel.heading} After a change in the past there are two branches. = shows every matrix as"
        )
        assert "Branches: " in panel.heading
        assert panel.virtual_size.width <= panel.size.width
        assert panel.region.height <= size[1]
        await d.type("escape")
        assert d.pilot.app.screen is d.screen


async def test_from_a_section_to_the_next_and_back_to_what_was_found() -> None:
    async with driving((80, 24)) as d:
        panel = await asked(d, "keras files")
        first = panel.section
        assert first is not None
        assert first == panel.sections[0]
        await d.type("enter")
        assert panel.section == panel.sections[1]
        for _ in panel.sections[1:]:
            await d.type("enter")
        assert panel.section == first
        await d.type("backspace")
        panel = d.pilot.app.screen.query_one(AskPanel)
        assert panel.typed == "keras files"
        listed = dict(panel.groups)["Manual"]
        assert first in [entry.section for entry in listed]
        await d.type("end", "enter")
        assert isinstance(d.pilot.app.screen, HelpScreen)
        assert d.pilot.app.screen.query_one(HelpPanel).section == listed[-1].section
        await d.type("q")
        assert d.pilot.app.screen is d.screen


async def test_a_question_finds_sections_below_the_commands() -> None:
    async with driving() as d:
        await d.type("?", *"breakpoint hits")
        panel = d.pilot.app.screen.query_one(AskPanel)
        groups = dict(panel.groups)
        assert ":break h if any(h > 0.9) hits %5" in [entry.text for entry in groups["Commands"]]
        section = groups["Manual"][0].section
        assert section is not None
        assert section.title == "Breakpoints and watches: stop where it matters"
        assert list(groups) == sorted(groups, key=["", "Commands", "Explanations", "Manual"].index)
        while panel.entry is not None and panel.entry.section is None:
            await d.type("down")
        assert ":break loss if loss > prev(loss) hits %5" in panel.plain_text()  # the section is beside the list
        await d.type("enter")
        assert d.pilot.app.screen.query_one(HelpPanel).section == section
        await d.type("w")  # another question
        assert d.pilot.app.screen.query_one(AskPanel).typed == "w"


async def test_what_is_not_found_is_said_with_what_was_meant() -> None:
    async with driving() as d:
        for words, cure in (
            ("brekpoint", r"did you mean breakpoint or .*\?"),
            ("compare brnches", r"did you mean branches or .*\?"),
            ("sigmod", r"did you mean sigmoid.*\?"),
            ("browser bigram", "no section of the manual has all of these words; leave one out"),
            ("☃", r"type the name of a value, a sign or a panel; \? explains what has the focus"),
        ):
            with pytest.raises(TuiGruError, match=f"^there is no explanation of '{words}'; {cure}$"):
                execute(d.screen, f"help {words}")
            assert d.pilot.app.screen is d.screen


async def test_every_section_fits_and_has_no_markup() -> None:
    async with driving() as d:
        palette = d.screen.query_one("Listing").palette  # type: ignore[attr-defined]
        for section in manual.sections():
            outside = re.sub(r"`[^`]*`", "", re.sub(r"^```.*?^```$", "", section.markdown, flags=re.MULTILINE | re.DOTALL))
            for width in WIDTHS:
                box = manual.drawn_section(palette, section, width)
                assert box.width <= width, section.heading
                shown = "\n".join("".join(piece.text for piece in row) for row in box.rows)
                python = re.sub(r"\*\*\w+\)", "", shown)  # named arguments of a function
                assert not re.search(r"\*\*|\]\(|```|!\[|^\|", python, re.MULTILINE), section.heading
                letters = re.sub(r"\W", "", shown)
                for word in re.findall(r"\w{4,}", re.sub(r"^!.*$|\]\([^)]*\)", "", outside, flags=re.MULTILINE)):
                    assert word in letters, (section.heading, word)


async def test_in_ascii_a_section_is_ascii() -> None:
    app = TuiGruApp(Session(), glyphs=ASCII)
    async with headless(app, (80, 24)) as pilot:
        execute(app.main, "help from a weight to a character")
        await until_idle(pilot)
        await pilot.pause()
        strips = app.screen.query_one(HelpPanel).drawn
        shown = "".join(strip.text for strip in strips)
        assert "daz is dz*z*(1 - z)" in shown
        assert shown.isascii()
