from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from rich.style import Style

from tests.tui.panels.sessions import at, with_state
from tui_gru.debugger.stops import Stops, Watch, Watched
from tui_gru.tui.panel import View
from tui_gru.tui.panels.listing import Watches
from tui_gru.tui.theme import ASCII

LOSS, H = Watch(1, "loss", stops=True), Watch(2, "h")
MATRIX = np.array([[0.25, -0.5], [0.125, 1e-5]], np.float32)


SIZE = 44, 10


def watching(snapshot, *watched):
    return replace(with_state(snapshot, stops=Stops((), tuple(each.watch for each in watched))), watched=watched)


def lines_of(panel, count):
    return [panel.render_line(y).text.rstrip() for y in range(count)]


async def shown(pilot, panel, snapshot):
    panel.show(snapshot, View())
    await pilot.pause()
    await pilot.pause()
    return lines_of(panel, panel.content_size.height)


@pytest.fixture
def lines(content):
    """Return the rows of the panel as text."""
    return lambda snapshot: content(Watches(), snapshot, *SIZE).lines


@pytest.fixture
def panel():
    watches = Watches()
    watches.styles.width, watches.styles.height = 48, "auto"
    return watches


async def test_a_row_a_watch_and_one_that_stops_has_its_sign(board, panel):
    async with board(panel).run_test(size=(60, 12)) as pilot:
        moment = watching(at("h", 1), Watched(LOSS, None), Watched(H, MATRIX, MATRIX))
        assert await shown(pilot, panel, moment) == ["● loss  ·", "  h     [[+0.25 -0.50] [+0.12 +1e-5]]"]
        assert panel.size.height == 2
        off = replace(LOSS, enabled=False)
        assert await shown(pilot, panel, watching(at("h", 1), Watched(off), Watched(H, MATRIX, MATRIX))) == [
            "  h  [[+0.25 -0.50] [+0.12 +1e-5]]"
        ]


@pytest.mark.parametrize(
    ("value", "said"),
    [(1.2602, "+1.2602"), (3.0, "3"), (True, "true"), (False, "false"), ("\n", "⏎"), (float("nan"), "nan"), (1e30, "+1.0e30")],
)
def test_a_single_value(lines, value, said):
    assert lines(watching(at("loss"), Watched(LOSS, value, value))) == [f"● loss  {said}"]


def test_what_a_line_has_changed_is_shown_as_old_and_new_while_one_is_at_it(content, lines):
    panel, changed = Watches(), Watched(LOSS, 1.25, 1.5)
    drawn = content(panel, watching(at("loss"), changed), *SIZE)
    assert drawn.lines == ["● loss  +1.5000 → +1.2500"]
    styles = [segment.style.color for segment in drawn.box.rows[0] if segment.text.strip()]
    warning, accent, dim = (getattr(panel.palette, name).color for name in ("warning", "accent", "dim"))
    assert styles[:5] == [warning, accent, dim, dim, accent]
    assert lines(watching(at("dlogits", 2), changed)) == ["● loss  +1.2500"]
    assert lines(watching(at("loss"), replace(changed, before=None))) == ["● loss  +1.2500"]


def test_of_a_matrix_the_changed_elements_are_lit_where_the_old_ones_do_not_fit(content):
    before = MATRIX.copy()
    before[0, 1] = 0.75
    panel = Watches()
    drawn = content(panel, watching(at("h", 1), Watched(H, MATRIX, before)), *SIZE)
    assert drawn.lines == ["  h  [[+0.25 -0.50] [+0.12 +1e-5]]"]
    lit = [segment.text for segment in drawn.box.rows[0] if (segment.style or Style()).color == panel.palette.accent.color]
    assert lit[0] == "h"
    assert [text.strip() for text in lit[1:]] == ["-0.50"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.linspace(-1, 2, 60, dtype=np.float32).reshape(6, 10), "6×10, -1.00 … +2.00"),
        (np.array([np.nan] * 30 + [1.5]), "31, +1.50 … +1.50, 30 not finite"),
        (np.full((3, 9), np.inf), "3×9, none finite"),
        (np.zeros((5, 9), bool), "5×9, 0 true"),
        (np.array([[True, False], [False, False]]), "[[1 0] [0 0]]"),
        (np.array(["M", "h"]), "[M h]"),
        (np.zeros((0, 2)), "[]"),
        (np.float32(-0.0), "0"),
    ],
)
def test_an_array_that_does_not_fit_is_described(lines, value, said):
    assert lines(watching(at("h", 1), Watched(H, value, value))) == [f"  h  {said}"]


def test_an_error_is_said_and_cut_to_the_panel(lines):
    error = "column 12: h has 4 values; use any(...) or all(...)"
    assert lines(watching(at("h", 1), Watched(H, error=error))) == ["  h  h has 4 values; use any(...) or all(..…"]


def test_a_long_expression_leaves_room_for_its_value(lines):
    long = Watch(3, "max(abs(dh_prev)) / max(abs(dh)) + min(abs(dlogits))")
    first, second = lines(watching(at("h", 1), Watched(long, 0.5, 0.5), Watched(H, MATRIX, MATRIX)))
    assert first == "  max(abs(dh_prev)) / max(abs(dh))…  +0.5000"
    assert second == "  h      [[+0.25 -0.50] [+0.12 +1e-5]]".replace("h      ", "h" + " " * (44 - 2 - 1 - 29))


def test_in_ascii(content):
    value = np.linspace(-1, 2, 60).reshape(6, 10)
    moment = watching(at("loss"), Watched(LOSS, 1.25, 1.5), Watched(H, value, value))
    assert content(Watches(), moment, *SIZE, glyphs=ASCII).lines == ["* loss  +1.5000 > +1.2500", "  h     6x10, -1.00 ~ +2.00"]


class Evaluated(tuple):
    """Watched values that record which of them were read."""

    looked_at: ClassVar[set[int]] = set()

    def __getitem__(self, index):
        self.looked_at.add(index)
        return super().__getitem__(index)


async def test_only_what_is_in_view_is_evaluated(board, panel):
    panel.styles.height = 6
    watches = [Watch(i + 1, f"loss + {i}") for i in range(300)]
    values = Evaluated(Watched(watch, float(i)) for i, watch in enumerate(watches))
    moment = replace(with_state(at("loss"), stops=Stops((), tuple(watches))), watched=values)
    async with board(panel).run_test(size=(60, 12)) as pilot:
        assert (await shown(pilot, panel, moment))[:2] == ["  loss + 0    0", "  loss + 1    1"]
        assert {0, 1} <= values.looked_at <= set(range(6))
        panel.scroll_to(y=200, animate=False, immediate=True, force=True)
        await pilot.pause()
        assert lines_of(panel, 1) == ["  loss + 200  200"]
        assert max(values.looked_at) < 206
        assert len(values.looked_at) <= 12
