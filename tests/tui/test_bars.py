import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui_gru.engine import numbers
from tui_gru.tui.draw import bar, bars
from tui_gru.tui.theme import ASCII, BLACKBOARD, palette_for

P = palette_for(BLACKBOARD)
Y_HAT = [0.4342, 0.1669, 0.1735, 0.2254]


def test_bars_with_target():
    assert bars(P, Y_HAT, "hatM", 50, target=1).text.splitlines() == [
        "h 0.4342 █████████████▉                           ",
        "a 0.1669 █████▍ ◂ target                          ",
        "t 0.1735 █████▌                                   ",
        "M 0.2254 ███████▎                                 ",
    ]
    inks = [row[0].style for row in bars(P, Y_HAT, "hatM", 50, target=1).rows]
    assert inks == [P.strong, P.plain, P.plain, P.plain]  # the largest, whether it is the target or not


@given(
    st.lists(st.floats(0, 1) | st.just(math.nan), min_size=1, max_size=4),
    st.integers(20, 70),
    st.none() | st.integers(0, 3),
)
def test_bars_fill_the_width_exactly(values, width, target):
    box = bars(P, values, ["a", "日", "[", "😀"][: len(values)], width, target=target)
    assert {cell_len(line) for line in box.text.splitlines()} == {box.width}
    assert box.width == width


def test_what_is_not_computed_takes_the_same_room_and_shows_no_number():
    blank, full = bars(P, None, "hatM", 40, target=0), bars(P, Y_HAT, "hatM", 40, target=0)
    assert (blank.width, blank.height) == (full.width, full.height)
    assert "0" not in blank.text
    assert "█" not in blank.text
    assert blank.text.splitlines()[0].rstrip() == "h   ·    ◂ target"  # beside the place of the bar


def test_where_there_is_no_room_the_numbers_stay():
    assert "0.4342" in bars(P, Y_HAT, "hatM", 6).text


@pytest.mark.parametrize(
    ("part", "drawn"), [(0, "    "), (1e-9, "▏   "), (0.5, "██  "), (1, "████"), (7, "████"), (math.nan, "    ")]
)
def test_bar(part, drawn):
    assert bar(P, part, 4) == drawn


def test_ascii_bar():
    assert bar(palette_for(BLACKBOARD, ASCII), 0.5, 4) == "##  "


def test_signed_bars_are_as_long_as_their_values_are_large_and_coloured_by_sign():
    box = bars(P, [0.5, -0.25, 0.0], ["a", "b", "c"], 40, full=0.5, write=numbers.wide, signed=True)
    lengths = [line.count("█") for line in box.text.splitlines()]
    assert lengths[0] == 2 * lengths[1] > lengths[2] == 0
    inks = [[segment.style for segment in row if "█" in segment.text] for row in box.rows]
    assert inks == [[P.positive], [P.negative], []]
    zero = next(segment for segment in box.rows[2] if segment.text == numbers.wide(0.0))
    assert zero.style == P.dim
