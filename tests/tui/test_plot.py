import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui_gru.tui.plots import label, plot, ticks
from tui_gru.tui.theme import ASCII, BLACKBOARD, palette_for

P = palette_for(BLACKBOARD)
PLAIN = palette_for(BLACKBOARD, ASCII)


def curve(*what, **how):
    return plot(*what, **how).box


@given(
    st.lists(st.floats(width=32), max_size=40),
    st.integers(0, 60),
    st.integers(0, 16),
    st.none() | st.lists(st.floats(-3, 3), max_size=9),
    st.none() | st.floats(-5, 50),
)
def test_a_plot_keeps_to_its_room(ys, width, height, second, here):
    for palette in (P, PLAIN):
        box = curve(palette, ys, width, height, second=second, current=here, placeholder="")
        assert box.height <= max(height, 1)
        assert {cell_len(line) for line in box.text.splitlines()} <= {box.width}
        if height >= 3 and width >= 25:
            assert box.width <= width


def test_a_falling_line():
    box = curve(PLAIN, [4, 3, 2, 1], 6, 6)
    rows = [line[2:] for line in box.text.splitlines()[:4]]
    assert rows[0].startswith("*")
    assert rows[3].endswith("*")


@pytest.mark.parametrize("palette", [P, PLAIN])
def test_levels_are_lines_behind_the_series(palette):
    levels = ("one", 1.0), ("half", 0.5), ("too high", 2.0)
    plain = curve(palette, [1, 0], 40, 9).text.splitlines()
    box = curve(palette, [1, 0], 40, 9, levels=levels).text.splitlines()
    named = [line.split()[-1] for line in box[:7]]
    assert (named[0], named[3]) == ("one", "half")
    assert "too high" not in "\n".join(box)
    for before, after in zip(plain, box, strict=True):
        assert all(a == b or b == " " for a, b in zip(after, before, strict=True))  # the series is not covered


@pytest.mark.parametrize("palette", [P, PLAIN])
@pytest.mark.parametrize(
    "series", [np.linspace(2, 1.4, 30), np.linspace(1.4, 1.2, 30), np.full(30, 1.386), 1.386 + 0.02 * np.sin(np.arange(300))]
)
@pytest.mark.parametrize("pointed", [None, 3, 28])
def test_the_name_of_a_level_can_be_read(palette, series, pointed):
    for width in range(26, 60, 3):
        for name, y in (("log V", 1.386), ("unigram", 1.33)):
            if min(series) <= y <= max(series):
                assert f" {name} " in curve(palette, series, width, 9, levels=((name, y),), pointed=pointed, per_epoch=6).text


def test_the_name_of_a_level_is_beside_the_curve_where_there_is_room():
    series = [1.0, *np.linspace(1, 2, 40)]
    row = next(line for line in curve(PLAIN, series, 60, 9, levels=(("one", 2.0),)).text.splitlines() if " one " in line)
    assert "*" in row
    assert row.index(" one ") < row.index("*")


def test_an_empty_plot_says_what_the_caller_says():
    assert "no batch finished yet" in curve(P, [], 40, 8, placeholder="no batch finished yet").text


def test_where_one_is_and_what_is_not_a_number():
    axis = curve(P, [1, 2, math.nan, 4, 5], 30, 8, current=5).text.splitlines()[-2]
    assert axis.endswith("▲")
    assert axis.count("✗") == 1


def test_no_finite_number_at_all():
    assert curve(P, [math.nan] * 3, 30, 8).text.splitlines()[-2].count("✗") == 3


def test_the_second_series_has_its_own_ink():
    inks = {segment.style for row in curve(P, [1, 1, 1], 30, 8, second=[2, 2, 2]).rows for segment in row}
    assert {P.gate, P.second} <= inks


def test_a_series_that_covers_part_of_the_axis():
    top = curve(P, np.ones(10), 40, 6, second=np.full(100, np.nan)).text.splitlines()
    drawn = max(i for line in top[:-2] for i, sign in enumerate(line) if 0x2800 < ord(sign) <= 0x28FF)
    assert drawn < 10


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(1, 10), st.booleans())
def test_ticks_are_few_round_and_inside(low, span, count, whole):
    high = low + span
    marks = ticks(low, high, count, integers=whole)
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


