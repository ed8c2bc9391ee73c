"""With --ascii the whole screen is ASCII: formulas, scroll bars, a user's text, and Textual's own screens."""

from __future__ import annotations

from typing import Any

import pytest
from textual.widgets import Input

from tests.tui.test_answers import SIZES
from tui_gru.engine.config import Config
from tui_gru.tui.app import make_app
from tui_gru.tui.headless import headless, type_keys, until_checked
from tui_gru.tui.keys import execute
from tui_gru.tui.terminal import drawn_later, drawn_lines

GREEK = "αβγ η σΣ tŷ e\u0301 日本 ①\u200d " * 30


def rows(app: Any) -> list[str]:
    return [strip.text for strip in drawn_lines(app.screen)]


async def see(pilot: Any, *keys: str) -> list[str]:
    with drawn_later(pilot.app):  # `rows` draws
        await type_keys(pilot, keys)
        await until_checked(pilot)
        await pilot.pause()
    shown = rows(pilot.app)
    assert shown == [row.encode("ascii", "replace").decode() for row in shown]
    return shown


@pytest.mark.parametrize("size", SIZES)
async def test_every_line_and_overlay_is_ascii(size: tuple[int, int]) -> None:
    """Every line is looked at on one of the sizes."""
    app = make_app(Config.of(seq_length=2), ascii=True)
    async with headless(app, size) as pilot:
        await see(pilot)
        await see(pilot, "l", "n", "s", "o" * SIZES.index(size))
        for _ in range(app.session.program.ticks // len(SIZES)):
            await see(pilot, f"{len(SIZES)}o")
        for keys in (("enter",), ("escape", "J"), ("escape", "B"), ("escape", "k"), ("escape", "z"), ("escape", "?"), ("escape",)):
            await see(pilot, *keys)
        for command in ("sample Ma 4", "what-if Wz[0,1] 0.5", "why h[0,0]", "watch max(abs(h)) stop", "break h̃ log {h}"):
            execute(app.screen, command)
            await see(pilot, "escape", "s")
        await see(pilot, "ctrl+p")


async def test_scroll_bars_and_what_is_typed_are_ascii() -> None:
    app = make_app(Config.of(), ascii=True)
    async with headless(app, (80, 24)) as pilot:
        await see(pilot, "9o")
        assert app.screen.query_one("Listing").show_vertical_scrollbar
        await see(pilot, ":", "h", "ŷ", "²")
        assert app.screen.query_one(Input).value == "hŷ²"


async def test_a_users_own_text_keeps_its_columns() -> None:
    config = Config.of(text=GREEK, hidden_size=2, batch_size=2, seq_length=4)

    def shown(app: Any) -> list[int]:
        return [strip.cell_length for strip in app.screen.query_one("Sequence").draw(60, 8).rows[0]]

    fancy = make_app(config)
    async with headless(fancy, drawn=False) as pilot:
        await type_keys(pilot, ["l", "n", "s", "s"])
        columns = shown(fancy)
    for size in SIZES:
        plain = make_app(config, ascii=True)
        async with headless(plain, size, drawn=False) as pilot:
            await see(pilot, "l", "n", "s", "s")
            assert shown(plain) == columns, size


async def test_formulas_are_written_as_they_are_typed() -> None:
    app = make_app(Config.of(), ascii=True)
    async with headless(app, (160, 50)) as pilot:
        text = "\n".join(await see(pilot, "s", "o", "o", "o"))
        for formula in (
            "z = sigmoid(x Wz + h_prev Uz + bz)", "y_hat = softmax(o)", "term2 = sum term1 over", "dh = do Wy.T + dh_future",
            "h_tilde = tanh(x Wh", "Wz Wr Wh Uz ~ by -= learning_rate*d~",
        ):  # fmt: skip
            assert formula in text
