from dataclasses import replace

import pytest

from tests.tui.panels.sessions import at, start, with_state
from tui_gru.debugger.state import Mark
from tui_gru.debugger.stops import Breakpoint, Stops, Watch, Watched
from tui_gru.tui.panel import View
from tui_gru.tui.panels.lists import StopsList
from tui_gru.tui.theme import ASCII

BREAKPOINTS = (
    Breakpoint(1, "h_tilde"),
    Breakpoint(2, "h", condition="any(h > 0.9)", hits=">3"),
    Breakpoint(4, "y_hat", log="ŷ {y_hat[0]:.2f}", enabled=False),
    Breakpoint(5, "", condition="loss < 1"),
)
WATCHES = (Watch(3, "loss", stops=True), Watch(6, "max(abs(h))"), Watch(7, "t", enabled=False))


def full(snapshot):
    watched = (Watched(WATCHES[0], 1.25, 1.5), Watched(WATCHES[1], 0.5, 0.5), Watched(WATCHES[2]))
    marks = (Mark("a", "main", at("h", 1).position.tick), Mark("b", "main~1", 0))
    return replace(with_state(snapshot, stops=Stops(BREAKPOINTS, WATCHES, 7), marks=marks), watched=watched)


class Heard(StopsList):
    """A list that stores its requests."""

    DEFAULT_CSS = "Heard { width: 110; height: 20; }"

    def __init__(self, **options):
        super().__init__(**options)
        self.asked = []

    def on_request(self, message):
        verb, entry = message.arguments
        self.asked.append((verb, entry.letter if isinstance(entry, Mark) else entry.id))


async def shown(pilot, panel, snapshot):
    panel.show(snapshot, View())
    panel.focus()
    await pilot.pause()
    await pilot.pause()
    return lines_of(panel)


def lines_of(panel):
    return [panel.render_line(y).text.rstrip() for y in range(panel.content_size.height)]


def test_all_in_aligned_columns(content):
    assert content(StopsList(), full(at("loss")), 106, 18).lines == [
        "  breakpoints",
        "▸ ● 1  h̃ = tanh(x Wh + (r⊙hₜ₋₁) Uh + bh)",
        "  ◐ 2  h = z⊙hₜ₋₁ + (1 − z)⊙h̃             if any(h > 0.9)  hits >3",
        "  ◇ 4  ŷ = softmax(o)                     log ŷ {y_hat[0]:.2f}",
        "  ◐ 5  anywhere                           if loss < 1",
        "",
        "  watches",
        "  ● 3  loss                               stop  +1.5000 → +1.2500",
        "  ● 6  max(abs(h))                              +0.5000",
        "  ○ 7  t",
        "",
        "  marks",
        "    a  e1 b1 t2                           after h",
        "    b  e1 b1 t1                           the beginning, on main~1",
    ]


def test_where_there_is_little_room_a_line_is_named_by_what_it_computes(content):
    lines = content(StopsList(), full(at("loss")), 36, 18, glyphs=ASCII).lines
    assert lines[1:5] == [
        "> * 1  h_tilde",
        "  % 2  h         if any(h > 0.9)  h~",
        "  - 4  y_hat     log y_hat {y_hat[0~",
        "  % 5  anywhere  if loss < 1",
    ]
    assert max(map(len, lines)) <= 36


async def test_the_cursor_goes_through_all_and_stays_with_its_entry(board):
    panel = Heard(at="a")
    async with board(panel).run_test(size=(120, 24)) as pilot:
        await shown(pilot, panel, full(at("loss")))
        assert panel.chosen.letter == "a"
        await pilot.press("down", "down")
        assert panel.chosen.letter == "b"
        await pilot.press("home", "up")
        assert panel.chosen.id == 1
        await pilot.press("down", "down")
        snapshot = full(at("loss"))
        await shown(
            pilot,
            panel,
            with_state(
                snapshot, stops=replace(snapshot.state.stops, breakpoints=BREAKPOINTS[1:]), marks=snapshot.state.marks.sorted
            ),
        )
        assert panel.chosen.id == 4
        await shown(pilot, panel, with_state(snapshot, stops=Stops(), marks=snapshot.state.marks.sorted[1:]))
        assert panel.chosen.letter == "b"
        await shown(pilot, panel, start())
        assert panel.chosen is None


async def test_keys_ask_for_what_is_to_be_done(board):
    panel = Heard(at=2)
    async with board(panel).run_test(size=(120, 24)) as pilot:
        await shown(pilot, panel, full(at("loss")))
        await pilot.press("space", "e", "enter", "d", "delete", "end", "enter")
        two = [(verb, 2) for verb in ("toggled", "opened", "opened", "deleted", "deleted")]
        assert panel.asked == [*two, ("opened", "b")]


async def test_the_border_says_what_the_keys_do_here(board):
    panel = Heard()
    async with board(panel).run_test(size=(120, 24)) as pilot:
        await shown(pilot, panel, full(at("loss")))
        assert str(panel.border_subtitle) == "space off · e edit · d delete · esc closes"
        await pilot.press("down", "down")
        assert str(panel.border_subtitle).startswith("space on ·")
        await pilot.press("end")
        assert str(panel.border_subtitle) == "enter goes there · d delete · esc closes"


async def test_a_click_moves_the_cursor(board):
    panel = Heard()
    async with board(panel).run_test(size=(120, 24)) as pilot:
        await shown(pilot, panel, full(at("loss")))
        for y, id in ((8, 6), (2, 2), (5, 2), (6, 2)):
            await pilot.click(panel, offset=(12, 1 + y))
            assert panel.chosen.id == id


@pytest.mark.parametrize("height", [3, 5, 8])
async def test_the_cursor_is_in_view(board, height):
    panel = Heard()
    panel.styles.height = height
    async with board(panel).run_test(size=(120, 24)) as pilot:
        await shown(pilot, panel, full(at("loss")))
        for key in [*["down"] * 9, *["up"] * 9]:
            await pilot.press(key)
            await pilot.pause()
            assert sum("▸" in line for line in lines_of(panel)) == 1, key
        assert lines_of(panel)[0] == "  breakpoints" or height == 3


@pytest.mark.parametrize("width", [110, 40])
async def test_an_empty_list_says_how_to_begin(board, width):
    panel = Heard()
    panel.styles.width = width
    async with board(panel).run_test(size=(120, 24)) as pilot:
        lines = await shown(pilot, panel, start())
        assert lines[0] == "no breakpoints, watches or marks yet"
        assert any(line.startswith(":break h if any(h > 0.9)") for line in lines)
        assert not any("…" in line for line in lines)
        await pilot.press("space", "enter", "d", "down")
        assert panel.asked == []
