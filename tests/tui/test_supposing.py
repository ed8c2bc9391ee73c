"""What-if for the number under the cursor, on the main screen."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tui.test_main_screen import Driver, driving
from tui_gru.tui.command import CommandLine
from tui_gru.tui.draw import Ref
from tui_gru.tui.panels.derivation import DerivationPanel, WhatIfPanel
from tui_gru.tui.panels.line import CurrentLine
from tui_gru.tui.panels.sequence import Sequence
from tui_gru.tui.panels.time import Header
from tui_gru.tui.panels.values import ValueMatrix
from tui_gru.tui.panels.weights import Overview


def panel(d: Driver) -> WhatIfPanel:
    overlay = d.screen.overlay
    assert isinstance(overlay, WhatIfPanel)
    return overlay


async def retype(d: Driver, value: str) -> None:
    """Type another value; the old one is selected and is replaced."""
    await d.type(value, "enter")


async def test_a_gate_is_supposed_otherwise_and_nothing_has_happened() -> None:
    async with driving() as d:
        await d.type("l", "n", "S", "s", "s", "N", "s", "o")
        z = d.session.value("z").copy()
        d.screen.set_focus(next(each for each in d.screen.query(ValueMatrix) if each.value_name == "z"))
        await d.type("right", "i")
        assert d.screen.query_one(CommandLine).value == f"what-if z[row 1, unit 2] {z[0, 1]!s}"
        await retype(d, "0.9")
        what_if = panel(d).what_if
        assert (what_if.name, what_if.index, what_if.value) == ("z", (0, 1), np.float32(0.9))
        text = panel(d).plain_text()
        assert "what if z[row 1, unit 2] at t 2 were 0.9000?" in text
        loss, then = (line for line in text.splitlines() if line.startswith(("loss", "      then")))
        assert loss.split()[:3] == ["loss", "now", f"{what_if.losses[0]:.4f}"]
        assert then.split()[:2] == ["then", f"{what_if.losses[1]:.4f}"]
        np.testing.assert_array_equal(d.session.value("z"), z)
        await d.type("escape")
        assert d.screen.overlay is None
        assert d.session.branches == ("main",)


async def suppose_a_weight(d: Driver) -> WhatIfPanel:
    await d.type("l", "s", ":what-if Wz[0,1] 2")
    return panel(d)


async def test_the_loss_and_the_predictions_come_first_then_what_changes_most() -> None:
    async with driving() as d:
        shown = (await suppose_a_weight(d)).plain_text()
        places = [shown.index(words) for words in ("loss  now", "ŷ of row", "values that would change most", "space unfolds all")]
        assert places == sorted(places)
        assert shown.count("█") > 20
        prediction = panel(d).what_if.prediction
        assert prediction is not None
        for probability in (*prediction.before, *prediction.after):
            assert f"{probability:.4f}" in shown


async def test_space_unfolds_all_that_would_differ_and_folds_it_again() -> None:
    async with driving() as d:
        what_if = await suppose_a_weight(d)
        folded = what_if.plain_text()
        await d.type("space")
        unfolded = what_if.plain_text()
        assert "all values that would differ" in unfolded
        assert len(unfolded.splitlines()) > len(what_if.what_if.differences) > len(folded.splitlines())
        await d.type("space")
        assert what_if.plain_text() == folded


async def test_plus_and_minus_take_another_number_and_everything_is_drawn_anew() -> None:
    async with driving() as d:
        what_if = await suppose_a_weight(d)
        first = what_if.plain_text()
        await d.type("plus")
        assert what_if.what_if.value == pytest.approx(2.2)
        assert what_if.plain_text() != first
        assert "were 2.2000?" in what_if.heading
        await d.type("3", "minus")
        assert what_if.what_if.value == pytest.approx(1.6)
        assert what_if.what_if.losses[1] == d.session.what_if("Wz", (0, 1), 1.6).losses[1]
        assert d.session.branches == ("main",)
        await d.type("2", "plus")
        await d.type("minus")
        await d.type("plus", "minus")
        await d.type("minus")
        assert what_if.plain_text().splitlines()[2:] != first.splitlines()[2:]
        await d.type("2", "plus")
        assert what_if.plain_text() == first


async def test_a_number_of_another_batch_is_not_nudged() -> None:
    async with driving() as d:
        what_if = await suppose_a_weight(d)
        await d.type("n", "n", "plus")
        assert what_if.what_if.value == 2
        assert "another batch" in d.says


async def test_only_the_value_is_edited_behind_a_command_that_a_key_has_begun() -> None:
    async with driving() as d:
        await d.type("s", "s")
        d.screen.set_focus(next(each for each in d.screen.query(ValueMatrix) if each.value_name == "z"))
        await d.type("i")
        line = d.screen.query_one(CommandLine)
        begun = "what-if z[row 1, unit 1] "
        assert line.selected_text == str(d.session.value("z")[0, 0])
        await d.type("1.5")
        assert line.value == f"{begun}1.5"
        await d.type("ctrl+w")
        assert line.value == begun
        await d.type("ctrl+w", "ctrl+u")
        assert line.value == begun
        await d.type("0.25", "space", "t", "ctrl+w")
        assert line.value == f"{begun}0.25 "
        await d.type("ctrl+u", "0.5", "enter")
        assert panel(d).what_if.value == 0.5


async def test_a_value_of_another_timestep_is_selected_without_its_timestep() -> None:
    async with driving() as d:
        await d.type("s", "s", "s")
        sequence = d.screen.query_one(Sequence)
        d.screen.set_focus(sequence)
        sequence.pointed = Ref("y_hat", (0, 1), 0)
        await d.type("i")
        line = d.screen.query_one(CommandLine)
        assert line.value.endswith(" t 1")
        await d.type("0.5")
        assert line.value == "what-if y_hat[row 1, “a”] 0.5 t 1"


async def test_kept_it_is_an_edit_and_a_branch() -> None:
    async with driving() as d:
        await d.type("l", "3n", "2N")
        d.screen.set_focus(d.screen.query_one(Overview))
        d.screen.query_one(Overview).pointed = Ref("Wz", (3, 0))
        await d.type("n", "s", "i")
        await retype(d, "0.5")
        then = panel(d).what_if.losses[1]
        await d.type("enter")
        assert d.session.branch == "main~1"
        assert d.says == (
            "Wz[“M”, unit 1] is 0.5 from here on · now at the end of epoch 1 · batch 2: batch 3 begins with the next line"
            " · on branch main~1; the old future stays on main"
        )
        await d.type("n")
        assert d.session.parameter("Wz")[3, 0] != 0.5  # it has learned since
        await d.type("S", "S", "S")
        d.session.seek(panel_loss_tick(d))
        assert d.session.loss == then
        assert d.session.switch("main") is not None


def panel_loss_tick(d: Driver) -> int:
    """Return the tick of the loss of the current batch."""
    return d.session.position.number * d.session.program.ticks + d.session.program.loss_tick


async def test_a_character_of_the_text_is_changed_from_the_cursor() -> None:
    async with driving() as d:
        await d.type("s")
        d.screen.set_focus(d.screen.query_one(Sequence))
        d.screen.query_one(Sequence).pointed = Ref("x", (1, 3), 1)
        await d.type("i")
        assert d.screen.query_one(CommandLine).value == "set text[4] M"
        await retype(d, "t")
        assert d.screen.snapshot.corpus.text[:6] == "Mathta"


async def test_a_weight_can_be_supposed_otherwise_after_the_update_of_its_batch() -> None:
    async with driving() as d:
        await d.type("l", "n")
        d.screen.set_focus(d.screen.query_one(Overview))
        d.screen.query_one(Overview).pointed = Ref("Wz", (3, 0))
        await d.type("i")
        await retype(d, "0.5")
        assert "it is −1.5228 at the beginning of this batch" in panel(d).plain_text()
        await d.type("enter")
        assert d.session.parameter("Wz")[3, 0] == 0.5
        assert d.where == (0, 0, 0, "start")


async def test_a_number_of_a_derivation_is_supposed_otherwise() -> None:
    async with driving() as d:
        await d.type("s", "o", "o", "o", "o", "enter", "down", "down", "i")
        assert d.screen.query_one(CommandLine).value.startswith("what-if z[row 1, unit 1] 0.")


async def test_without_a_cursor_the_result_of_the_current_line_is_supposed_otherwise() -> None:
    """What the panel of the line offers, in the row that `enter` explains."""
    async with driving() as d:
        await d.type("s", "o", "r", "r", "i")
        assert d.screen.query_one(CommandLine).value.startswith("what-if z[row 2, unit 1] 0.")


async def test_what_cannot_be_supposed_says_why() -> None:
    async with driving() as d:
        for typed, word in (
            ("i", "put the cursor on a number first"),
            (":what-if z", "write it as z[row 1, unit 2] 0.5"),
            (":what-if z[0,1] 0.5", "has not been computed here yet"),
            (":what-if x[0,1] 0.5", "is an input and cannot be changed"),
        ):
            await d.type(typed)
            assert word in d.says, typed


@pytest.mark.parametrize("size", [(160, 50), (80, 24), (40, 12)])
async def test_what_would_follow_fits_the_screen(size: tuple[int, int]) -> None:
    async with driving(size) as d:
        await d.type("l", "s", ":what-if Wz[0,1] 0.5")
        assert panel(d).virtual_size.width <= panel(d).size.width


# A unit held at 0 in all panels


async def test_a_unit_of_the_map_is_silenced_in_all_panels_and_one_key_shows_the_run_again() -> None:
    async with driving() as d:
        await d.type("l", "5n", "4s", "h", "down")
        before, unit = d.session.value("h").copy(), d.screen.overlay.unit
        loss = d.session.loss
        await d.type("-")
        assert d.screen.overlay is None
        assert d.session.silent == ("h", unit)
        held = f"h[unit {unit + 1}] held at 0"
        assert held in d.screen.query_one(Header).plain_text()
        assert f"the loss is {d.session.loss:.4f}, not {loss:.4f}" in d.screen.bottom.message
        assert d.session.loss != loss
        for panel in d.screen.query(ValueMatrix):
            shown = d.screen.snapshot.value(panel.value_name)
            if panel.value_name in ("h", "h_prev"):
                assert (shown[:, unit] == 0).all()
                np.testing.assert_array_equal(panel.matrix, shown)
        assert f"loss {d.session.loss:.4f}" in d.screen.query_one(Header).plain_text()
        await d.type("o")
        assert held in d.screen.query_one(Header).plain_text()
        await d.type("enter")
        assert isinstance(d.screen.overlay, DerivationPanel)
        await d.type("escape", f":why h[row 1, unit {unit + 1}]", "enter")
        assert "held at 0" in d.screen.overlay.plain_text()
        await d.type("escape", ":what-if z[row 1, unit 1] 0.9")
        assert isinstance(d.screen.overlay, WhatIfPanel)
        assert d.screen.overlay.what_if.silent == d.session.silent
        assert "enter applies it" not in d.screen.overlay.titles(d.screen.snapshot).data
        await d.type("enter")
        assert "is held at 0 in this what-if, and not in the run" in d.screen.bottom.message
        await d.type("escape")
        await d.type("O", "escape")
        assert d.session.silent is None
        assert "held at 0" not in d.screen.query_one(Header).plain_text()
        np.testing.assert_array_equal(d.screen.snapshot.value("h"), before)


async def test_a_unit_is_silenced_by_its_name_or_under_the_cursor() -> None:
    async with driving() as d:
        await d.type(":silence")
        assert d.screen.bottom.message.startswith("put the cursor on a number of a unit first")
        await d.type("l", "n", "s", ":silence z[unit 2]")
        assert d.session.silent == ("z", 1)
        assert (d.screen.snapshot.value("z")[:, 1] == 0).all()
        await d.type(":silence")
        assert d.session.silent is None
        d.screen.set_focus(next(each for each in d.screen.query(ValueMatrix) if each.value_name == "h"))
        await d.type("right", ":silence")
        assert d.session.silent == ("h", 1)
        await d.type(":silence h 2")
        assert d.screen.bottom.message.endswith("a unit is counted from 1; write it as silence h[unit 2]")
        await d.type(":silence h[unit 9]")
        assert "a unit is at most 2, not 9" in d.screen.bottom.message
        assert d.session.silent == ("h", 1)


async def test_a_line_whose_result_is_held_says_so() -> None:
    async with driving() as d:
        await d.type("l", "n", "4o", ":silence h[unit 1]")
        assert "unit 1] is held at 0" in str(d.screen.query_one(CurrentLine).border_subtitle)
