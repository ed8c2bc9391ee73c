import re

import numpy as np
import pytest

from tests.tui.panels.sessions import at, large
from tui_gru import Session
from tui_gru.engine import numbers
from tui_gru.tui.draw import Ref
from tui_gru.tui.headless import headless
from tui_gru.tui.panel import View
from tui_gru.tui.panels import weights as sheets
from tui_gru.tui.panels.weights import Overview, ParameterMatrix, WeightsPanel
from tui_gru.tui.theme import ASCII, BLACKBOARD, palette_for, transliterate
from tui_gru.tui.written import bracketed_matrix


def compact(array):
    return [numbers.compact(x).strip() for x in np.ravel(array)]


def words(text):
    return text.translate({ord(sign): " " for sign in "()⎛⎜⎝⎞⎟⎠"}).split()


async def test_all_weights_of_a_small_model_as_they_are_before_the_first_step(board, moment, written):
    weights, snapshot = WeightsPanel(), moment("computed")
    async with board(weights).run_test(size=(78, 13)) as pilot:
        weights.show(snapshot, View())
        await pilot.pause()
        overview = weights.query_one(Overview)
        shown = written(overview)
        assert "no gradients yet: a takes an SGD step, l turns learning on" in shown
        values = [word for name in snapshot.program.parameters for word in compact(snapshot.parameter(name))]
        text = shown[: shown.index("no gradients")]
        assert sorted(values) == sorted(word for word in words(text) if word not in snapshot.program.parameters)
        accented = {s.text for strip in overview.drawn for s in strip if s.style == overview.palette.accent}
        assert accented == {"Wh", "Uh", "bh"}


@pytest.fixture
def drawn(monkeypatch):
    """Return the matrices that sheets draw, as they are drawn."""
    matrices = []
    monkeypatch.setattr(
        sheets, "bracketed_matrix", lambda *args, **options: (matrices.append(options), bracketed_matrix(*args, **options))[1]
    )
    return matrices


def test_a_sheet_draws_each_matrix_once_for_all_widths(drawn):
    session = Session(seed=777)  # whose weights no other test has drawn
    session.learning = True
    session.step("batch", 2)
    names = session.program.parameters
    for width in (80, 120):
        sheets.sheet(palette_for(BLACKBOARD), session.snapshot(), names, sheets.GRADIENTS, width, sheets.Spacing(compact=True))
    assert len(drawn) == len(names)


def test_a_step_that_changes_no_weight_draws_no_matrix_of_a_sheet(drawn):
    session = Session(seed=778)
    for _ in range(2):
        session.step("op")
        drawn.clear()
        snapshot, spacing = session.snapshot(), sheets.Spacing(compact=True)
        sheets.sheet(palette_for(BLACKBOARD), snapshot, snapshot.program.parameters, sheets.WEIGHTS, 80, spacing)
    assert not drawn  # the titles of what the line reads are lit


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("options", [{}, {"cell": "lstm"}, {"layers": 2, "bidirectional": True}, {"hidden_size": 5}], ids=str)
def test_the_size_of_a_sheet_is_known_before_anything_is_drawn(drawn, options, compact):
    snapshot, palette = Session(**options).snapshot(), palette_for(BLACKBOARD)
    names = snapshot.program.parameters_with(View().layer_of(snapshot))
    sizes = {
        width: sheets.sheet_size(palette, snapshot.program, names, width, sheets.Spacing(compact)) for width in range(30, 240, 7)
    }
    assert not drawn
    for width, size in sizes.items():
        box = sheets.sheet(palette, snapshot, names, sheets.WEIGHTS, width, sheets.Spacing(compact))
        assert size == (box.width, box.height)


async def test_gradients_and_changes_come_where_there_is_room(board, moment, written):
    weights, snapshot = WeightsPanel(), moment("sgd")
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
        await pilot.resize_terminal(110, 12)
        await pilot.pause()
        shown = written(weights.query_one(Overview))
        assert "dWz" not in shown
        for row in snapshot.parameter("Wy"):
            assert " ".join(f"{x:+.4f}" for x in row) in shown
        await pilot.resize_terminal(210, 12)
        await pilot.pause()
        shown = written(weights.query_one(Overview))
        assert "Wz" in shown.splitlines()[0]
        assert "dWz" in shown.splitlines()[0]
        assert " ".join(f"{x:+.4f}" for x in snapshot.parameter("Wy")[0]) in shown


