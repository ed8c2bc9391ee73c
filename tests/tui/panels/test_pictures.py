"""Pictures of the four main panels together."""

import pytest
from textual.containers import Horizontal, Vertical

from tests.tui.panels.sessions import at, large, start, with_state
from tui_gru.debugger.stops import Breakpoint, Stops
from tui_gru.tui.panel import View
from tui_gru.tui.panels.line import CurrentLine
from tui_gru.tui.panels.listing import Listing
from tui_gru.tui.panels.sequence import Sequence
from tui_gru.tui.panels.values import LossTerms
from tui_gru.tui.theme import ASCII, UNICODE

STYLES = """
Listing { width: 48; height: 36; }
Sequence, LossTerms { width: 1fr; height: 9; }
CurrentLine { height: 12; }
"""
SMALL = """
Listing { width: 40; height: 12; }
Vertical { height: 12; }
Sequence, LossTerms { width: 1fr; height: 6; }
CurrentLine { height: 12; }
"""


def scene(snapshot, row=None, *, small=False, theme="blackboard", glyphs=UNICODE):
    def make(board):
        listing, sequence, terms, line = Listing(), Sequence(), LossTerms(), CurrentLine()
        if small:
            content = (Horizontal(listing, Vertical(sequence, terms)), line)
        else:
            content = (Horizontal(listing, Vertical(Horizontal(sequence, terms), line)),)

        class Scene(board):
            CSS = board.CSS + (SMALL if small else STYLES)

        app = Scene(*content, theme=theme, glyphs=glyphs)

        def prepare():
            stopped = with_state(snapshot, stops=Stops((Breakpoint(1, "r"),)))
            for panel in (listing, sequence, terms, line):
                panel.show(stopped, View(row))

        app.prepare = prepare
        return app

    return make


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(scene(start()), id="start"),
        pytest.param(scene(at("h_tilde", 1, learning=False), 0), id="candidate"),
        pytest.param(scene(at("term1", 1, batch=1, learning=False)), id="term-1"),
        pytest.param(scene(at("loss", learning=False)), id="loss"),
        pytest.param(scene(at("dh_prev", 1), 1), id="backward"),
        pytest.param(scene(at("dWh", 1)), id="gradient"),
        pytest.param(scene(at("Wh")), id="update"),
        pytest.param(scene(at("earlier", batch=1, carry="notebook")), id="notebook"),
        pytest.param(scene(at("h_tilde", 4, batch=1, make=large), 2), id="large"),
        pytest.param(scene(at("term1", 4, batch=1, make=large), 2), id="large-term-1"),
        pytest.param(scene(at("h_tilde", 1, learning=False), theme="whiteboard"), id="whiteboard"),
        pytest.param(scene(at("z", 1), theme="ansi-dark"), id="ansi"),
        pytest.param(scene(at("h_tilde", 1, batch=1, make=large), glyphs=ASCII), id="ascii"),
    ],
)
def test_pictures(snap_compare, board, make):
    assert snap_compare(make(board), terminal_size=(164, 36))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(scene(at("h_tilde", 1, learning=False), small=True), id="candidate"),
        pytest.param(scene(at("dh_prev", 1), 1, small=True), id="backward"),
        pytest.param(scene(at("h_tilde", 4, batch=1, make=large), small=True), id="large"),
    ],
)
def test_small_pictures(snap_compare, board, make):
    assert snap_compare(make(board), terminal_size=(80, 24))
