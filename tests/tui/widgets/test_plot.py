import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui_gru.tui.glyphs import ASCII
from tui_gru.tui.themes import BLACKBOARD, palette_for
from tui_gru.tui.widgets.plot import curve, sparkline
from tui_gru.tui.widgets.ticks import label, ticks

P = palette_for(BLACKBOARD)
PLAIN = palette_for(BLACKBOARD, ASCII)


@given(
    st.lists(st.floats(width=32), max_size=40),
    st.integers(0, 60),
    st.integers(0, 16),
    st.none() | st.lists(st.floats(-3, 3), max_size=9),
    st.none() | st.floats(-5, 50),
)
def test_a_plot_keeps_to_its_room(ys, width, height, second, here):
    for palette in (P, PLAIN):
        box = curve(palette, ys, width, height, second=second, here=here, placeholder="")
        assert box.height <= max(height, 1)
        assert {cell_len(line) for line in box.text.splitlines()} <= {box.width}
        if height >= 3 and width >= 25:
            assert box.width <= width


def test_a_falling_line():
    box = curve(PLAIN, [4, 3, 2, 1], 6, 6, y_range=(1, 4))
    rows = [line[2:] for line in box.text.splitlines()[:4]]
    assert rows[0].startswith("*")
    assert rows[3].endswith("*")


@pytest.mark.parametrize("palette", [P, PLAIN])
def test_levels_are_lines_behind_the_series(palette):
    levels = ("one", 1.0), ("half", 0.5), ("too high", 2.0)
    plain = curve(palette, [1, 0], 40, 9, y_range=(0, 1)).text.splitlines()
    box = curve(palette, [1, 0], 40, 9, y_range=(0, 1), levels=levels).text.splitlines()
    named = [line.split()[-1] for line in box[:7]]
    assert (named[0], named[3]) == ("one", "half")
    assert "too high" not in "\n".join(box)
    for before, after in zip(plain, box, strict=True):
        assert all(a == b or b == " " for a, b in zip(after, before, strict=True))  # the series is not covered


def test_an_empty_plot_says_what_the_caller_says():
    assert "no batch finished yet" in curve(P, [], 40, 8, placeholder="no batch finished yet").text


def test_where_one_is_and_what_is_not_a_number():
    axis = curve(P, [1, 2, math.nan, 4, 5], 30, 8, here=5).text.splitlines()[-2]
    assert axis.endswith("▲")
    assert axis.count("✗") == 1


def test_no_finite_number_at_all():
    assert curve(P, [math.nan] * 3, 30, 8).text.splitlines()[-2].count("✗") == 3


def test_the_second_series_has_its_own_ink():
    inks = {segment.style for row in curve(P, [1, 1, 1], 30, 8, second=[2, 2, 2]).rows for segment in row}
    assert {P.gate, P.second} <= inks


def test_a_series_that_covers_part_of_the_axis():
    top = curve(P, np.ones(10), 40, 6, x_range=(1, 100), y_range=(0, 2)).text.splitlines()
    drawn = max(i for line in top[:-2] for i, sign in enumerate(line) if 0x2800 < ord(sign) <= 0x28FF)
    assert drawn < 10


def test_sparkline():
    assert sparkline(P, [0, 1, 2, 3, 4, 5, 6, 7], 8).text == "▁▂▃▄▅▆▇█"
    assert sparkline(P, [1, math.nan, 2], 8).text == "▁✗█"
    assert sparkline(P, [], 8).text == "·"
    assert sparkline(P, [math.inf], 8).text == "✗"


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(1, 10), st.booleans())
def test_ticks_are_few_round_and_inside(low, span, count, whole):
    high = low + span
    marks = ticks(low, high, count, whole=whole)
    assert len(marks) <= max(count, 1)
    assert all(low - 1e-6 * span <= mark <= high + 1e-6 * span for mark in marks)
    if whole and high > low:
        assert all(mark == round(mark) for mark in marks)


@pytest.mark.parametrize(
    ("low", "high", "count", "marks"), [(0, 1, 3, [0, 0.5, 1]), (1, 100, 5, [20, 40, 60, 80, 100]), (3, 3, 4, [3])]
)
def test_ticks(low, high, count, marks):
    assert ticks(low, high, count) == pytest.approx(marks)


@pytest.mark.parametrize(("value", "step", "text"), [(0.25, 0.05, "0.25"), (1000, 500, "1,000"), (2e-6, 1e-6, "2e-06")])
def test_tick_labels(value, step, text):
    assert label(value, step) == text
