"""A stop on a condition, as the whole screen shows it."""

import pytest

from tui_gru.engine.config import Config
from tui_gru.tui.app import make_app
from tui_gru.tui.command import execute
from tui_gru.tui.headless import until_idle

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


@pytest.mark.parametrize(
    ("size", "keys"),
    [((160, 50), ()), ((80, 24), ()), ((80, 24), ("v", "v", "v")), ((160, 50), ("B",)), ((80, 24), ("B",))],
    ids=["wide", "narrow", "narrow-its-page", "wide-list", "narrow-list"],
)
def test_a_stop_on_a_condition(snap_compare, size, keys):
    app = make_app(Config.of())

    async def stop(pilot):
        for typed in TYPED:
            execute(app.screen, typed)
            await until_idle(pilot)
            await pilot.pause()
        await pilot.press(*keys)
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=stop)
