"""All value panels on one page, as pictures and as texts, at important moments."""

import pytest
from textual.containers import Horizontal

from tui_gru.tui.panel import View
from tui_gru.tui.panels.sequence import Samples
from tui_gru.tui.panels.time import Header, LossCurve
from tui_gru.tui.panels.values import Gates, Softmax
from tui_gru.tui.panels.weights import WeightsPanel
from tui_gru.tui.theme import ASCII, UNICODE


@pytest.fixture
def page(board):
    class Page(board):
        CSS = """
        Screen { background: $background; }
        Gates { height: 5; }
        .-narrow ValueMatrix { padding: 0; }
        Horizontal { height: 1fr; }
        Horizontal > * { width: 1fr; height: 1fr; }
        WeightsPanel { width: 2fr; }
        """

        def __init__(self, snapshot, view, **options):
            self.panels = Header(), Gates(snapshot.program), Softmax(), LossCurve(), WeightsPanel(), Samples()
            top, gates, *others = self.panels
            super().__init__(top, gates, Horizontal(*others[:2]), Horizontal(*others[2:]), **options)
            self.snapshot, self.view = snapshot, view

        def on_mount(self):
            self.screen.set_class(self.size.width < 100, "-narrow")
            for panel in self.panels:
                panel.show(self.snapshot, self.view)

    return Page


def showing(page, moment, name, row=None, **options):
    return page(moment(name, name in ("sgd", "backward", "past", "large")), View(row), **options)


@pytest.mark.parametrize(
    ("name", "size", "theme"),
    [
        pytest.param("sgd", (150, 32), "blackboard", id="sgd"),
        pytest.param("past", (80, 24), "ansi-dark", id="past-80-ansi"),
    ],
)
def test_pictures(snap_compare, page, moment, name, size, theme):
    assert snap_compare(showing(page, moment, name, theme=theme), terminal_size=size)


@pytest.mark.parametrize(
    ("name", "size", "row", "theme", "glyphs"),
    [
        pytest.param("start", (150, 32), None, "blackboard", UNICODE, id="start"),
        pytest.param("computed", (150, 32), 1, "blackboard", UNICODE, id="computed"),
        pytest.param("loss", (150, 32), None, "whiteboard", UNICODE, id="loss-whiteboard"),
        pytest.param("backward", (240, 32), None, "blackboard", UNICODE, id="backward"),
        pytest.param("predicted", (80, 24), None, "blackboard", ASCII, id="predicted-80-ascii"),
        pytest.param("large", (150, 32), None, "blackboard", UNICODE, id="large"),
        pytest.param("large", (80, 24), None, "whiteboard", UNICODE, id="large-80"),
        pytest.param("broken", (150, 32), None, "blackboard", UNICODE, id="broken"),
    ],
)
def test_texts(snap_text, page, moment, name, size, row, theme, glyphs):
    snap_text(showing(page, moment, name, row, theme=theme, glyphs=glyphs), terminal_size=size)