def long_run(spike):
    losses = 1 + np.random.default_rng(0).uniform(-0.2, 0.2, 6000)
    losses[4321] = spike
    return losses


@pytest.mark.parametrize("palette", [P, PLAIN])
@pytest.mark.parametrize(("spike", "arrow"), [(250.0, "↑250"), (-250.0, "↓-250")])
def test_a_spike_beyond_the_axis_is_an_arrow_with_its_value(palette, spike, arrow):
    drawn = plot(palette, long_run(spike), 70, 14)
    rows = drawn.box.text.splitlines()
    row = rows[0 if spike > 0 else 11]
    arrow = arrow if palette is P else arrow.replace("↑", "^").replace("↓", "v")
    assert row[drawn.margin + 1 :].index(arrow) == drawn.column(4321)
    assert drawn.standing_out == {drawn.column(4321): 1 if spike > 0 else -1}
    inks = {segment.style for segment in drawn.box.rows[0 if spike > 0 else 11] if segment.text.strip() == arrow}
    assert inks == {palette.warning}


def test_a_point_that_stands_out_within_the_axis_keeps_the_full_colour():
    losses = long_run(2.6) + 2 * np.exp(-np.arange(6000) / 700)
    drawn = plot(P, losses, 70, 14)
    column = drawn.column(4321)
    assert drawn.standing_out == {column: 1}
    assert "↑" not in drawn.box.text
    inks = [next(ink for ink in [*_inks(row)][drawn.margin + 1 + column :][:1]) for row in drawn.box.rows[:6]]
    assert set(inks) <= {None, P.gate}
    assert P.gate in inks


def _inks(row):
    for segment in row:
        for sign in segment.text:
            yield segment.style if sign.strip() else None


def test_a_long_series_is_a_smooth_line_over_a_faint_band_and_a_short_one_is_itself():
    def styles(count):
        return {segment.style for row in plot(P, long_run(1.0)[:count], 70, 14).box.rows for segment in row}

    assert {P.faint, P.gate} <= styles(6000)
    assert P.faint not in styles(100)


