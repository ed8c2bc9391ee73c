"""Derivations of every kind, as pictures and as texts, on every screen size and in ASCII."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tui.pressing import press
from tui_gru.engine.config import Config
from tui_gru.tui.app import TuiGruApp, make_app
from tui_gru.tui.theme import ASCII

DERIVATIONS = {
    "state": ("l n s o o o o enter",),
    "softmax": ("2s", ":why y_hat[1,2]"),
    "gradient": ("l n", ":why dWy[0,1]", "> right"),
    "delta": ("l n", ":why dh[0,0] t 1"),
    "what-if": ("l s", ":what-if Wh[3,1] 2"),
}


WIDE, NARROW, TINY = (160, 50), (80, 24), (40, 12)
PICTURES = {"state": WIDE, "gradient": NARROW, "what-if": TINY}
TEXTS = [
    *((name, size, "unicode") for name in DERIVATIONS for size in (WIDE, NARROW, TINY) if PICTURES.get(name) != size),
    *((name, (120, 36), "ascii") for name in ("state", "what-if")),
]


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(snap_compare: Any, name: str) -> None:
    assert snap_compare(opened(), terminal_size=PICTURES[name], run_before=lambda pilot: press(pilot, *DERIVATIONS[name]))


@pytest.mark.parametrize(("name", "size", "glyphs"), TEXTS, ids=lambda each: each if isinstance(each, str) else str(each[0]))
def test_texts(snap_text: Any, name: str, size: tuple[int, int], glyphs: str) -> None:
    app = opened()
    if glyphs == "ascii":
        app.glyphs = ASCII
    snap_text(app, terminal_size=size, run_before=lambda pilot: press(pilot, *DERIVATIONS[name]))


def opened() -> TuiGruApp:
    return make_app(Config.of(dtype="float64"))  # in float32, the last digits shown depend on the processor
