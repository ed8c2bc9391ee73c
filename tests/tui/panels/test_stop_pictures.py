"""Pictures of the panels for breakpoints, watches and logs."""

from dataclasses import replace

import numpy as np
import pytest
from textual.containers import Horizontal, Vertical

from tests.tui.panels.sessions import at, start, with_state
from tui_gru.debugger.state import Mark
from tui_gru.debugger.stops import Breakpoint, LogLine, Stops, Watch, Watched
from tui_gru.tui.panel import View
from tui_gru.tui.panels.listing import Listing, Log, Watches
from tui_gru.tui.panels.lists import StopsList
from tui_gru.tui.theme import ASCII, UNICODE

BREAKPOINTS = (
    Breakpoint(1, "z"),
    Breakpoint(2, "r", enabled=False),
    Breakpoint(3, "h", condition="any(h > 0.9)", hits=">3"),
    Breakpoint(4, "loss", log="loss {loss:.3f}, {prev(loss):.3f} before"),
    Breakpoint(9, "", condition="isnan(loss)", enabled=False),
)
WATCHES = (
    Watch(5, "loss"),
    Watch(6, "h"),
    Watch(7, "max(abs(dh_prev))", stops=True),
    Watch(8, "h + x"),
    Watch(10, "t", enabled=False),
)
BEFORE, AFTER = np.array([[0.4574, -0.35], [0.1361, 0.4827]]), np.array([[0.9519, -0.987], [0.1361, -0.0942]])
ERROR = "column 1: h + x combines the shapes (2, 2) and (2, 4), which do not fit"


def stopped(snapshot):
    """A snapshot with stops of all kinds, their watched values and logs, and marks."""
    loss, h, most, uneven, off = WATCHES
    watched = (Watched(loss), Watched(h, AFTER, BEFORE), Watched(most, 0.0312, 0.0298), Watched(uneven, error=ERROR), Watched(off))
    ticks = [at("loss", batch=batch).position.tick for batch in range(4)]
    log = tuple(LogLine(tick, 4, f"loss 1.{i}00, 1.{i}50 before") for i, tick in enumerate(ticks))
    marks = (Mark("a", "main", ticks[0]), Mark("N", "main~1", 0))
    return replace(with_state(snapshot, stops=Stops(BREAKPOINTS, WATCHES, 10), log=log, marks=marks), watched=watched)


def scene(panels, snapshot, width, *, theme="blackboard", glyphs=UNICODE):
    def make(board):
        class Scene(board):
            CSS = board.CSS + (
                f"Listing {{ width: {width}; height: 16; }} Vertical {{ width: {width}; height: 16; }}"
                f"Watches, Log {{ width: {width}; height: auto; max-height: 8; }}"
            )

        app = Scene(*panels(), theme=theme, glyphs=glyphs)

        def prepare():
            for panel in app.query("Listing, Watches, Log, StopsList"):
                panel.show(snapshot, View())

        app.prepare = prepare
        return app

    return make


def beside():
    return (Horizontal(Listing(), Vertical(Watches(), Log())),)


def the_list():
    return (StopsList(at=3),)


PICTURES = {
    "panels": scene(beside, stopped(at("h", 1, batch=2)), 48),
    "panels-narrow": scene(beside, stopped(at("h", 1, batch=2)), 30),
    "panels-whiteboard": scene(beside, stopped(at("h", 1, batch=2)), 48, theme="whiteboard"),
    "panels-ansi": scene(beside, stopped(at("loss", batch=2)), 48, theme="ansi-dark"),
    "panels-ascii": scene(beside, stopped(at("h", 1, batch=2)), 48, glyphs=ASCII),
    "list": scene(the_list, stopped(at("h", 1, batch=2)), 48),
    "list-whiteboard": scene(the_list, stopped(at("h", 1, batch=2)), 48, theme="whiteboard"),
    "list-ascii": scene(the_list, stopped(at("h", 1, batch=2)), 48, glyphs=ASCII),
    "list-empty": scene(the_list, start(), 48),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(snap_compare, board, name):
    assert snap_compare(PICTURES[name](board), terminal_size=(100, 20))


def test_a_small_list(snap_compare, board):
    assert snap_compare(PICTURES["list"](board), terminal_size=(40, 12))
