import re

import pytest

from tests.tui.panels.sessions import at, every_line, large, start, tutorial
from tui_gru.engine import numbers
from tui_gru.tui.app import make_app
from tui_gru.tui.headless import headless
from tui_gru.tui.panel import View
from tui_gru.tui.panels.sequence import Sequence, flow_legend, flow_table, sequence, stacked_bar
from tui_gru.tui.theme import ASCII, BLACKBOARD, palette_for

P = palette_for(BLACKBOARD)
PATHS = [(letter, "") for letter in "chzr"]


def lines_of(snapshot, width=56, height=6, row=None, palette=P):
    return [line.rstrip() for line in sequence(palette, snapshot, View(row), width, height).text.splitlines()]


def test_under_each_timestep_that_was_reached_stands_its_norm():
    snapshot = at("dh_prev", 1)
    heading, *_, norms, shares, more = lines_of(snapshot)
    second, third = snapshot.flow()[1:]
    assert norms.split()[:5] == ["‖dh‖", "┃", "·", numbers.unit(second.dh), numbers.unit(third.dh)]
    for flow in (second, third):
        assert norms.index(numbers.unit(flow.dh)) == pytest.approx(heading.index(f"t {flow.t + 1}"), abs=2)
    assert shares.startswith("share┃")
    for flow, at_ in ((second, 1), (third, 2)):
        written = [int(share) for share in re.findall("[a-z] *([0-9]+)", f"{shares[6 + 9 * at_ :][:8]} {more[6 + 9 * at_ :][:8]}")]
        assert written == [round(100 * share) for share in flow.shares]


def test_the_shares_are_there_once_their_line_has_been_executed():
    assert lines_of(at("dar", 1))[-1].split("┃")[1].split() == lines_of(at("dh_prev", 2))[-1].split("┃")[1].split()
    assert len(re.findall("z *[0-9]+", lines_of(at("dh_prev", 0))[-1])) == 3


@pytest.mark.parametrize("snapshot", [start(), at("y_hat", 1), at("loss"), at("loss", learning=False), at("z", 1, batch=1)])
def test_nothing_flows_before_the_backward_pass(snapshot):
    assert not any("‖dh‖" in line for line in lines_of(snapshot))


def test_it_stays_through_the_update():
    assert any("‖dh‖" in line for line in lines_of(at("Wz")))


@pytest.mark.parametrize(
    ("shares", "drawn"), [((1, 0, 0, 0), "cccccccc"), ((0.5, 0.25, 0.125, 0.125), "cccchhzr"), (None, " " * 8)]
)
def test_a_bar_is_divided_by_the_shares(shares, drawn):
    segments = stacked_bar(P, PATHS, shares, 8)
    assert "".join(segment.text for segment in segments) == drawn
    assert len({segment.style for segment in segments}) == len(segments)


@pytest.mark.parametrize("width", range(1, 30))
def test_the_cells_of_a_bar_are_all_given_away(width):
    shares = (0.37, 0.01, 0.31, 0.31)
    drawn = "".join(segment.text for segment in stacked_bar(P, PATHS, shares, width))
    assert len(drawn) == width
    for letter, share in zip("chzr", shares, strict=True):
        assert abs(drawn.count(letter) - share * width) < 1
    assert drawn == "".join(sorted(drawn, key="chzr".index))


def test_the_carry_cuts_it_or_lets_it_through(board):
    for carry, batch, end in (("detach", 1, "┃"), ("reset", 1, "┃"), ("notebook", 0, "┃"), ("notebook", 1, "←")):
        assert end in lines_of(at("dh_prev", 0, batch=batch, carry=carry))[-1]
    snapshot = at("dh_prev", 0, batch=1, carry="notebook")
    on = numbers.unit(snapshot.flow()[0].handed_on)
    text = "\n".join(lines_of(snapshot, 150, 40))
    assert f"← {on} flows into the earlier batches" in text
    assert "flows into" in "\n".join(lines_of(at("dh_prev", 1, batch=1, carry="notebook"), 150, 40))
    assert "the epoch starts here" in "\n".join(lines_of(at("dh_prev", 1, carry="notebook"), 150, 40))
    assert "h is reset with every batch" in "\n".join(lines_of(at("dh_prev", 1, carry="reset"), 150, 40))


def test_where_there_is_room_every_number_is_there():
    snapshot = at("dh_prev", 1)
    rows = ["".join(segment.text for segment in row) for row in flow_table(P, snapshot, "h", snapshot.flow(), 140, 20)]
    for flow, row in zip(reversed(snapshot.flow()), rows[1:], strict=False):
        if flow is None:
            assert row.split() == ["t", "1", "·"]
            continue
        shown = [numbers.unit(x).strip() for x in (flow.dh, flow.from_output, flow.from_future, flow.handed_on)]
        assert [word for word in row.split() if word in shown] == shown
        assert row.split()[-8::2] == [f"{share * 100:.1f}" for share in flow.shares]
    assert "the state is carried over by value" in rows[-1]


