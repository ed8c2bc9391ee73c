import pytest

from tui_gru.engine import numbers
from tui_gru.tui.headless import headless
from tui_gru.tui.matrix import MatrixView
from tui_gru.tui.panel import View
from tui_gru.tui.panels.values import Gates, ValueMatrix


def texts(gates, written):
    return {matrix.value_name: written(matrix) for matrix in gates.query(ValueMatrix)}


async def test_values_are_those_recorded_and_what_is_not_computed_is_dots(board, moment, written):
    snapshot = moment("computed")
    gates = Gates(snapshot.program)
    async with board(gates).run_test(size=(120, 6)) as pilot:
        gates.show(snapshot, View())
        await pilot.pause()
        shown = texts(gates, written)
        assert list(shown) == ["h_prev", "r", "h_tilde", "z", "h"]
        for name in ("z", "r", "h_tilde", "h_prev"):
            write = numbers.unit if name in ("z", "r") else numbers.wide
            for row, line in zip(snapshot.value(name), shown[name].splitlines(), strict=False):
                assert line.strip().strip("⎛⎝⎞⎠").split() == [write(x).strip() for x in row]
        assert not any(digit in shown["h"] for digit in "0123456789")
        assert [matrix.value_name for matrix in gates.query(ValueMatrix) if matrix.fresh] == ["h_tilde"]


async def test_nothing_is_known_before_the_first_line(board, moment, written):
    gates = Gates(moment("computed").program)
    async with board(gates).run_test(size=(120, 6)) as pilot:
        gates.show(moment("sgd"), View())
        await pilot.pause()
        gates.show(moment("start"), View())
        await pilot.pause()
        assert not any(digit in text for text in texts(gates, written).values() for digit in "0123456789")


async def test_in_the_backward_phase_the_deltas_take_their_places(board, moment, written):
    snapshot = moment("backward")
    gates = Gates(snapshot.program)
    async with board(gates).run_test(size=(120, 6)) as pilot:
        gates.show(snapshot, View())
        await pilot.pause()
        assert str(gates.border_title) == "gradients of the gates — from the state after to the state before"
        shown = texts(gates, written)
        assert list(shown) == ["dh_future", "dh", "dz", "dh_tilde", "dr"]
        assert numbers.wide(snapshot.value("dz")[0, 1]) in shown["dz"]
        titles = [str(matrix.border_title) for matrix in gates.query(ValueMatrix)]
        assert titles == ["dh←  from later", "→ dh", "→ dz", "→ dh\u0303", "→ dr"]
        gates.show(moment("sgd"), View())
        assert str(gates.query(ValueMatrix).first().border_title) == "hₜ₋₁  before"
        assert str(gates.border_title) == "gates — from the state before to the state after"


async def test_a_step_sets_the_texts_of_the_border_once(board, moment, monkeypatch):
    gates, set_for = Gates(moment("computed").program), []
    caption = Gates.caption
    async with board(gates).run_test(size=(120, 6)) as pilot:
        gates.show(moment("computed"), View())
        await pilot.pause()
        monkeypatch.setattr(Gates, "caption", lambda self: (set_for.append(self._snapshot), caption(self))[1])
        gates.show(moment("backward"), View())
        assert set_for == [moment("backward")]
        gates.query(ValueMatrix).first().focus()
        await pilot.pause()
        assert str(gates.border_subtitle) == gates.query(ValueMatrix).first().subheading != ""


async def test_a_cell_is_named_as_people_count(board, moment):
    gates = Gates(moment("computed").program)
    chosen = []

    class Page(board):
        def on_number_asked(self, event):
            chosen.append((event.ref.name, *event.ref.index))

    async with headless(Page(gates), (200, 6)) as pilot:
        gates.show(moment("computed"), View(row=1))
        matrix = gates.query(ValueMatrix).first()
        matrix.focus()
        await pilot.press("down", "right", "enter")
        assert str(matrix.border_subtitle).startswith("row 2, unit 2 = -0.20403")
        assert str(gates.border_subtitle) == str(matrix.border_subtitle)
        assert chosen == [("h_prev", 1, 1)]
        assert matrix.row == 1


@pytest.mark.parametrize(
    ("size", "rows"), [((160, 6), 1), ((80, 6), 1), ((40, 12), 2), ((50, 12), 2), ((40, 5), 1), ((10, 2), 1), ((16, 24), 5)]
)
async def test_as_many_in_a_row_as_fit(board, moment, size, rows):
    gates = Gates(moment("computed").program)
    async with board(gates).run_test(size=size) as pilot:
        gates.show(moment("computed"), View())
        await pilot.pause()
        assert len({matrix.region.y for matrix in gates.query(MatrixView)}) == rows
