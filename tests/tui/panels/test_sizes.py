"""Every panel at every size, for models of every kind: no errors, and nothing wider than its panel."""

import pytest
from textual.containers import Horizontal

from tui_gru.tui.headless import headless
from tui_gru.tui.panel import Panel, View
from tui_gru.tui.panels.sequence import Samples
from tui_gru.tui.panels.time import LossCurve
from tui_gru.tui.panels.values import Gates, Softmax
from tui_gru.tui.panels.weights import Overview, WeightsPanel
from tui_gru.tui.theme import ASCII, UNICODE

MOMENTS = ("start", "computed", "sgd", "backward", "in update", "after", "tiny", "large", "broken")
SIZES = [(156, 48), (110, 9), (74, 9), (36, 10), (34, 5), (21, 3), (12, 2), (6, 1), (6, 0), (0, 0)]


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=lambda glyphs: glyphs.name)
@pytest.mark.parametrize("name", MOMENTS)
def test_no_content_is_wider_than_its_panel(content, moment, name, glyphs):
    snapshot, view = moment(name, samples=name not in ("start", "broken")), View(row=0 if name == "after" else None)
    panels = [(panel, ("",)) for panel in (Softmax(), LossCurve(), Samples())]
    if name != "large":  # its parameters are shown one at a time, as matrices
        panels.append((Overview(), ("all", "weights", "changes")))
    for panel, modes in panels:
        for mode in modes:
            panel.mode = mode
            for width, height in SIZES:
                strips = content(panel, snapshot, width, height, view, glyphs=glyphs).box.strips
                assert max((strip.cell_length for strip in strips), default=0) <= width


@pytest.mark.parametrize("name", ["backward", "large"])
async def test_a_whole_page_at_every_size(board, moment, name):
    gates, weights, others = Gates(moment(name).program), WeightsPanel(), (Softmax(), LossCurve(), Samples())
    page = board(gates, Horizontal(*others), weights)
    async with headless(page, (160, 50)) as pilot:
        for size in [(160, 50), (80, 24), (40, 12), (20, 6), (10, 2)]:
            await pilot.resize_terminal(*size)
            for panel in (gates, weights, *others):
                panel.show(moment(name, samples=True), View())
            await pilot.pause()
            for panel in page.query(Panel):
                width, height = panel.scrollable_content_region.size
                assert {panel.render_line(y).cell_length for y in range(height)} <= {width}
