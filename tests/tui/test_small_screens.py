"""The smallest screen: what does not fit is folded, scrolls, or is shown at the cursor."""

from __future__ import annotations

import re
from typing import Any

import pytest
from rich.cells import cell_len

from tests.tui.test_main_screen import driving
from tests.tui.test_stopping import command
from tui_gru.tui import theme as characters
from tui_gru.tui.app import LARGEST
from tui_gru.tui.command import CommandLine
from tui_gru.tui.help import HelpPanel
from tui_gru.tui.keys import example
from tui_gru.tui.panel import Panel
from tui_gru.tui.panels.derivation import WhatIfPanel
from tui_gru.tui.panels.influence import LossPlaces
from tui_gru.tui.panels.listing import Listing
from tui_gru.tui.panels.time import Header
from tui_gru.tui.panels.weights import Overview
from tui_gru.tui.session_screen import BottomLine
from tui_gru.tui.terminal import drawn_lines
from tui_gru.tui.theme import fitting, folded
from tui_gru.tui.verbs import VERBS

TINY = (40, 12)


def words(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def rows(widget: Any) -> list[str]:
    return [widget.render_line(y).text.rstrip() for y in range(widget.size.height)]


def test_text_is_folded_between_words_and_long_words_where_a_line_ends() -> None:
    assert folded("one two three", 7) == ["one two", "three"]
    assert folded("the largest loss is that of epoch 12, batch 3", 30) == ["the largest loss is that of", "epoch 12, batch 3"]
    assert folded("epoch 12", 6) == ["epoch", "12"]
    assert folded("abcdefghij kl", 4) == ["abcd", "efgh", "ij", "kl"]
    assert folded("日本語", 4) == ["日本", "語"]
    assert folded("日本語 x", 3) == ["日", "本", "語", "x"]
    assert folded("one two three four", 7, 2) == ["one two", "three"]
    assert folded("abcdefghij kl", 4, 2) == ["abcd", "efgh"]
    assert fitting(("a", "bc", "d"), 6) == "a · bc"
    assert fitting(("abcdef",), 2) == "abcdef"


async def test_the_names_of_weights_are_in_view_when_the_last_update_is_shown() -> None:
    async with driving((80, 24)) as d:
        await d.type("l", "n")
        shown = rows(d.screen.query_one(Overview))
        assert shown[0].split()[::3] == ["Wz", "Wr", "Wh", "Wy", "t"]
        assert shown[-1].split()[-5] == "by"


async def test_of_an_absurd_window_a_part_is_drawn() -> None:
    async with driving() as d:
        for size in ((20_000, 20_000), (10**9, 10), (10, 10**9)):
            await d.pilot.resize_terminal(*size)
            drawn = min(size[0], LARGEST.width), min(size[1], LARGEST.height)
            assert d.pilot.app.size == d.screen.size == drawn
            assert len(drawn_lines(d.screen)) == drawn[1]
        await d.pilot.resize_terminal(160, 50)
        await d.type("s")
        assert "training loop" in drawn_lines(d.screen)[1].text


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of characters whose width has been measured. More than 50 million are an error."""
    count = [0]

    def counting(text: str) -> int:
        count[0] += len(text)
        assert count[0] < 5 * 10**7
        return cell_len(text)

    monkeypatch.setattr(characters, "cell_len", counting)
    return count


@pytest.mark.parametrize("text", ["x" * 200_000, "日" * 100_000, "ab " * 50_000], ids=["word", "wide", "words"])
def test_a_long_text_is_folded_in_a_time_that_grows_with_its_length(text: str, measured: list[int]) -> None:
    lines = folded(text, 40)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(cell_len(line) <= 40 for line in lines)
    assert measured[0] <= 4 * len(text)


async def test_a_message_and_a_mark_of_a_million_characters_are_drawn(measured: list[int]) -> None:
    async with driving(TINY) as d:
        bottom = d.screen.query_one(BottomLine)
        for typed in ("x" * 10**6, "mark a " + "x" * 10**6):
            d.screen.post_message(CommandLine.Entered(typed))
            await d.pilot.pause()
            assert rows(bottom)[-1].endswith("⋯")
            assert bottom.size.height == 6  # half of the screen
        await d.type("o", "O", "B")
        assert d.screen.overlay is not None
        assert "x" * 10 in words(" ".join(rows(d.screen.overlay)))


async def test_a_long_message_takes_as_many_rows_as_it_needs() -> None:
    async with driving(TINY) as d:
        bottom = d.screen.query_one(BottomLine)
        await d.type("c")
        await d.pilot.pause()
        assert words(" ".join(rows(bottom))).strip() == d.says
        assert bottom.size.height == 3
        await d.type("o")
        await d.pilot.pause()
        assert bottom.size.height == 1
        d.screen.say("x" * 500)
        await d.pilot.pause()
        assert bottom.size.height == 6  # half of the screen
        assert rows(bottom)[-1].endswith("⋯")


@pytest.mark.parametrize("size", [(160, 50), (120, 36), (80, 24), TINY])
async def test_what_is_said_takes_no_room_from_a_panel(size: tuple[int, int]) -> None:
    async with driving(size) as d:
        await d.type("n")
        regions = [panel.region for panel in d.screen.query(Panel)]
        await command(d, "foo")
        assert d.says == "there is no command 'foo'; ? lists all"
        d.screen.say("a long message " * 20)
        await d.pilot.pause()
        bottom = d.screen.query_one(BottomLine)
        assert bottom.size.height > 1
        assert bottom.region.bottom == size[1]
        assert [panel.region for panel in d.screen.query(Panel)] == regions
        assert max(region.bottom for region in regions) < size[1]
        await command(d, "whatch")
        assert d.says == "there is no command 'whatch'; did you mean watch or what-if?"


async def test_help_is_folded() -> None:
    async with driving(TINY) as d:
        await d.type("?", "tab")
        panel = d.pilot.app.screen.query_one(HelpPanel)
        shown = words(panel.plain_text())
        for said in [verb.help for verb in VERBS] + [verb.typed_help for verb in VERBS if verb.names]:
            assert example(d.session.program, said) in shown
        assert panel.virtual_size.width <= panel.size.width


async def test_an_overlay_has_the_whole_of_a_tiny_screen() -> None:
    async with driving(TINY) as d:
        for keys in (("B",), ("J",), ("s", "enter"), ("k",)):
            await d.type(*keys)
            assert d.screen.overlay is not None, keys
            assert d.screen.overlay.outer_size.height == 10, keys
            await d.type("escape")
            assert d.screen.query_one(Listing).region.height == 4, keys


async def test_what_is_cut_off_in_a_derivation_is_written_out_under_the_cursor() -> None:
    async with driving(TINY) as d:
        await d.type("s", "o", "o", "o", "enter", "down", "down")
        panel: Any = d.screen.overlay
        shown = rows(panel)
        here = next(i for i, row in enumerate(shown) if "…" in row and "(r⊙" in row)
        assert "(r⊙hₜ₋₁) Uh = 0.0362 − 0.0569" in words(" ".join(shown[here + 1 :]))
        for _ in range(30):
            panel.action_move(1)
            await d.pilot.pause()
            row = panel.head + panel.leaf.cursor - panel.scroll_offset.y
            assert 0 <= row < panel.content_size.height
        await d.pilot.click(type(panel), offset=(5, 2))
        assert panel.leaf.cursor == panel.scroll_offset.y + 1 - panel.head


async def test_a_what_if_says_all_there_is_to_say() -> None:
    async with driving(TINY) as d:
        await d.type("s", "o", "o", "o")
        await command(d, "what-if z[0,1] 0.9")
        await d.pilot.pause()
        panel = d.screen.query_one(WhatIfPanel)
        assert panel.heading == "z[row 1, unit 2] = 0.9000?"
        assert str(panel.border_subtitle) == "enter applies it · + - change it"
        await d.type("space")
        assert "row 1, unit 2 +0.3500 → +0.9000" in words(panel.plain_text())
        assert "…" not in panel.plain_text()


async def test_every_panel_of_a_tiny_screen_has_room_and_stays_on_it() -> None:
    async with driving(TINY) as d:
        await command(d, "watch loss")
        await command(d, "break loss log {loss:.3f}")
        await d.type("l", "n", "p")
        for page in ("LossTerms Sequence", "LossCurve Softmax", "Overview Samples", "Log Watches"):  # from the second on
            await d.type("v")
            shown = [panel for panel in d.screen.query(Panel) if panel.region and not isinstance(panel, Header)]
            names = {type(panel).__name__.replace("ParameterMatrix", "Overview") for panel in shown}
            assert names >= set(page.split())
            for panel in shown:
                assert panel.content_size.height >= 1, page
                assert panel.region.right <= 40, page
                assert panel.region.bottom <= 11, page


async def test_in_one_row_of_weights_the_result_of_the_line_is_in_view() -> None:
    async with driving(TINY, cell="lstm") as d:
        await d.type("l", ":step phase", "s", "s")
        assert d.screen.snapshot.line is not None
        assert d.screen.snapshot.line.target == "dby"
        assert rows(d.screen.query_one(Overview))[0].lstrip().startswith("dby (")


async def test_of_the_losses_by_class_no_column_is_cut() -> None:
    async with driving(TINY) as d:
        await d.type("d")
        shown = d.screen.query_one(LossPlaces).plain_text().splitlines()
        assert [row.split() for row in shown if "mean" in row] == [["mean", "of", "the", "sum"]]
