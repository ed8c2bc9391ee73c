import numpy as np
import pytest

from tests.tui.panels.sessions import at, every_line, large, start, tutorial
from tui_gru import Session
from tui_gru.engine import numbers
from tui_gru.tui.panel import View
from tui_gru.tui.panels.values import LossTerms, terms
from tui_gru.tui.theme import BLACKBOARD, palette_for

P = palette_for(BLACKBOARD)


def lines_of(snapshot, width=56, height=7, row=None):
    return [line.rstrip() for line in terms(P, snapshot, row, width, height).text.splitlines()]


def test_the_terms_of_the_tutorial_as_they_come():
    """The table of the tutorial's notebook, the same at every size that has room for it."""
    table = [
        "           t 1     t 2     t 3",
        "row 1  -1.7905 -0.8114 -0.8532   ② log chance",
        "row 2  -1.5516 -1.8560 -0.6987",
        "③       1.6710  1.3337  0.7760   −their mean",
    ]
    entries, loss = "① t 3   h -0.8532  t -0.6987", "loss = mean of ③ = 1.2602"
    assert lines_of(at("loss")) == [entries, "", *table, f"{loss}   a blind guess costs 1.3863"]
    assert lines_of(at("loss"), height=5) == [*table, f"{loss}   a blind guess costs 1.3863"]
    bare = [line.partition("   ②")[0].partition("   −their")[0] for line in table]
    assert lines_of(at("loss"), width=30, height=6) == [entries, *bare, loss]
    assert lines_of(at("loss"), width=30, height=4) == bare
    assert lines_of(at("term1", 1)) == [
        "① t 2   t -0.8114  a -1.8560",
        "",
        "           t 1     t 2     t 3",
        "row 1  -1.7905     ·       ·     ② log chance",
        "row 2  -1.5516     ·       ·",
        "③       1.6710     ·       ·     −their mean",
        "loss = mean of ③ = ·   a blind guess costs 1.3863",
    ]


def test_nothing_is_shown_before_it_is_computed():
    for snapshot in [start(), *every_line()]:
        lines = lines_of(snapshot, 80, 10)
        text, (row,) = "\n".join(lines), [line for line in lines if line.startswith("row 1")]
        for t in range(3):
            third, second = snapshot.record.array("term3")[t], snapshot.record.array("term2")[t, 0]
            assert (numbers.plain(third) in text) == (snapshot.value("term3", t) is not None)
            assert (numbers.plain(second) in row.split()) == (snapshot.value("term2", t) is not None)
        t = snapshot.position.t
        assert (numbers.plain(snapshot.record.array("term2")[t, 0]) in text) == (snapshot.value("term1", t) is not None)
        assert (f"= {numbers.plain(snapshot.record.loss)}" in text) == (snapshot.value("loss") is not None)


def test_of_many_rows_the_one_singled_out_is_shown():
    snapshot = at("term2", 4, make=large)
    lines = lines_of(snapshot, row=6)
    shown = numbers.plain(snapshot.value("term2")[6])
    assert any(line.startswith("row 7") and shown in line for line in lines)
    assert "t 5" in lines[0]


@pytest.mark.parametrize(
    ("height", "row", "shown"),
    [
        (3, None, ["row 1⋮"]),
        (5, None, ["row 1", "row 2", "row 3⋮"]),
        (5, 4, ["row 4⋮", "row 5", "row 6⋮"]),
        (5, 7, ["row 6⋮", "row 7", "row 8"]),
        (7, 4, ["row 3⋮", "row 4", "row 5", "row 6", "row 7⋮"]),
    ],
)
def test_rows_that_are_left_out_are_marked(height, row, shown):
    """Otherwise ③ would look like the mean of the rows that are shown."""
    names = [line[:6].strip() for line in lines_of(at("term2", 4, make=large), 33, height, row)]
    assert names[1:-1] == shown


def test_an_ellipsis_stands_for_the_timesteps_that_do_not_fit():
    """Without one, the loss would look like the mean of the timesteps that are shown."""
    heads = next(line for line in lines_of(at("term2", 4, make=large), width=56) if "t 5" in line and "⋯" in line)
    assert heads.split()[0] in ("t", "⋯")
    assert lines_of(at("term2", 4, make=large), width=20)[0].split() == ["⋯", "t", "5", "⋯"]


@pytest.mark.parametrize("make", [tutorial, large])
def test_every_size(content, make):
    for width, height in ((10, 2), (20, 3), (36, 6), (56, 7), (156, 48)):
        for snapshot in (start(make), at("term1", 1, make=make), at("loss", make=make)):
            drawn = content(LossTerms(), snapshot, width, height, View(1))
            assert (drawn.box.width <= width, drawn.box.height <= height) == (True, True)
            assert "③" in drawn.text


def test_a_softmax_that_underflows_is_said():
    session = tutorial()
    session.edit("Wy", (0, 0), 3000.0)
    session.step("op", session.program.tick_of("term1", 0))
    assert np.isfinite(session.value("term1")).all()
    assert "✗ ŷ is 0: ① comes from o, not ŷ" in lines_of(session.snapshot())
    session = Session()
    session.stop_on_nan = False
    session.edit("by", (0,), 3e38)
    session.step("op", session.program.tick_of("h", 0))
    session.edit("Wy", (0, 0), float(np.copysign(3e38, session.value("h")[0, 0])))
    session.seek(session.program.tick_of("term1", 0))
    assert not np.isfinite(session.value("term1")).all()
    assert "✗ y⊙log ŷ is not finite: nor is ŷ" in lines_of(session.snapshot())
