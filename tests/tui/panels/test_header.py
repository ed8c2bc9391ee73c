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


@pytest.mark.parametrize(
    ("name", "middle", "right"),
    [
        ("start", "epoch 1 · batch 1/3 · start", "learning off  η 0.01"),
        ("computed", "epoch 1 · batch 1/3 · t 2/3 · forward", "learning off  η 0.01  ③ t 1: 1.6710"),
        ("loss", "epoch 1 · batch 1/3 · loss", "learning off  η 0.01  loss 1.2602"),
        ("sgd", "epoch 2/100 · batch 1/3 · update", "learning on  η 0.01  loss 1.2568"),
        ("backward", "epoch 1 · batch 2/3 · t 3/3 · backward", "learning on  η 0.01  carry notebook  loss 1.4157"),
    ],
)
def test_it_says_where_one_is_and_what_the_loss_is_of(moment, name, middle, right):
    text = line(moment(name))
    assert text.startswith("tui-gru  MathMathMathMathMath  ")
    assert middle in text
    assert text.endswith(f"  {right}")
    assert cell_len(text) == 160


def test_before_a_batch_has_a_loss_that_of_the_last_is_called_so():
    session = Session()
    session.step("batch")
    session.step("op")
    assert line(session.snapshot()).endswith("last batch’s loss 1.2602")


def test_how_far_back_one_is():
    session = Session()
    session.step("epoch", 10)
    session.step("op", -1)
    assert "◂ 1 tick back" in line(session.snapshot())
    session.step("batch", -12)
    assert "◂ at 59 % of the run" in line(session.snapshot())


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
        assert "rounding amplified from epoch 3, batch 2" in line(replace(moment("sgd"), machine=chaotic), width)
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
            assert f"batch {snapshot.position.batch + 1}/" in text
    assert line(snapshot, 200).count("  ") >= 2


async def test_it_is_one_row_as_wide_as_the_screen(board, moment):
    top = Header()
    async with board(top).run_test(size=(90, 5)) as pilot:
        assert not top.render_line(0).text.strip()
        top.show(moment("large"), View())
        await pilot.pause()
        assert top.size.height == 1
        assert top.render_line(0).cell_length == 90
        assert "⏎" not in top.render_line(0).text[:8]


def test_it_shows_the_text_as_it_has_been_changed():
    session = Session()
    session.step("timestep")
    session.edit("text", 5, "M")
    assert line(session.snapshot()).startswith("tui-gru  MathMMthMath")
    session.undo()
    assert line(session.snapshot()).startswith("tui-gru  MathMathMath")