def dots_of(drawn):
    """Return the places of the dots of a drawn curve, (row, column) in dots from the top left, with their inks."""
    found = {}
    for y, row in enumerate(drawn.box.rows[:-2]):
        x = -drawn.margin - 1
        for segment in row:
            for sign in segment.text:
                bits = ord(sign) - 0x2800
                for bit, (down, across) in enumerate(((0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (3, 0), (3, 1))):
                    if 0 < bits < 256 and bits >> bit & 1:
                        found[4 * y + down, 2 * x + across] = segment.style
                x += 1
    return found


def test_few_points_are_points_and_more_are_joined():
    few = dots_of(plot(P, [1.0, 2.0] * 9, 60, 10))
    assert len(few) == 4 * 18  # each is two dots wide and high, and nothing is between them
    assert set(few.values()) == {P.gate}
    top, bottom = min(few)[0], max(few)[0]
    assert {y for y, _ in few} == {top, top + 1, bottom - 1, bottom}
    assert len(dots_of(plot(P, [1.0, 2.0] * 10, 60, 10))) > 100


def test_points_have_the_mean_of_each_whole_epoch_over_them():
    means = np.array([1.5, 1.25, 1.0, 0.75])
    series = np.append((means[:, None] + [0.2, 0.0, -0.2]).ravel(), 0.9)  # the last epoch has begun
    drawn = plot(P, series, 80, 12, per_epoch=3)
    dots = dots_of(drawn)
    line = {x: y for (y, x), ink in dots.items() if ink == P.gate and (y, x + 1) in dots and (y, x - 1) in dots}
    heights = [{y for x, y in line.items() if drawn.column(first) <= x // 2 <= drawn.column(first + 2)} for first in (0, 3, 6, 9)]
    assert [len(each) for each in heights] == [1, 1, 1, 1]
    rows = [each.pop() for each in heights]
    assert np.ptp(np.diff(rows)) <= 1  # the means are evenly spaced
    assert max(line) // 2 < drawn.column(12)
    assert sum(ink == P.plain for ink in dots.values()) >= 12  # the batches that are not in a cell of the line


def test_of_few_long_epochs_the_line_is_a_moving_average():
    def level(every):
        """Return whether the line is level within the second epoch."""
        drawn = plot(P, np.linspace(3, 1, 600), 60, 12, per_epoch=every)
        inside = range(2 * drawn.column(every) + 4, 2 * drawn.column(2 * every) - 4)
        rows = [{y for (y, x), ink in dots_of(drawn).items() if x == at and ink == P.gate} for at in inside]
        return len({*map(frozenset, rows)}) == 1

    assert level(100)
    assert not level(200)


def test_of_two_series_with_epochs_only_the_means_are_drawn():
    inks = set(dots_of(plot(P, [1.0, 2.0, 3.0] * 4, 60, 10, second=[2.0, 3.0, 4.0] * 4, per_epoch=3)).values())
    assert inks == {P.gate, P.second}
    assert len({y for y, _ in dots_of(plot(P, [1.0, 2.0, 3.0] * 4, 60, 10, second=[2.0, 3.0, 4.0] * 4, per_epoch=3))}) == 2


def test_epochs_are_named_on_the_axis():
    names = plot(P, np.linspace(2, 1, 39), 60, 9, per_epoch=3).box.text.splitlines()[-1].split()
    assert names == ["e2", "e4", "e6", "e8", "e10", "e12"]
    assert plot(P, np.linspace(2, 1, 39), 60, 9).box.text.splitlines()[-1].split()[0] == "5"


def test_the_labels_of_a_low_plot_are_on_its_axis():
    low, high = (plot(P, np.linspace(2, 1, 3), 40, height, current=1).box.text.splitlines() for height in (6, 8))
    assert [sum(P.glyphs.axis_vertical in row or P.glyphs.tick_vertical in row for row in each) for each in (low, high)] == [5, 6]
    assert re.fullmatch(r" *└▲1─+2─+3", low[-1])  # the marker hides no label
    assert high[-1].split() == ["1", "2", "3"]


@given(st.floats(-100, 100), st.floats(0.001, 100), st.integers(4, 16))
def test_ticks_are_in_evenly_spaced_rows_and_hold_round_numbers(low, span, rows):
    for palette in (P, PLAIN):
        drawn = plot(palette, [low, low + span], 60, rows + (2 if rows > 6 else 1))  # the labels of a low axis are on it
        tick = palette.glyphs.tick_vertical
        found = [(y, line.split(tick)[0]) for y, line in enumerate(drawn.box.text.splitlines()[:rows]) if tick in line[:12]]
        assert len(found) >= 2
        assert len({y - x for (x, _), (y, _) in itertools.pairwise(found)}) == 1
        steps = {
            round(float(a) - float(b), 9) for (_, a), (_, b) in itertools.pairwise((y, text.replace(",", "")) for y, text in found)
        }
        assert {f"{step:.0e}"[0] for step in steps} <= {"1", "2", "5"}
        assert drawn.standing_out == {}  # nothing has left the axis


def test_the_points_of_a_column_hold_each_point_once():
    for count, width in ((5, 60), (50, 30), (6000, 71)):
        drawn = plot(P, np.linspace(0, 1, count), width, 9)
        for point in range(count):
            assert point in drawn.points(drawn.column(point)) or count < drawn.columns
        if count > drawn.columns:
            assert sorted(point for column in range(drawn.columns) for point in drawn.points(column) if point < count) == [
                *range(count)
            ]


def test_the_batch_pointed_at_has_a_line():
    drawn = plot(P, long_run(1.0), 70, 14, pointed=2000)
    marked = [row[drawn.margin + 1 + drawn.column(1999)] for row in drawn.box.text.splitlines()[:12]]
    assert marked.count("│") > 3


def test_a_step_from_one_level_to_another_does_not_stand_out():
    losses = np.concatenate([np.linspace(1.3, 0.4, 2700), np.linspace(2.5, 2.3, 1200)])
    assert plot(P, losses, 70, 14).standing_out == {}
