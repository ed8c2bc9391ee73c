"""A zoomed panel shows all of its contents and scrolls both ways; the answer of a command is shown beside it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tui.test_answers import SIZES, seen
from tests.tui.test_main_screen import Driver, driving
from tests.tui.test_stopping import command
from tui_gru.engine import numbers
from tui_gru.tui.panel import Panel
from tui_gru.tui.panels.line import CurrentLine
from tui_gru.tui.panels.listing import Listing, Log, Watches
from tui_gru.tui.panels.lists import ArrayList
from tui_gru.tui.panels.sequence import Sequence
from tui_gru.tui.panels.time import TimeLine
from tui_gru.tui.panels.values import LossTerms, Softmax
from tui_gru.tui.panels.weights import Overview
from tui_gru.tui.session_screen import LOW

LARGE = {"text": "the quick brown fox jumps over the lazy dog. " * 90, "hidden_size": 12, "batch_size": 16, "seq_length": 48}


async def zoomed(d: Driver, kind: type[Panel]) -> Panel:
    panel = d.screen.query_one(kind)
    while not panel.region:
        await d.type("v")
    d.screen.set_focus(panel)
    await d.type("z")
    await d.pilot.pause()
    await d.pilot.pause()  # its size is known, then that of its contents
    assert d.screen.maximized is panel
    assert panel.region.width == d.pilot.app.size.width
    below = 1 if d.pilot.app.size.height < LOW else 2
    assert panel.region.height == d.pilot.app.size.height - 1 - below  # the header, the answer and the keys
    return panel


def reaches_its_end(panel: Panel) -> bool:
    """Return True if its last row and column can be scrolled to."""
    width, height = max(strip.cell_length for strip in panel.drawn), len(panel.drawn)
    panel.scroll_to(10**6, 10**6, animate=False, immediate=True, force=True)
    room = panel.scrollable_content_region
    return panel.scroll_offset.x + room.width >= width and panel.scroll_offset.y + room.height >= height


@pytest.mark.parametrize("focused", [False, True])
async def test_an_overlay_ends_the_zoom_that_would_hide_it(focused: bool) -> None:
    async with driving((100, 30)) as d:
        await d.type("n", *(["tab"] if focused else []), "z")
        assert d.screen.maximized is not None
        await d.type(":arrays")
        assert isinstance(d.screen.overlay, ArrayList)
        assert d.screen.maximized is None
        assert d.screen.overlay.region.height > 10
        assert d.screen.focused is d.screen.overlay


async def test_a_panel_that_cannot_be_zoomed_says_so() -> None:
    async with driving((80, 24)) as d:
        d.screen.set_focus(d.screen.query_one(TimeLine))
        await d.type("z")
        assert d.screen.maximized is None
        assert d.says == "this panel cannot be zoomed; tab goes to the next one"


@pytest.mark.parametrize("size", SIZES)
async def test_the_whole_batch_with_its_loss_and_predictions_is_in_zoomed_panels(size: tuple[int, int]) -> None:
    async with driving(size, **LARGE) as d:
        await d.type("40s")
        panel = await zoomed(d, Sequence)
        text = panel.plain_text()
        assert all(f"row {row + 1} " in text for row in range(16))
        assert all(f" t {t + 1}" in text for t in range(48))
        for t in range(40):
            y_hat, targets = d.screen.snapshot.value("y_hat", t), d.screen.snapshot.record.ids("y")[t]
            assert all(numbers.unit(p) in text for p in y_hat[np.arange(16), targets])
        assert "▐" in panel.render_line(1).text  # the current timestep is in view
        await d.type("3s")
        await d.pilot.pause()
        assert "▐" in panel.render_line(1).text
        assert reaches_its_end(panel)
        await d.type("z", "5s")
        panel = await zoomed(d, LossTerms)
        text = panel.plain_text()
        assert all(numbers.plain(d.screen.snapshot.value("term3", t)) in text for t in range(48))
        assert all(numbers.plain(-x) in text for t in range(48) for x in d.screen.snapshot.value("term2", t))
        assert reaches_its_end(panel)
        await d.type("z")
        panel = await zoomed(d, Softmax)
        text = panel.plain_text()
        assert all(numbers.unit(p) in text for p in np.ravel(d.session.value("y_hat")))
        assert reaches_its_end(panel)


async def test_the_flow_of_the_gradient_has_a_row_for_every_timestep() -> None:
    async with driving((120, 36), **LARGE) as d:
        d.session.learning = True
        await d.type("n", "20S")
        panel = await zoomed(d, Sequence)
        lines = panel.plain_text().splitlines()
        assert sum(line.startswith("t ") for line in lines) == 48
        assert reaches_its_end(panel)


@pytest.mark.parametrize("size", SIZES)
async def test_a_zoomed_line_is_written_with_all_its_numbers(size: tuple[int, int]) -> None:
    async with driving(size, **LARGE) as d:
        d.session.learning = True
        for line, written in {"h_tilde": ("Wh", "Uh", "h_tilde"), "loss": (), "dWy": ("dWy",)}.items():
            d.session.run_to(line)
            d.screen.show_now()
            panel = await zoomed(d, CurrentLine)
            text = panel.plain_text()
            assert "⋯" not in text, line
            assert "⋮" not in text, line
            for name in written:
                assert all(numbers.wide(x).strip() in text for x in np.ravel(d.session.value(name))), name
            assert reaches_its_end(panel), line
            await d.type("z")
            assert d.screen.maximized is None


async def test_of_a_very_large_line_as_much_is_shown_as_can_be_drawn_in_time() -> None:
    async with driving(**{**LARGE, "hidden_size": 150}) as d:
        await d.type("o", "o", "o")
        panel = await zoomed(d, CurrentLine)
        assert "150×150" in panel.plain_text()
        assert reaches_its_end(panel)


@pytest.mark.parametrize("size", SIZES)
async def test_no_watch_and_no_log_line_of_a_zoomed_panel_is_cut(size: tuple[int, int]) -> None:
    async with driving(size, hidden_size=8, text="the quick brown fox " * 9) as d:
        await command(d, "watch h * 1 + h * 0 + h * 0 + h * 0 - 0")
        await command(d, "break h log {h} {z} {r} {loss} {h}")
        await d.type("2s")
        await d.pilot.pause()
        panel = await zoomed(d, Watches)
        text = panel.plain_text()
        assert "watch h * 1 + h * 0 + h * 0 + h * 0 - 0".removeprefix("watch ") in text
        assert all(numbers.compact(x) in text for x in np.ravel(d.session.value("h")))
        assert reaches_its_end(panel)
        await d.type("z")
        panel = await zoomed(d, Log)
        assert all(line.text in panel.plain_text() for line in d.session.snapshot().log)
        assert reaches_its_end(panel)


@pytest.mark.parametrize("size", SIZES)
async def test_zoomed_panels_of_a_small_model(size: tuple[int, int]) -> None:
    async with driving(size) as d:
        await answers_and_the_command_line_are_seen(d)
        await d.type("s")
        text = (await zoomed(d, Listing)).plain_text()
        assert all(row.text in text for row in d.session.program.rows)  # no line is cut
        await d.type("z", "a")
        panel = await zoomed(d, Overview)
        text = panel.plain_text()
        assert all(sign in text for sign in ("dWz", "ΔWz"))  # gradients and changes beside the weights
        assert reaches_its_end(panel)


async def answers_and_the_command_line_are_seen(d: Driver) -> None:
    """Type a command while the current line is zoomed."""
    await d.type("z")
    assert d.screen.maximized is d.screen.query_one(CurrentLine)
    assert d.screen.focused is d.screen.maximized
    await command(d, "go e5")
    assert seen(d) == "at the end of epoch 4: epoch 5 begins with the next line"
    height = d.pilot.app.size.height
    assert d.screen.query_one("BottomLine").region.bottom == height
    await d.type(":")
    assert d.screen.query_one("CommandLine").region.bottom == height
    await d.type("escape", "escape")
    assert d.screen.maximized is None
    assert d.screen.focused is None
