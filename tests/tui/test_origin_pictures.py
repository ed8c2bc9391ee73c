"""Pictures of derivations of every kind, on every screen size and in ASCII."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tui.pressing import press
from tui_gru.engine.config import Config
from tui_gru.tui.app import make_app
from tui_gru.tui.theme import ASCII

DERIVATIONS = {
    "state": ("l n s o o o o enter",),
    "softmax": ("2s", ":why y_hat[1,2]"),
    "gradient": ("l n", ":why dWy[0,1]", "> right"),
    "delta": ("l n", ":why dh[0,0] t 1"),
    "what-if": ("l s", ":what-if Wh[3,1] 2"),
}


@pytest.mark.parametrize("size", [(160, 50), (80, 24), (40, 12)], ids=["wide", "narrow", "tiny"])
@pytest.mark.parametrize("name", DERIVATIONS)
def test_pictures(snap_compare: Any, name: str, size: tuple[int, int]) -> None:
    assert _pictured(snap_compare, name, size)


@pytest.mark.parametrize("name", ["state", "what-if"])
def test_ascii_pictures(snap_compare: Any, name: str) -> None:
    assert _pictured(snap_compare, name, (120, 36), ascii_only=True)


def _pictured(snap_compare: Any, name: str, size: tuple[int, int], *, ascii_only: bool = False) -> bool:
    app = make_app(Config.of(dtype="float64"))  # in float32, the last digits shown depend on the processor
    if ascii_only:
        app.glyphs = ASCII
    return bool(snap_compare(app, terminal_size=size, run_before=lambda pilot: press(pilot, *DERIVATIONS[name])))