def test_a_row_singled_out_has_a_flow_of_its_own():
    snapshot = at("dh_prev", 0)
    for row in (0, 1):
        assert numbers.unit(snapshot.flow(row)[2].dh) in lines_of(snapshot, row=row)[-3]
    assert lines_of(snapshot, row=0)[-3:] != lines_of(snapshot, row=1)[-3:]


@pytest.mark.parametrize("make", [tutorial, large])
@pytest.mark.parametrize("palette", [P, palette_for(BLACKBOARD, ASCII)], ids=["unicode", "ascii"])
def test_every_size(make, palette):
    for t in (0, 1):
        snapshot = at("dh_prev", t, batch=1, make=make)
        for width, height in ((10, 2), (20, 3), (36, 4), (38, 6), (56, 6), (56, 7), (78, 10), (100, 20), (160, 50)):
            box = sequence(palette, snapshot, View(1), width, height)
            assert box.height <= height
            if width >= 36:
                assert box.width <= width
            if palette.glyphs is ASCII and make is tutorial:
                assert box.text.isascii()
                assert "?" not in box.text


def test_what_is_not_finite_is_shown():
    options = {"learning_rate": 1e38, "batch": 5}
    for snapshot in (at("dh_prev", 0, **options), at("dh_prev", 1, **options)):
        assert lines_of(snapshot)


def test_every_line_can_be_drawn():
    for snapshot in every_line(carry="notebook"):
        assert len(lines_of(snapshot)) <= 6


def test_the_legend_is_as_long_as_there_is_room():
    snapshot = start()
    assert [len(flow_legend(snapshot, "h", width)) <= width for width in range(22, 74)] == [True] * 52
    assert [flow_legend(snapshot, "h", width) for width in (14, 31, 37, 39, 50, 74)] == [
        "c, h, z, r",
        "carry candidate update reset",
        "c carry h candidate z update r reset",
        "c carry  h candidate  z update  r reset",
        "c carry · h candidate · z update · r reset",
        "shares by size: c carry · h candidate · z update · r reset",
    ]


def test_every_line_says_what_it_is_where_there_is_room():
    """A newcomer knows neither ‖dh‖, nor what the bar beside it is, nor the letters."""
    snapshot = at("dh_prev", 0)
    assert [line[33:].strip() for line in lines_of(snapshot, 56, 5)[-2:]] == ["size of gradient", "share of each path"]
    assert [line[33:].strip() for line in lines_of(snapshot, 41, 5)[-2:]] == ["size", "shares"]
    assert [line[33:].strip() for line in lines_of(snapshot, 56, 6)[-3:]] == ["size of gradient", "% of each path", ""]
    assert all(len(line) <= 33 for line in lines_of(snapshot, 33, 5))


async def test_the_border_says_what_the_bar_before_the_first_timestep_is():
    titles = {}
    for size in ((160, 50), (100, 30), (80, 24)):
        session = tutorial()
        session.learning = True
        session.seek(session.program.tick_of("dh_prev", 0))
        app = make_app(session)
        async with headless(app, size):
            panel = app.screen.query_one(Sequence)
            titles[size] = panel.heading, panel.subheading
    whole = "c carry · h candidate · z update · r reset"
    assert titles == {
        (160, 50): ("sequence · ┃ gradient ends here", whole),
        (100, 30): ("sequence · ┃ dh ends here", whole.replace(" · ", "  ")),
        (80, 24): ("sequence", "carry candidate update reset"),
    }


PICTURES = {
    "tutorial": (at("dh_prev", 0), (56, 6), {}),
    "on-the-way": (at("dz", 1), (56, 6), {"theme": "whiteboard"}),
    "table": (at("dh_prev", 0, batch=1, carry="notebook"), (146, 14), {}),
    "large": (at("dh_prev", 9, batch=1, make=large), (36, 6), {}),
    "large-table": (at("dh_prev", 3, batch=1, make=large), (126, 38), {}),
    "ascii": (at("dh_prev", 0, batch=1, carry="notebook"), (56, 6), {"glyphs": ASCII}),
    "ansi": (at("dh_prev", 0), (56, 6), {"theme": "ansi-dark"}),
}


@pytest.mark.parametrize("name", PICTURES)
def test_texts(content, snapshot, name):
    moment, size, options = PICTURES[name]
    assert content(Sequence(), moment, *size, **options).described() == snapshot