async def test_a_wide_panel_has_the_norms_of_each_gate_beside_the_weights(board, moment, written):
    weights, snapshot = WeightsPanel(), moment("sgd")
    groups = [("Wz", "Uz"), ("Wr", "Ur"), ("Wh", "Uh"), ("Wy", "by"), ("bz", "br", "bh")]
    kinds = snapshot.parameter, snapshot.gradient, snapshot.last_step
    async with board(weights).run_test(size=(142, 13)) as pilot:
        weights.show(snapshot, View())
        await pilot.pause()
        rows = written(weights.query_one(Overview)).splitlines()
        assert rows[0].split()[-4:] == ["sizes", "‖W‖", "‖dW‖", "‖ΔW‖"]
        for row, group in zip(rows[1:], groups, strict=False):
            norms = [np.sqrt(sum(np.sum(np.square(kind(name), dtype=np.float64)) for name in group)) for kind in kinds]
            assert row.split()[-len(group) - 3 :] == [*group, *map(numbers.plain, norms)]
        await pilot.resize_terminal(112, 13)  # too narrow for them: the matrices are further apart
        await pilot.pause()
        assert "‖" not in (loose := written(weights.query_one(Overview)))
        assert re.search(r"Wz +1 +2 {5,}Wr", loose)
        await pilot.resize_terminal(132, 13)
        await pilot.pause()
        assert max(len(row.rstrip()) for row in written(weights.query_one(Overview)).splitlines()) > 120  # not at the left alone
        weights.show(moment("start"), View())
        await pilot.resize_terminal(142, 13)
        await pilot.pause()
        assert written(weights.query_one(Overview)).splitlines()[1].split()[-2:] == ["·", "·"]  # no gradient, no change yet


async def test_a_gradient_that_is_not_there_yet_is_dots(board, moment, written):
    weights, snapshot = WeightsPanel(), moment("backward")
    weights.mode = "gradients"
    async with board(weights).run_test(size=(90, 13)) as pilot:
        weights.show(snapshot, View())
        await pilot.pause()
        rows = written(weights.query_one(Overview)).splitlines()
        assert snapshot.gradient("Wy") is None
        assert any(row.split()[-6:] == ["⎛", *"····", "⎞"] for row in rows)


async def test_the_mode_goes_round(board, moment):
    weights = WeightsPanel()
    async with board(weights).run_test(size=(78, 13)) as pilot:
        weights.show(moment("sgd"), View())
        overview = weights.query_one(Overview)
        await pilot.pause()
        assert (str(overview.border_title), str(overview.border_subtitle)) == ("weights", "x: gradients")
        seen = []
        for _ in range(4):
            weights.action_cycle_mode()
            await pilot.pause()
            seen.append((weights.mode, str(overview.border_title)))
        assert seen == [("gradients", "gradients"), ("changes", "last change"), ("all", "weights"), ("gradients", "gradients")]


async def test_the_mode_goes_on_to_what_the_border_names(board, moment):
    for name, note in (("past", "x: weights"), ("in update", "x: gradients"), ("next", "x: last change")):
        weights = WeightsPanel()
        async with board(weights).run_test(size=(78, 8)) as pilot:
            weights.show(moment(name), View())
            overview = weights.query_one(Overview)
            await pilot.pause()
            assert str(overview.border_subtitle) == note
            weights.action_cycle_mode()
            await pilot.pause()
            assert f"x: {overview.border_title}" == note


async def test_a_cursor_goes_from_number_to_number_over_all_matrices(board, moment):
    weights, snapshot = WeightsPanel(), moment("sgd")
    asked = []

    class Page(board):
        def on_request(self, event):
            asked.extend(event.arguments)

    async with headless(Page(weights), (78, 42)) as pilot:
        weights.show(snapshot, View())
        overview = weights.query_one(Overview)
        overview.focus()
        overview.pointed = Ref("Wz", (0, 1))
        await pilot.press("down", "enter")
        assert overview.subheading == f"Wz[“a”, unit 2] = {numbers.exact(snapshot.parameter('Wz')[1, 1])}"
        await pilot.press("right", "enter")
        await pilot.press("left", "down", "down", "down", "enter", "up", "enter")
        assert asked == [Ref("Wz", (1, 1)), Ref("Wr", (1, 0)), Ref("Uz", (0, 1)), Ref("Wz", (3, 1))]
        for _ in range(20):
            await pilot.press("down")
        await pilot.press("enter")
        assert asked[-1] == Ref("Uz", (1, 1), change=True)


