"""Tokens longer than a character on screen: shortened in a row of tokens, complete when one is selected."""

from __future__ import annotations

from typing import Any

import pytest
from textual.pilot import Pilot

from tests.tui.pressing import press
from tui_gru.engine.config import Config
from tui_gru.tui.app import make_app
from tui_gru.tui.headless import headless
from tui_gru.tui.panels.influence import InfluenceMap, LossPlaces
from tui_gru.tui.panels.sequence import Samples, Sequence
from tui_gru.tui.panels.units import UnitsMap
from tui_gru.tui.panels.values import Softmax
from tui_gru.tui.session_screen import BottomLine
from tui_gru.tui.theme import ASCII, UNICODE, in_context, visible_text, widest, written_char

WORDS = ["the", "cat", "sat", "on", "the", "mat", ".", "internationalization", "is", "a", "long", "word", "."] * 12
OPTIONS = {"text": WORDS, "hidden_size": 6, "batch_size": 2, "seq_length": 4, "seed": 3}
SIZES = [(160, 50), (80, 24), (40, 12)]


def text_of(pilot: Pilot[Any], kind: type) -> str:
    panel = pilot.app.screen.query_one(kind)
    return "\n".join(panel.render_line(y).text for y in range(panel.size.height))


def test_a_token_is_cut_to_eight_cells():
    assert written_char("internationalization", UNICODE) == "interna…"
    assert len(written_char("internationalization", ASCII)) == 8
    assert written_char("\n\n", UNICODE) == "⏎⏎"
    assert widest(("the", "internationalization")) == 8
    assert widest(("the", "a")) == 3
    assert visible_text(("the", "cat"), UNICODE) == "the cat"
    assert in_context(("a", "b", "c", "d"), 1, 3, 6, UNICODE) == ("a ", "b", " c d")
    assert in_context("abcd", 1, 3, 6, UNICODE) == ("a", "b", "cd")


@pytest.mark.parametrize("size", SIZES)
async def test_steps_and_samples_show_tokens(size: tuple[int, int]) -> None:
    app = make_app(Config.of(**OPTIONS))
    async with headless(app, size) as pilot:
        await press(pilot, "l n n p")  # without learning
        main = app.main
        assert main is not None
        assert main.session.samples[0].tokens[:2] == ("the", "is")  # the number 0.64 at temperature 0.5
        assert main.session.snapshot().corpus.text[7] == "internationalization"
        if size == SIZES[0]:
            rows = text_of(pilot, Sequence)
            targets = main.session.value("target")
            assert all(written_char(str(token), UNICODE) in rows for token in targets)
            assert "◂" in text_of(pilot, Softmax)
            sampled = text_of(pilot, Samples)
            assert "the is cat" in sampled
            assert "interna…" in rows + text_of(pilot, Softmax) + sampled


async def test_overlays_show_tokens() -> None:
    app = make_app(Config.of(**OPTIONS))
    async with headless(app, (120, 36)) as pilot:
        await press(pilot, "n n")
        for command, kind in {":units": UnitsMap, ":influence": InfluenceMap, ":losses": LossPlaces}.items():
            await press(pilot, command)
            shown = text_of(pilot, kind)
            assert len(set(shown.split()) & {*WORDS, "interna…"}) > 3, command
            await press(pilot, "escape")


async def test_a_token_is_typed_in_conditions_and_edits() -> None:
    app = make_app(Config.of(**OPTIONS))
    async with headless(app, (160, 50)) as pilot:
        await press(pilot, ':until target[0] == "internationalization"')
        assert app.main is not None
        assert app.main.session.value("target")[0] == "internationalization"
        await press(pilot, ":set text[9] the")
        assert app.main.session.snapshot().corpus.text[9] == "the"
        await press(pilot, ":set text[9] 'word'")
        assert app.main.session.snapshot().corpus.text[9] == "word"
        await press(pilot, ":set text[9] cow")
        assert "cow" in app.screen.query_one(BottomLine).message
        await press(pilot, ":influence cat")
        assert "gives “cat”" in text_of(pilot, InfluenceMap)
