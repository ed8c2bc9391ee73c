"""Panels that declare what they read: they are built again if that has changed, and only then; a new one is a class and a row."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tui.test_main_screen import Driver, driving
from tui_gru.session.snapshot import Snapshot
from tui_gru.tui import layout as pages
from tui_gru.tui import layout as panel_host
from tui_gru.tui.draw import Box, text_box
from tui_gru.tui.headless import until_idle
from tui_gru.tui.keys import execute
from tui_gru.tui.matrix import MatrixView
from tui_gru.tui.panel import SnapshotPanel, Titles
from tui_gru.tui.panels.sequence import Samples
from tui_gru.tui.panels.time import LossCurve
from tui_gru.tui.panels.values import LossTerms, Softmax
from tui_gru.tui.panels.weights import Overview


class Ticks(SnapshotPanel):
    ABOUT = "The number of lines executed so far."

    def titles(self, snapshot: Snapshot) -> Titles:
        return Titles("ticks")

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        return text_box(self.palette, f"{snapshot.position.tick} ticks")


@pytest.fixture
def with_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    places = (*pages.PLACES, pages.PanelSlot(Ticks, "bottom", "ticks", small="4", normal="p 3", wide="2"))
    for module in (pages, panel_host):
        monkeypatch.setattr(module, "PLACES", places)


@pytest.mark.usefixtures("with_ticks")
async def test_a_new_panel_is_a_class_and_a_row() -> None:
    async with driving((160, 50)) as d:
        await d.type("o", "o", "o")
        panel = d.screen.query_one(Ticks)
        assert panel.region
        assert panel.drawn[0].text == "3 ticks"
        assert panel.heading == "ticks"
    async with driving((80, 24)) as d:
        shown = []
        for page in d.screen.panels.on_pages:
            shown.append(bool(d.screen.query_one(Ticks).region))
            assert shown[-1] is ("ticks" in page)
            await d.type("v")
        assert shown == [False, False, True]


async def test_what_has_not_changed_is_not_built_again() -> None:
    async with driving((160, 50)) as d:
        await d.type("n", "s", "o")
        panels = [d.screen.query_one(kind) for kind in (Samples, LossCurve, Overview, LossTerms, Softmax)]
        for key, built in {"o": [Overview], "s": [Overview, LossTerms, Softmax]}.items():
            before = [panel.drawn for panel in panels]
            await d.type(key)
            after = [panel.drawn for panel in panels]
            assert [type(p) for p, b, a in zip(panels, before, after, strict=True) if b is not a] == built, key


def rows_of(d: Driver) -> dict[str, Any]:
    """Return what the panels show, and whether a value has just been computed."""
    panels = [*d.screen.query(SnapshotPanel), *d.screen.query(MatrixView)]
    return {
        f"{type(panel).__name__} {number}": ([list(row) for row in panel.drawn], panel.border_title, panel.fresh)
        for number, panel in enumerate(panels)
        if panel.region
    }


WALK = (
    "o o o s o n l o s p o b x r o o s R n x x B O O S S r o o b :sample_Ma :set_Wz[0,1]_0.5 o o u :set_h[0,1]_0.5 s b "
    ":compare_main o s b = o s = o :watch_loss :break_loss_log_{loss} n s :set_text[2]_a s o"
)
MODELS: list[dict[str, Any]] = [
    {},
    {"layers": 2, "bidirectional": True},
    {"text": "the cat sat on the mat. " * 3, "hidden_size": 12, "batch_size": 3, "seq_length": 5, "optimizer": "adam"},
    {"carry": "notebook"},
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: " ".join(model) or "tutorial")
async def test_what_is_shown_is_what_would_be_built(model: dict[str, Any]) -> None:
    """What panels say that they read is all that they read."""
    async with driving((160, 50), **model) as d:
        for key in WALK.split():
            if key.startswith(":"):
                execute(d.screen, key[1:].replace("_", " "))
                await until_idle(d.pilot)
                await d.pilot.pause()
            else:
                await d.type(key)
            shown = rows_of(d)
            for panel in (*d.screen.query(SnapshotPanel), *d.screen.query(MatrixView)):
                panel.refresh_content()
            for panel in d.screen.query(SnapshotPanel):
                panel.caption()
                panel.fresh = panel.is_fresh(d.screen.panels.seen_by(panel))
            assert rows_of(d) == shown, key
