import pytest

from tests.tui.panels.sessions import at, every_line, large, start, tutorial
from tui_gru.engine import numbers
from tui_gru.tui.panel import View
from tui_gru.tui.panels.values import LossTerms, terms
from tui_gru.tui.theme import BLACKBOARD, palette_for

P = palette_for(BLACKBOARD)


def lines_of(snapshot, width=56, height=7, row=None):
    return [line.rstrip() for line in terms(P, snapshot, row, width, height).text.splitlines()]


def test_the_terms_of_the_tutorial_as_they_come():
    assert lines_of(at("term1", 1)) == [
        "         h       a       t       M",
        "① ⎛ 0       0      -0.8114  0     ⎞  ② ⎛   ·   ⎞",
        "  ⎝ 0      -1.8560  0       0     ⎠    ⎝   ·   ⎠",
        "",
        "③ t 1 +1.6710  t 2 ·        t 3 ·",
        "loss = mean of ③ = ·",
    ]
    assert lines_of(at("loss"))[1:] == [
        "① ⎛-0.8532  0       0       0     ⎞  ② ⎛-0.8532⎞",
        "  ⎝ 0       0      -0.6987  0     ⎠    ⎝-0.6987⎠",
        "",
        "③ t 1 +1.6710  t 2 +1.3337  t 3 +0.7760",
        "loss = mean of ③ = +1.2602",
    ]


def test_nothing_is_shown_before_it_is_computed():
    for snapshot in [start(), *every_line()]:
        text = "\n".join(lines_of(snapshot, 80, 10))
        for t in range(3):
            recorded = numbers.wide(snapshot.record.array("term3")[t])
            assert (recorded in text) == (snapshot.value("term3", t) is not None)
        t = snapshot.position.t
        assert (numbers.wide(snapshot.record.array("term2")[t, 0]) in text) == (snapshot.value("term1", t) is not None)
        assert (numbers.wide(snapshot.record.loss) in text) == (snapshot.value("loss") is not None)


def test_of_many_characters_only_the_targets_are_shown():
    snapshot = at("term2", 4, make=large)
    lines = lines_of(snapshot, row=6)
    assert lines[4].split()[-1] == "8×1"
    shown = numbers.wide(snapshot.value("term2")[6]).strip()
    assert sum(line.count(shown) for line in lines) >= 2
    assert any(line.startswith("③") and "t 5 ·" in line for line in lines)


def test_an_ellipsis_stands_for_the_timesteps_that_do_not_fit():
    """Without one, the loss would look like the mean of the timesteps that are shown."""
    assert [line for line in lines_of(at("loss"), width=34) if line.startswith("③")] == ["③ ⋯  t 2 +1.3337  t 3 +0.7760"]
    assert [line for line in lines_of(at("term1", 1), width=34) if line.startswith("③")] == ["③ t 1 +1.6710  t 2 ·        ⋯"]


@pytest.mark.parametrize("make", [tutorial, large])
def test_every_size(content, make):
    for width, height in ((10, 2), (20, 3), (36, 6), (56, 7), (156, 48)):
        for snapshot in (start(make), at("term1", 1, make=make), at("loss", make=make)):
            drawn = content(LossTerms(), snapshot, width, height, View(1))
            assert (drawn.box.width <= width, drawn.box.height <= height) == (True, True)
            assert "①" in drawn.text


def test_a_softmax_that_underflows_is_said():
    session = tutorial()
    session.edit("Wy", (0, 0), 3000.0)
    session.step("op", session.program.tick_of("term1", 0))
    assert "✗ y⊙log ŷ is not finite: ŷ is 0" in lines_of(session.snapshot())
