"""What the panels draw for breakpoints, watches and logs."""

from dataclasses import replace

import numpy as np
import pytest

from tests.tui.panels.sessions import at, start, with_state
from tui_gru.debugger.state import Mark
from tui_gru.debugger.stops import Breakpoint, LogLine, Stops, Watch, Watched
from tui_gru.tui.panels.listing import Listing, Log, Watches
from tui_gru.tui.panels.lists import StopsList
from tui_gru.tui.theme import ASCII

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


def at_h():
    return stopped(at("h", 1, batch=2))


def at_loss():
    return stopped(at("loss", batch=2))


BESIDE = (Listing, Watches, Log)
PICTURES = {
    "panels": (BESIDE, at_h, (44, 14), {}),
    "panels-narrow": (BESIDE, at_h, (26, 14), {}),
    "panels-whiteboard": (BESIDE, at_h, (44, 14), {"theme": "whiteboard"}),
    "panels-ansi": (BESIDE, at_loss, (44, 14), {"theme": "ansi-dark"}),
    "panels-ascii": (BESIDE, at_h, (44, 14), {"glyphs": ASCII}),
    "list": ((StopsList,), at_h, (96, 18), {}),
    "list-whiteboard": ((StopsList,), at_h, (96, 18), {"theme": "whiteboard"}),
    "list-ascii": ((StopsList,), at_h, (96, 18), {"glyphs": ASCII}),
    "list-empty": ((StopsList,), start, (96, 18), {}),
    "list-small": ((StopsList,), at_h, (36, 10), {}),
}


@pytest.mark.parametrize("name", PICTURES)
def test_texts(content, snapshot, name):
    panels, moment, size, options = PICTURES[name]
    for panel in (make(at=3) if make is StopsList else make() for make in panels):
        assert content(panel, moment(), *size, **options).described() == snapshot
