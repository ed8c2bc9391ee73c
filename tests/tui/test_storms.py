"""The same keys give the same position for every screen size and text, also while the screen is resized."""

from __future__ import annotations

import asyncio
import math
import random
from contextlib import nullcontext

import pytest
from textual import events

from tests.extent import spread
from tests.tui.test_main_screen import driving
from tui_gru.tui import app as keyboard
from tui_gru.tui import running as runner
from tui_gru.tui.headless import until_idle
from tui_gru.tui.panel import Panel
from tui_gru.tui.terminal import drawn_once
from tui_gru.tui.theme import ASCII, UNICODE

KEYS = """
    s o n a l right left up down enter escape B J tab z x v r i escape k O S N u U p equals_sign question_mark escape m a
    apostrophe a b escape w h enter y home end pagedown
""".split()  # noqa: SIM905
SIZES = ((1, 1), (300, 80), (40, 12), (3, 50), (200, 2), (80, 24))


async def stormed(size: tuple[int, int], text: str, *, ascii_: bool, theme: str, drawn: bool, keys: int, seed: int = 1) -> int:
    """Return the tick after keys that are typed faster than they can be handled, while the window changes its size four times.

    If not `drawn`, the screen is drawn only at the end.
    """
    async with driving(size, text=text) as d:
        app = d.pilot.app
        app.glyphs, app.theme = (ASCII if ascii_ else UNICODE), theme  # type: ignore[attr-defined]
        chance = random.Random(seed)
        with nullcontext() if drawn else drawn_once(app):
            for n in range(keys):
                key = chance.choice(KEYS)
                app.post_message(events.Key(key, key if len(key) == 1 else None))
                if n % (keys // 4) == keys // 8:
                    await d.pilot.resize_terminal(*SIZES[n // (keys // 4)])
            for _ in range(3):
                app.post_message(events.Key("escape", "\x1b"))
            async with asyncio.timeout(60):
                await until_idle(d.pilot)
            await d.pilot.resize_terminal(*size)
        await d.pilot.pause()
        for panel in d.screen.query(Panel):
            room = panel.scrollable_content_region if panel.region else panel.region
            for y in range(room.height):
                strip = panel.render_line(y)
                assert strip.cell_length == room.width
                assert strip.text.isascii() or not ascii_
        return d.session.position.tick


TEXTS = {
    "plain": "MathMathMathMathMath",
    "wide": "日本語[b]日本語テキスト日本語日本",
    "combining": "e\u0301a\u0303e\u0301o\u0308e\u0301a\u0303xe\u0301",
    "right-to-left": "שלום עולם שלום עולם",
    "markup": "[red]x[/red][bold]\\[y]{z}",
    "control": "a\nb\tc d\re\x07f\u202eabc",
}


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the tests independent of the speed of the machine: `esc` stops no step, and no key counts as held too long."""
    monkeypatch.setattr(runner, "AT_ONCE", math.inf)
    monkeypatch.setattr(keyboard, "LAG", math.inf)
    monkeypatch.setattr(keyboard, "PATIENCE", 10.0)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("name", spread(list(TEXTS), 3))
async def test_the_same_keys_lead_to_the_same_place(name: str) -> None:
    text, odd = TEXTS[name], list(TEXTS).index(name) % 2 == 1
    theme = "whiteboard" if odd else "blackboard"
    sizes = ((80, 24), (40, 12)) if odd else ((40, 12), (80, 24))
    ticks = {await stormed(size, text, ascii_=odd, theme=theme, drawn=size == sizes[0], keys=40) for size in sizes}
    assert len(ticks) == 1
