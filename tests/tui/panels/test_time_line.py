"""The time line as a widget: what it draws at each column, and the ticks that it requests."""

from dataclasses import replace

import numpy as np
import pytest

from tests.tui.panels.conftest import tutorial
from tests.tui.panels.sessions import with_state
from tui_gru.debugger.position import position_of
from tui_gru.debugger.state import Mark
from tui_gru.debugger.timeline import BranchInfo
from tui_gru.tui.panel import View
from tui_gru.tui.panels import time as time_line
from tui_gru.tui.panels.time import TimeLine, loss_columns, partings, timeline_marks
from tui_gru.tui.plots import Envelope, TimeScale
from tui_gru.tui.theme import ASCII

BATCH = 60  # the ticks of a batch in `columns` below


def run(batches, here=None, *, marks="", hits=(), forks=(), learning=True, **options):
    """Return the snapshot of a run of so many batches of the tutorial, at the tick `here`, with signs at the given places."""
    snapshot = tutorial(("batch", batches), learning=learning, **options).snapshot()
    ticks = snapshot.program.ticks
    if here is not None:
        snapshot = replace(snapshot, moment=replace(snapshot.moment, position=position_of(snapshot.program, here)))
    forks = [BranchInfo(name, "main", n * ticks, 10**9, None) for name, n in forks]
    return replace(
        with_state(
            snapshot,
            marks=[Mark(letter, "main", (place + 1) * ticks) for place, letter in enumerate(marks) if letter != " "],
            hits=[batch * ticks for batch in hits],
        ),
        forks=(BranchInfo("main", None, 0, snapshot.newest.tick, None), *forks),
    )


