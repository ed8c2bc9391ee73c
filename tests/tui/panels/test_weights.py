import numpy as np
import pytest

from tui_gru.engine.parameters import parameter_names
from tui_gru.tui.panels.weights import Overview, ParameterMatrix, Weights
from tui_gru.tui.view import View
from tui_gru.tui.widgets import numbers


def compact(array):
    return [numbers.compact(x).strip() for x in np.ravel(array)]


def words(text):
    return text.translate({ord(sign): " " for sign in "()⎛⎜⎝⎞⎟⎠"}).split()


async def test_all_weights_of_a_small_model_as_they_are_before_the_first_step(board, moment, written):
    weights, snapshot = Weights(), moment("computed")
    async with board(weights).run_test(size=(78, 13)) as pilot:
        weights.show(snapshot, View())
        await pilot.pause()
        overview = weights.query_one(Overview)
        shown = written(overview)
        assert "no gradients yet: a takes an SGD step, l turns learning on" in shown
        values = [word for name in parameter_names("before") for word in compact(snapshot.parameter(name))]
        text = shown[: shown.index("no gradients")]
        assert sorted(values) == sorted(word for word in words(text) if word not in parameter_names("before"))
        accented = {s.text for strip in overview._strips for s in strip if s.style == overview.palette.accent}
        assert accented == {"Wh", "Uh", "bh"}


async def test_gradients_and_changes_come_where_there_is_room(board, moment, written):
    weights, snapshot = Weights(), moment("sgd")
    async with board(weights).run_test(size=(78, 42)) as pilot:
        weights.show(snapshot, View())
        await pilot.pause()
        shown = written(weights.query_one(Overview))
        assert [f"{sign}Wz" in shown for sign in ("", "d", "Δ")] == [True] * 3
        for array in (snapshot.gradient("Wy"), snapshot.last_step("Wy")):
            assert " ".join(compact(array[0])) in shown
        await pilot.resize_terminal(78, 12)
        await pilot.pause()
        assert "dWz" not in written(weights.query_one(Overview))
        await pilot.resize_terminal(160, 12)
        await pilot.pause()
        shown = written(weights.query_one(Overview)).splitlines()[0]
        assert "Wz" in shown
        assert "dWz" in shown


async def test_a_gradient_that_is_not_there_yet_is_dots(board, moment, written):
    weights, snapshot = Weights(), moment("backward")
    weights.mode = "gradients"
    async with board(weights).run_test(size=(90, 13)) as pilot:
        weights.show(snapshot, View())
        await pilot.pause()
        rows = written(weights.query_one(Overview)).splitlines()
        assert snapshot.gradient("Wy") is None
        assert rows[0].split()[-6:] == ["⎛", *"····", "⎞"]


async def test_the_mode_goes_round(board, moment):
    weights = Weights()
    async with board(weights).run_test(size=(78, 13)) as pilot:
        weights.show(moment("sgd"), View())
        weights.query_one(Overview).focus()
        seen = []
        for _ in range(4):
            weights.action_cycle_mode()
            await pilot.pause()
            seen.append((weights.mode, str(weights.query_one(Overview).border_title)))
        titles = ["weights", "gradients", "last change", "weights"]
        assert seen == list(zip(["weights", "gradients", "changes", "all"], titles, strict=True))


async def test_one_parameter_alone_and_back(board, moment, written):
    weights, snapshot = Weights(), moment("sgd")
    chosen = []

    class Page(board):
        def on_matrix_view_cell_chosen(self, event):
            chosen.append((event.matrix.value_name, event.row, event.column))

    async with Page(weights).run_test(size=(78, 13)) as pilot:
        weights.show(snapshot, View())
        weights.query_one(Overview).focus()
        await pilot.press(">", ">", "enter")
        matrix = weights.query_one(ParameterMatrix)
        assert pilot.app.focused is matrix
        assert not weights.query_one(Overview).display
        assert str(matrix.border_title).startswith("Wz  Wr  ‹Wh›  Uz")
        assert numbers.wide(snapshot.parameter("Wh")[2, 0]) in written(matrix)
        await pilot.press("down", "right")
        assert str(matrix.border_subtitle) == f"Wh, a → unit 2 = {numbers.exact(snapshot.parameter('Wh')[1, 1])}"
        weights.action_cycle_mode()
        await pilot.press("enter", "<", "<", "<", "enter")
        assert chosen == [("dWh", 1, 1), ("dby", 0, 1)]
        assert str(matrix.border_title).endswith("Wy  ‹dby›")
        await pilot.press("escape")
        assert pilot.app.focused is weights.query_one(Overview)


async def test_a_large_model_is_a_heat_map_at_a_time(board, moment):
    weights = Weights()
    async with board(weights).run_test(size=(40, 13)) as pilot:
        weights.show(moment("large"), View())
        await pilot.pause()
        matrix = weights.query_one(ParameterMatrix)
        assert matrix.display
        assert not matrix.as_numbers
        matrix.focus()
        await pilot.press("escape", *"<")
        assert matrix.display
        assert str(matrix.border_title).endswith("‹by›")
        assert len(str(matrix.border_title)) <= 34


@pytest.mark.parametrize("name", ["after", "in update"])
async def test_what_the_line_has_just_computed_is_picked_out(board, moment, name):
    weights, snapshot = Weights(), moment(name)
    async with board(weights).run_test(size=(160, 40)) as pilot:
        weights.show(snapshot, View())
        await pilot.pause()
        overview = weights.query_one(Overview)
        overview.render_line(0)
        accented = {s.text for strip in overview._strips for s in strip if s.style == overview.palette.accent}
        assert {snapshot.line.target, *snapshot.line.reads} & accented