async def test_a_large_model_is_a_heat_map_at_a_time(board, moment):
    weights = WeightsPanel()
    async with board(weights).run_test(size=(40, 13)) as pilot:
        weights.show(moment("large"), View())
        await pilot.pause()
        matrix = weights.query_one(ParameterMatrix)
        assert matrix.display
        assert not matrix.as_numbers
        matrix.focus()
        await pilot.press(">")
        assert matrix.display
        assert str(matrix.border_title).endswith("‹by›")
        assert len(str(matrix.border_title)) <= 34


async def test_the_number_under_the_cursor_of_a_large_model_is_named_as_what_it_is(board, moment):
    """A gradient or a change is not called by the name of the weight."""
    weights, snapshot = WeightsPanel(), moment("large")
    async with board(weights).run_test(size=(60, 13)) as pilot:
        weights.show(snapshot, View())
        await pilot.pause()
        matrix = weights.query_one(ParameterMatrix)
        weights.chosen = "bh"
        named = []
        for mode, read in (("weights", snapshot.parameter), ("gradients", snapshot.gradient), ("changes", snapshot.last_step)):
            weights.mode = mode
            weights.show(snapshot, View())
            matrix.focus()
            matrix.cursor = (0, 11)
            await pilot.pause()
            name, _, number = matrix.subheading.partition(", unit 12 = ")
            array = read("bh")
            assert number == (numbers.exact(array[11]) if array is not None else "·")
            named.append(name)
        assert named == ["bh", "dbh", "Δbh"]


@pytest.mark.parametrize("name", ["after", "in update"])
async def test_what_the_line_has_just_computed_is_picked_out(board, moment, name):
    weights, snapshot = WeightsPanel(), moment(name)
    async with board(weights).run_test(size=(160, 40)) as pilot:
        weights.show(snapshot, View())
        await pilot.pause()
        overview = weights.query_one(Overview)
        overview.render_line(0)
        accented = {s.text for strip in overview.drawn for s in strip if s.style == overview.palette.accent}
        assert {snapshot.line.target, *snapshot.line.reads} & accented


async def test_a_large_model_shows_the_weight_that_the_line_at_work_computes_or_reads(board):
    weights = WeightsPanel()
    lines = {
        "z": "Wz",
        "r": "Wr",
        "h_tilde": "Wh",
        "h": "Wh",
        "logits": "Wy",
        "y_hat": "Wy",
    }
    lines |= {"dh": "Wy", "drh": "Uh", "dUz": "Uz", "Ur": "Ur"}
    async with board(weights).run_test(size=(90, 16)) as pilot:
        for target, parameter in lines.items():
            weights.show(at(target, None if target == "Ur" else 0, make=large), View())
            await pilot.pause()
            assert weights.query_one(ParameterMatrix).parameter == parameter
        weights.action_choose(1)
        assert weights.chosen == "Uh"
        weights.show(at("z", 0, make=large), View())
        assert weights.query_one(ParameterMatrix).parameter == "Uh"  # chosen
    assert sheets.parameter_of(at("z", 0).program, "dlogits") == "Wy"  # neither this line nor those just before it have one


async def test_in_ascii_a_change_cannot_be_taken_for_a_gradient(board, moment, written):
    weights = WeightsPanel()
    async with board(weights, glyphs=ASCII).run_test(size=(78, 42)) as pilot:
        weights.show(moment("sgd"), View())
        await pilot.pause()
        text = written(weights.query_one(Overview))
        assert {"Wz", "dWz", "change Wz", "change bh"} <= set(re.findall(r"change \w+|\w+", text))
        assert "DW" not in text
        assert text.isascii()
        message = weights.go_to_largest("changes")
        assert transliterate(message, ASCII).startswith("the largest: change W")