def long_run(batches=20_000, here=9_000, **more):
    """Return the snapshot of a run that is not computed: its losses fall, and are not finite at one place."""
    snapshot = run(1, **more)
    ticks = snapshot.program.ticks
    losses = 1 + np.cos(np.arange(batches) * 0.9) * 0.3 + 2 * np.exp(-np.arange(batches) / 4000)
    losses[batches // 3] = np.nan
    place = position_of(snapshot.program, here * ticks)
    marks = (Mark("a", "main", 2000 * ticks), Mark("b", "main", 12_000 * ticks), Mark("c", "another", 5000 * ticks))
    forks = (BranchInfo("main", None, 0, batches * ticks, 1.0), BranchInfo("slower", "main", 15_000 * ticks, batches * ticks, 1.0))
    return replace(
        with_state(snapshot, marks=marks, hits=(6000 * ticks, 6010 * ticks, 18_500 * ticks)),
        losses=losses,
        newest=position_of(snapshot.program, batches * ticks),
        moment=replace(snapshot.moment, position=place),
        forks=forks,
    )


@pytest.fixture
def lines():
    """Return the rows that a time line draws as text."""

    def read(line):
        return [line.render_line(y).text for y in range(line.content_size.height)]

    return read


@pytest.fixture
def drawn(content):
    """Return the rows of a time line of some size as text, padded to its width."""

    def read(snapshot, size=(80, 2), **options):
        width = max(size[0] - 2, 0)
        return [strip.text.ljust(width) for strip in content(TimeLine(), snapshot, width, size[1], **options).box.strips]

    return read


def columns(losses, span, width, newest=None):
    return loss_columns(Envelope(losses), TimeScale(span, width), BATCH, span if newest is None else newest)


def test_a_batch_takes_all_of_its_columns():
    shown = columns([3.0, 1.0, 2.0], 3 * BATCH, 31)
    assert shown.heights.tolist() == [1.0] * 11 + [0.0] * 10 + [0.5] * 10
    assert not shown.broken.any()


def test_of_many_batches_in_a_column_it_is_the_mean():
    losses = np.tile([1.0, 3.0], 500)
    losses[600:] = 0.0
    heights = columns(losses, 1000 * BATCH, 11).heights
    assert heights[:5].tolist() == pytest.approx([1.0] * 5)
    assert heights[8:].tolist() == [0.0] * 3


def test_what_is_not_finite_and_what_is_not_there_is_told_apart():
    shown = columns([1.0, np.nan, 2.0], 5 * BATCH, 6, newest=4 * BATCH)
    assert shown.broken.tolist() == [False, True, False, False, False, False]
    assert np.isnan(shown.heights).tolist() == [False, True, False, True, True, True]
    assert shown.reached == 5
    many = columns(np.where(np.arange(1000) == 500, np.inf, 1.0), 1000 * BATCH, 11)
    assert np.flatnonzero(many.broken).tolist() == [5]


@pytest.mark.parametrize("losses", [[], [1.0], [1.0, 1.0], [np.nan]])
def test_no_losses_or_equal_ones_are_no_trouble(losses):
    assert not (columns(losses, 2 * BATCH, 10).heights != 0.5)[: len(losses)].any() or np.isnan(losses).any()


def test_it_says_where_one_is_and_what_has_been_reached(drawn):
    snapshot = run(2, learning=False)
    curve, scale = drawn(snapshot)
    at = scale.index("▲")
    assert scale[at:].startswith("▲ e1 b2 loss")
    assert at == TimeScale(2 * snapshot.program.ticks, 78).column(snapshot.position.tick)
    assert set(curve[:39]) == {"▁"}
    assert set(curve[40:]) == {"█"}
    assert scale.startswith("╵e1")
    assert "╵b2" in scale
    third, _ = drawn(replace(run(2), losses=np.array([1.0])))
    assert set(third[40:]) == {"─"}  # the batch has been reached, but its loss is not known
    begun, scale = drawn(tutorial(("timestep", 1)).snapshot())
    assert begun.strip("─") == "╌" * begun.count("╌") != ""
    assert "▲ e1 b1 t1" in scale


def test_at_the_right_edge_the_place_is_to_the_left(drawn):
    _, scale = drawn(run(30))
    assert scale.endswith("e10 b3 update ▲")


async def test_signs_that_collide_are_seen_by_rank_and_all_are_described(board, lines):
    snapshot = run(30, 60, marks=" " * 14 + "k", hits=(15, 20), forks=[("slower", 15), ("wide", 20), ("too", 20), ("main~1", 26)])
    line = TimeLine()
    async with board(line).run_test(size=(80, 2)) as pilot:
        line.show(snapshot, View())
        await pilot.pause()
        _, scale = lines(line)
        tick = snapshot.program.ticks
        at = {n: line.scale.column(n * tick) for n in (15, 20, 26)}
        assert [scale[x] for x in at.values()] == ["k", "╰", "╰"]
        assert scale[at[20] :].startswith("╰wide +1")
        assert scale[at[26] :].startswith("╰main~1")
        assert "slower" not in scale
        words = line.describe(line.tick_of(at[15])).splitlines()
        assert words[0].startswith("e5 b3 update · loss 1.")
        assert words[1:] == ["mark k", "slower leaves main here", "a run stopped here"]
        assert line.describe(20 * tick).splitlines()[1:] == [
            "wide leaves main here",
            "too leaves main here",
            "a run stopped here",
        ]


def test_what_one_stands_on_is_shown_beside(drawn):
    snapshot = run(30, marks=" " * 9 + "k")
    here = position_of(snapshot.program, 10 * snapshot.program.ticks)
    _, scale = drawn(replace(snapshot, moment=replace(snapshot.moment, position=here)))
    assert "▲ k e4 b1 update" in scale


def test_in_one_row_the_signs_lie_on_the_curve(drawn):
    snapshot = run(30, 10 * 57, marks="    m", hits=(20,), forks=[("slower", 25)])
    [curve] = drawn(snapshot, (80, 1))
    assert [sign for sign in curve if sign in "▲m●╰"] == ["m", "▲", "●", "╰"]
    assert len(curve) == 78


@pytest.mark.parametrize("width", [1, 2, 3, 4, 12, 300])
@pytest.mark.parametrize("height", [1, 2, 3])
def test_every_width_can_be_drawn(drawn, width, height):
    rows = drawn(long_run(), (width, height))
    assert all(len(row) == max(width - 2, 0) for row in rows)
    assert width < 3 or any("▲" in row for row in rows)


def test_in_ascii_it_is_ascii(drawn):
    rows = drawn(long_run(), (120, 2), glyphs=ASCII)
    assert all(row.isascii() and len(row) == 118 for row in rows)
    assert "?" not in "".join(rows)
    assert "\\slower" in rows[1]


def test_marks_of_other_branches_are_here_in_the_past_that_is_shared():
    snapshot = run(30, forks=[("slower", 20)])
    tick = snapshot.program.ticks
    marks = (
        Mark("a", "slower", 20 * tick),
        Mark("b", "slower", 20 * tick + 1),
        Mark("c", "gone", tick),
        Mark("d", "main", 25 * tick),
    )
    assert [place.name for place in timeline_marks(with_state(snapshot, marks=marks)) if place.kind == "mark"] == ["a", "d"]
    assert [place.name for place in timeline_marks(replace(snapshot, forks=())) if place.kind == "fork"] == []


def test_a_branch_parts_where_it_or_the_present_one_has_left():
    forks = [
        BranchInfo("main", None, 0, 900, None),
        BranchInfo("a", "main", 100, 800, None),
        BranchInfo("b", "main", 500, 800, None),
        BranchInfo("aa", "a", 300, 700, None),
        BranchInfo("ab", "a", 60, 700, None),
        BranchInfo("ac", "aa", 300, 700, None),
    ]
    assert dict(partings(forks, "main")) == {"a": 100, "b": 500, "aa": 100, "ab": 60, "ac": 100}
    assert dict(partings(forks, "aa")) == {"main": 100, "a": 300, "b": 100, "ab": 60, "ac": 300}
    assert dict(partings(forks, "b")) == {"main": 500, "a": 100, "aa": 100, "ab": 60, "ac": 100}


async def test_the_curve_is_computed_again_only_if_it_differs(board, monkeypatch):
    line, snapshot, computed = TimeLine(), long_run(), []
    monkeypatch.setattr(time_line, "loss_columns", lambda *args: computed.append(loss_columns(*args)) or computed[-1])
    async with board(line).run_test(size=(120, 2)) as pilot:
        line.show(snapshot, View())
        await pilot.pause()
        assert line.drawn
        assert len(computed) == 1
        line.show(replace(snapshot, moment=replace(snapshot.moment, position=position_of(snapshot.program, 77))), View())
        assert line.drawn
        assert len(computed) == 1
        line.show(replace(snapshot, losses=snapshot.losses[:-1]), View())
        assert line.drawn
        assert len(computed) == 2


PICTURES = {
    "start": (lambda: tutorial().snapshot(), (116, 2), {}),
    "short": (lambda: run(5, 130, hits=(1,)), (116, 2), {}),
    "long": (long_run, (156, 2), {}),
    "with-an-end": (lambda: long_run(epochs=10_000), (156, 2), {}),
    "narrow": (long_run, (78, 1), {}),
    "ascii": (long_run, (156, 2), {"glyphs": ASCII}),
    "whiteboard": (long_run, (156, 2), {"theme": "whiteboard"}),
}


@pytest.mark.parametrize("name", PICTURES)
def test_texts(content, snapshot, name):
    moment, size, options = PICTURES[name]
    assert content(TimeLine(), moment(), *size, **options).described() == snapshot


@pytest.mark.parametrize("size", [(80, 2), (80, 1)])
async def test_one_batch_that_stands_out_among_thousands_is_seen_and_gone_to(board, lines, size):
    snapshot = long_run(20_000, 19_000)
    losses, ticks = snapshot.losses.copy(), snapshot.program.ticks
    losses[7_777] = 60.0
    line = TimeLine()
    line.styles.height = size[1]
    async with board(line).run_test(size=size) as pilot:
        line.show(replace(with_state(snapshot, hits=(), marks=()), losses=losses, forks=()), View())
        await pilot.pause()
        column = line.scale.column(7_777 * ticks)
        curve = lines(line)[0]
        assert [x for x, sign in enumerate(curve) if sign == "↑"] == [column]
        assert len(set(curve)) > 4  # the other losses still have heights
        tick = line.tick_of(column)
        assert tick == 7_777 * ticks + snapshot.program.loss_tick
        assert line.describe(tick) == "e2593 b2 loss · loss 60.000\nthis loss is an outlier"
