"""A stop on a condition, as the whole screen shows it."""

import pytest

from tui_gru.engine.config import Config
from tui_gru.tui.app import make_app
from tui_gru.tui.headless import until_idle
from tui_gru.tui.keys import execute

TYPED = (
    "learning on",
    "break h if any(h > 0.95) hits >4",
    "break loss log loss {loss:.4f}, {prev(loss):.4f} before",
    "watch h",
    "watch max(abs(h)) > 0.95",
    "watch loss",
    "mark a",
    "continue",
)


async def stop(pilot):
    for typed in TYPED:
        execute(pilot.app.screen, typed)
        await until_idle(pilot)
        await pilot.pause()


@pytest.mark.parametrize(
    ("size", "keys"), [((160, 50), ()), ((80, 24), ()), ((160, 50), ("B",))], ids=["wide", "narrow", "wide-list"]
)
def test_a_stop_on_a_condition(snap_compare, size, keys):
    assert snap_compare(make_app(Config.of()), keys, size, run_before=stop)


@pytest.mark.parametrize("keys", [(), ("B",)], ids=["its-page", "list"])  # a watch has turned to its page
def test_on_a_narrow_screen(snap_text, keys):
    snap_text(make_app(Config.of()), keys, (80, 24), run_before=stop)
