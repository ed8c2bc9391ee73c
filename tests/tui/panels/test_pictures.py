"""The four main panels: pictures of them together, and the text of each."""

import pytest
from textual.containers import Horizontal, Vertical

from tests.tui.panels.sessions import at, large, start, with_state
from tui_gru.debugger.stops import Breakpoint, Stops
from tui_gru.tui.panel import View
from tui_gru.tui.panels.line import CurrentLine
from tui_gru.tui.panels.listing import Listing
from tui_gru.tui.panels.sequence import Sequence
from tui_gru.tui.panels.values import LossTerms
from tui_gru.tui.theme import ASCII

STYLES = """
Listing { width: 48; height: 36; }
Sequence, LossTerms { width: 1fr; height: 9; }
CurrentLine { height: 12; }
"""
STOPS = Stops((Breakpoint(1, "r"),))


def scene(snapshot, row=None, *, theme="blackboard"):
    def make(board):
        panels = listing, sequence, terms, line = Listing(), Sequence(), LossTerms(), CurrentLine()

        class Scene(board):
            CSS = board.CSS + STYLES

        app = Scene(Horizontal(listing, Vertical(Horizontal(sequence, terms), line)), theme=theme)

        def prepare():
            for panel in panels:
                panel.show(with_state(snapshot, stops=STOPS), View(row))

        app.prepare = prepare
        return app

    return make


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(scene(at("h_tilde", 1, learning=False), 0), id="candidate"),
        pytest.param(scene(at("h_tilde", 1, learning=False), theme="whiteboard"), id="whiteboard"),
        pytest.param(scene(at("z", 1), theme="ansi-dark"), id="ansi"),
    ],
)
def test_pictures(snap_compare, board, make):
    assert snap_compare(make(board), terminal_size=(164, 36))


TEXTS = {
    "start": (start(), None, {}),
    "term-1": (at("term1", 1, batch=1, learning=False), None, {}),
    "loss": (at("loss", learning=False), None, {}),
    "backward": (at("dh_prev", 1), 1, {}),
    "gradient": (at("dWh", 1), None, {}),
    "update": (at("Wh"), None, {}),
    "notebook": (at("earlier", batch=1, carry="notebook"), None, {}),
    "large": (at("h_tilde", 4, batch=1, make=large), 2, {}),
    "large-term-1": (at("term1", 4, batch=1, make=large), 2, {}),
    "ascii": (at("h_tilde", 1, batch=1, make=large), None, {"glyphs": ASCII}),
    "candidate-small": (at("h_tilde", 1, learning=False), None, {}),
    "backward-small": (at("dh_prev", 1), 1, {}),
    "large-small": (at("h_tilde", 4, batch=1, make=large), 2, {}),
}
#: The inner sizes of the panels on a large screen and on a small one.
SIZES = {
    Listing: ((44, 34), (36, 10)),
    Sequence: ((54, 7), (36, 4)),
    LossTerms: ((54, 7), (36, 4)),
    CurrentLine: ((112, 10), (76, 10)),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts(content, snapshot, name):
    moment, row, options = TEXTS[name]
    stopped = with_state(moment, stops=STOPS)
    for panel, sizes in SIZES.items():
        assert content(panel(), stopped, *sizes[name.endswith("small")], View(row), **options).described() == snapshot
