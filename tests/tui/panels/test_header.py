from dataclasses import replace

import pytest
from rich.cells import cell_len

from tui_gru.debugger.history import MachineReport
from tui_gru.session.session import Session
from tui_gru.tui.panel import View
from tui_gru.tui.panels.time import Header, header
from tui_gru.tui.theme import ASCII, BLACKBOARD, palette_for

P = palette_for(BLACKBOARD)


def line(snapshot, width=160, palette=P):
    return "".join(segment.text for segment in header(palette, snapshot, width))


#: The columns of the phase and of what is unusual, by the width of the screen.
COLUMNS = {160: (50, 106), 120: (42, 80), 80: (31, 46)}


@pytest.mark.parametrize(
    ("name", "position", "phase", "right"),
    [
        ("start", "epoch 1  batch 1 of 3 ", "start     learning off, η 0.01", ""),
        ("computed", "epoch 1  batch 1 of 3  t 2 of 3 ", "forward   learning off, η 0.01", "③ t 1: 1.6710"),
        ("loss", "epoch 1  batch 1 of 3 ", "loss      learning off, η 0.01", "loss 1.2602"),
        ("sgd", "epoch 2 of 100  batch 1 of 3 ", "update    learning on, η 0.01", "loss 1.2568"),
        ("backward", "epoch 1  batch 2 of 3  t 3 of 3 ", "backward  learning on, η 0.01, carry notebook", "loss 1.4157"),
    ],
)
def test_it_says_where_one_is_and_what_the_loss_is_of(moment, name, position, phase, right):
    text = line(moment(name))
    assert text.startswith(f" {position}")
    assert text[COLUMNS[160][0] :].startswith(phase)
    assert text.endswith(f" {right} ")
    assert cell_len(text) == 160


@pytest.mark.parametrize("width", COLUMNS)
def test_nothing_in_it_moves_from_line_to_line(width):
    session = Session()
    session.learning = True
    first, second = COLUMNS[width]
    ends = set()
    for _ in range(120):
        session.step("op")
        text = line(session.snapshot(), width)
        assert text[first - 2 : first] == "  "
        assert text[first:].startswith(session.position.phase)
        assert text[second - 2 : second] == "  "
        ends.add(text[-7:])
    assert {end[-1] for end in ends} == {" "}


def test_before_a_batch_has_a_loss_that_of_the_last_is_called_so():
    session = Session()
    session.step("batch")
    session.step("timestep")
    assert line(session.snapshot()).endswith("last batch’s loss 1.2602 ")
    assert line(session.snapshot(), 80).endswith("last loss 1.2602 ")


def test_how_far_back_one_is():
    session = Session()
    session.step("epoch", 10)
    session.step("op", -1)
    assert "past, 1 line back" in line(session.snapshot())
    session.step("batch", -12)
    assert "past, at 59 % of the run" in line(session.snapshot())


def test_a_branch_is_named_once_there_are_two():
    session = Session()
    session.step("batch", 3)
    assert "branch" not in line(session.snapshot())
    session.step("batch", -1)
    session.learning = True
    assert f"branch {session.branch}" in line(session.snapshot())


def test_the_difference_to_the_machine_that_recorded_has_a_place_on_every_width(moment):
    tame = MachineReport("recorded on another machine: numbers differ by up to 3e-7", "other machine: 3e-7", False)
    chaotic = MachineReport("…", "rounding amplified from epoch 3, batch 2", True)
    for width in (80, 120, 160):
        assert "other machine: 3e-7" in line(replace(moment("sgd"), machine=tame), width)
        words = "rounding amplified from epoch 3, batch 2" if width > 80 else "rounding amplified"
        assert words in line(replace(moment("sgd"), machine=chaotic), width)
    assert "machine" not in line(moment("sgd"))
    (badge,) = [each for each in header(P, replace(moment("sgd"), machine=chaotic), 160) if "amplified" in each.text]
    assert badge.style == P.warning


def test_what_is_not_finite_is_a_badge(moment):
    assert "✗ not finite" in line(moment("lost"))
    assert "finite" not in line(moment("broken")), "its loss is still to come"
    assert "finite" not in line(moment("sgd"))


@pytest.mark.parametrize("name", ["start", "sgd", "past", "backward", "large", "broken"])
@pytest.mark.parametrize("palette", [P, palette_for(BLACKBOARD, ASCII)], ids=["unicode", "ascii"])
def test_it_fits_every_width_and_the_position_goes_last(moment, name, palette):
    snapshot = moment(name)
    for width in range(1, 201):
        text = line(snapshot, width, palette)
        assert cell_len(text) <= width
        if width >= 40:
            assert f"batch {snapshot.position.batch + 1}{'/' if width < 100 else ' of '}" in text


async def test_it_is_one_row_as_wide_as_the_screen(board, moment):
    top = Header()
    async with board(top).run_test(size=(90, 5)) as pilot:
        assert not top.render_line(0).text.strip()
        top.show(moment("large"), View())
        await pilot.pause()
        assert top.size.height == 1
        assert top.render_line(0).cell_length == 90
        assert "⏎" not in top.render_line(0).text[:8]
