"""Pictures of derivations of every kind, on every screen size and in ASCII."""

from __future__ import annotations

from typing import Any

import pytest
from textual.pilot import Pilot

from tests.screenshots import typed
from tui_gru.engine.config import Config
from tui_gru.tui.app import make_app
from tui_gru.tui.look.glyphs import ASCII
from tui_gru.tui.screenshot import type_keys

DERIVATIONS = {
    "state": "l n s o o o o enter",
    "softmax": f"2s {typed('why y_hat[1,2]')}",
    "gradient": f"l n {typed('why dWy[0,1]')} > right",
    "delta": f"l n {typed('why dh[0,0] t 1')}",
    "what-if": f"l s {typed('what-if Wh[3,1] 2')}",
}


@pytest.mark.parametrize("size", [(160, 50), (80, 24), (40, 12)], ids=["wide", "narrow", "tiny"])
@pytest.mark.parametrize("name", DERIVATIONS)
def test_pictures(snap_compare: Any, name: str, size: tuple[int, int]) -> None:
    assert _pictured(snap_compare, name, size)


@pytest.mark.parametrize("name", ["state", "what-if"])
def test_ascii_pictures(snap_compare: Any, name: str) -> None:
    assert _pictured(snap_compare, name, (120, 36), ascii_only=True)


def _pictured(snap_compare: Any, name: str, size: tuple[int, int], *, ascii_only: bool = False) -> bool:
    app = make_app(Config.of())
    if ascii_only:
        app.glyphs = ASCII

    async def press(pilot: Pilot[None]) -> None:
        await type_keys(pilot, DERIVATIONS[name].split())

    return bool(snap_compare(app, terminal_size=size, run_before=press))
