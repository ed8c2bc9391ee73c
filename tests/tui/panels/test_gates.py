import re
from contextlib import asynccontextmanager

import numpy as np
import pytest
from textual.strip import Strip

from tests.tui.panels.sessions import at, large, start, tutorial
from tui_gru import Session
from tui_gru.engine import numbers
from tui_gru.engine.numbers import exact
from tui_gru.tui.headless import headless
from tui_gru.tui.matrix import MatrixView
from tui_gru.tui.panel import View
from tui_gru.tui.panels.values import Gates, ValueMatrix
from tui_gru.tui.terminal import drawn_lines
from tui_gru.tui.theme import ASCII, UNICODE


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


async def test_a_number_for_each_row_of_the_batch_stands_in_its_row(board, written):
    session = Session(cell="layer-norm-gru")
    gates = Gates(session.program)
    async with board(gates).run_test(size=(160, 10)) as pilot:
        for tick in (1, session.program.tick_of("h", 1)):
            session.seek(tick)
            gates.show(session.snapshot(), View())
            await pilot.pause()
            assert len(texts(gates, written)["sr"].splitlines()) == 2
        assert texts(gates, written)["sr"].split() == [
            f"{left}{numbers.wide(x).strip()}{right}" for left, x, right in zip("⎛⎝", session.value("sr"), "⎞⎠", strict=True)
        ]
        (shown,) = (each for each in gates.query(ValueMatrix) if each.value_name == "sr")
        assert shown.name_cell(1, 0) == "row 2"
        assert shown.refs(1, 0).index == (1,)


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
        assert titles == ["dh←  from later", "→ dh  state", "→ dz  update", "→ dh\u0303  candidate", "→ dr  reset"]
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
        def on_request(self, event):
            chosen.extend((ref.name, *ref.index) for ref in event.arguments)

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


async def test_names_and_words_are_whole_on_a_small_screen(board, moment):
    gates = Gates(moment("computed").program)
    async with board(gates).run_test(size=(80, 5)) as pilot:
        gates.show(moment("computed"), View())
        await pilot.pause()
        titles = [str(matrix.border_title).split() for matrix in gates.query(ValueMatrix)]
        words = [["hₜ₋₁", "before"], ["→", "r", "reset"], ["→", "h\u0303", "candidate"], ["→", "z", "update"], ["→", "h", "state"]]
        assert titles == words
        for matrix, title in zip(gates.query(ValueMatrix), titles, strict=True):
            top = "".join(segment.text for segment in drawn_lines(gates.screen)[matrix.region.y])
            assert " ".join(title) in " ".join(top.split())


async def test_the_values_have_no_border_each_in_ascii_either(board, moment):
    for glyphs in (UNICODE, ASCII):
        gates = Gates(moment("computed").program)
        async with board(gates, glyphs=glyphs).run_test(size=(120, 5)) as pilot:
            gates.show(moment("computed"), View())
            await pilot.pause()
            gates.query(ValueMatrix).first().focus()
            await pilot.pause()
            assert {matrix.gutter.totals for matrix in gates.query(ValueMatrix)} == {(0, 1)}
            assert gates.gutter.height == 2


@pytest.mark.parametrize(
    ("height", "row", "shown", "note"),
    [
        (7, None, [0, 1, 2, 3], "rows 1 to 4 of 8"),
        (4, None, [0], "row 1 of 8"),
        (5, 5, [5, 6], "rows 6 to 7 of 8"),
        (12, 5, range(8), None),
    ],
)
async def test_of_too_many_rows_some_are_shown_as_numbers(board, written, height, row, shown, note):
    session = tutorial(hidden_size=2, batch_size=8, seq_length=3, text="MathMathMathMathMath" * 4)
    session.step("timestep")
    snapshot = session.snapshot()
    gates = Gates(session.program)
    async with board(gates).run_test(size=(90, height)) as pilot:
        gates.show(snapshot, View(row=row))
        await pilot.pause()
        z = next(matrix for matrix in gates.query(ValueMatrix) if matrix.value_name == "z")
        lines = [line.strip(" ⎛⎜⎝()⎞⎟⎠").split() for line in written(z).splitlines()]
        assert lines == [[numbers.unit(x).strip() for x in snapshot.value("z")[i]] for i in shown]
        assert (str(gates.border_subtitle) if gates.border_subtitle else None) == note
        z.focus()
        await pilot.press("down", "down", "down", "down", "down", "down")
        assert f"row 7, unit 1 = {numbers.exact(snapshot.value('z')[6, 0])}" == str(gates.border_subtitle)
        assert numbers.unit(snapshot.value("z")[6, 0]) in written(z)
        last = len(written(z).splitlines()) - 1
        assert z.point_at(1, last)
        assert written(z).splitlines()[last].strip(" ⎛⎜⎝(").startswith(numbers.unit(snapshot.value("z")[z.cursor]))


# ------------------------------------------------------------------------------
# Values of many units, in cells.


@asynccontextmanager
async def mapped(board, snapshot, size=(112, 12), view=View(), **options):  # noqa: B008 - it is frozen
    gates = Gates(snapshot.program)
    gates.styles.height = size[1]
    async with board(gates, **options).run_test(size=size) as pilot:
        gates.show(snapshot, view)
        await pilot.pause()
        yield gates, pilot


def order_of(snapshot, t):
    return np.argsort(-snapshot.value("z", t).astype(float).mean(0), kind="stable")


def matrix_of(gates, name):
    return next(matrix for matrix in gates.query(ValueMatrix) if matrix.value_name == name)


def cells_of(matrix):
    """Return the styles of the cells after the name, row by row."""
    return [[segment.style for segment in row for _ in segment.text][17:81] for row in matrix.drawn]


async def test_values_of_many_units_are_cells_sorted_by_the_gate_that_keeps_the_old_state(board):
    snapshot = at("h", 2, make=large)
    async with mapped(board, snapshot) as (gates, _):
        order, palette = order_of(snapshot, 2), matrix_of(gates, "z").palette
        for name, scale in (("z", palette.unit_scale), ("h_prev", palette.signed_scale)):
            values, cells = snapshot.value(name, 2), cells_of(matrix_of(gates, name))
            assert len(cells) == 2  # four rows of the batch
            for y, row in enumerate(cells):
                for x in (0, 1, 31, 63):
                    parts = [float(values[i, order[x]]) for i in (2 * y, 2 * y + 1)]
                    parts = parts if name == "z" else [(part + 1) / 2 for part in parts]
                    upper, lower = (scale[round(part * (len(scale) - 1))].bgcolor for part in parts)
                    assert (row[x].color, row[x].bgcolor) == (upper, lower)
        shown = [strip.text.split("▀")[0].split() for strip in (matrix.drawn[0] for matrix in gates.query(ValueMatrix))]
        assert shown == [
            ["hₜ₋₁", "before"],
            ["→", "r", "reset"],
            ["→", "h̃", "candidate"],
            ["→", "z", "update"],
            ["→", "h", "state"],
        ]
        assert "near ±1" in matrix_of(gates, "h").drawn[0].text
        assert str(gates.border_title).endswith("rows 1–4 of 8, units sorted by z")


async def test_a_new_note_draws_the_last_row_of_the_frame_alone(board, monkeypatch):
    rows = []
    monkeypatch.setattr(Gates, "render_line", lambda gates, y: rows.append(y) or Strip.blank(gates.content_size.width))
    async with mapped(board, at("h", 1, make=large)) as (gates, pilot):
        drawn_lines(pilot.app.screen)
        note = str(gates.border_subtitle)
        rows.clear()
        gates.show(at("h", 2, make=large), View())
        await pilot.pause()
        assert note != str(gates.border_subtitle) in drawn_lines(pilot.app.screen)[-1].text
        assert rows == []


async def test_before_the_gate_is_computed_the_one_before_it_sorts_the_units(board):
    for t in (0, 3):
        snapshot = at("z", t, make=large)
        snapshot = snapshot if t else start(make=large)
        async with mapped(board, snapshot) as (gates, _):
            assert ("sorted by z" in str(gates.border_title)) == bool(t)


async def test_what_is_not_computed_yet_is_one_quiet_sign(board):
    async with mapped(board, at("r", 1, make=large)) as (gates, _):
        for name in ("h_tilde", "h"):
            assert [strip.text.split()[-1] for strip in matrix_of(gates, name).drawn] == ["·"]
        assert matrix_of(gates, "r").drawn[0].text.count("▀") == 64


async def test_the_cursor_is_seen_in_the_cells_and_goes_in_their_order(board):
    snapshot = at("h", 2, make=large)
    async with mapped(board, snapshot) as (gates, pilot):
        matrix, order = matrix_of(gates, "r"), order_of(snapshot, 2)
        matrix.cursor = (0, int(order[4]))
        matrix.focus()
        await pilot.press("right")
        assert matrix.cursor == (0, order[5])
        await pilot.press("down")
        assert matrix.cursor == (1, order[5])
        cells = cells_of(matrix)
        assert [(y, x) for y, row in enumerate(cells) for x, style in enumerate(row) if style == matrix.palette.cursor] == [(0, 5)]
        assert str(gates.border_subtitle) == f"row 2, unit {order[5] + 1} = {exact(snapshot.value('r', 2)[1, order[5]])}"
        await pilot.press(*["down"] * 6)
        assert matrix.cursor[0] == 7
        assert sum(style == matrix.palette.cursor for row in cells_of(matrix) for style in row) == 1  # it stays in view
        assert matrix.point_at(17 + 9, 0)
        assert matrix.cursor[1] == order[9]
        assert not matrix.point_at(3, 0)


async def test_the_border_has_the_units_that_the_letter_has_changed_most(board):
    snapshot = at("h", 2, make=large)
    async with mapped(board, snapshot) as (gates, _):
        before, after = snapshot.value("h_prev", 2)[0], snapshot.value("h", 2)[0]
        most = np.argsort(-np.abs(after - before), kind="stable")[:3]
        said = [f"unit {k + 1} {numbers.compact(before[k]).strip()} → {numbers.compact(after[k]).strip()}" for k in most]
        assert str(gates.border_subtitle).startswith("“")
        assert f"changed most in row 1: {', '.join(said)}" in str(gates.border_subtitle)
    async with mapped(board, at("r", 2, make=large)) as (gates, _):
        assert "changed" not in str(gates.border_subtitle)  # the state is not computed yet


async def test_without_room_for_all_units_the_middle_is_left_out(board):
    snapshot = at("h", 2, make=large)
    async with mapped(board, snapshot, (66, 12)) as (gates, _):
        matrix, order = matrix_of(gates, "z"), order_of(snapshot, 2)
        (row, *_) = (strip.text[17:] for strip in matrix.drawn)
        assert row.count("⋯") == 1
        assert len(row) == 62 - 17
        assert matrix.point_at(61, 0)
        assert matrix.cursor[1] == order[63]
        assert not matrix.point_at(17 + row.index("⋯"), 0)


async def test_a_row_that_is_singled_out_is_alone_in_the_cells(board):
    snapshot = at("h", 2, make=large)
    async with mapped(board, snapshot, view=View(5)) as (gates, _):
        cells = cells_of(matrix_of(gates, "z"))
        palette, values = matrix_of(gates, "z").palette, snapshot.value("z", 2)[5]
        assert len(cells) == 1
        assert cells[0][0] == palette.unit(values[order_of(snapshot, 2)[0]])
        assert "row 6:" in str(gates.border_subtitle)


async def test_without_colours_values_of_many_units_have_histograms(board):
    snapshot = at("h", 2, make=large)
    async with mapped(board, snapshot, glyphs=ASCII) as (gates, _):
        assert all(matrix.form != "cells" for matrix in gates.query(ValueMatrix))
    async with mapped(board, at("h", 2)) as (gates, _):  # there is room for the numbers
        assert all(matrix.form == "numbers" for matrix in gates.query(ValueMatrix))


async def test_gradients_are_cells_in_the_same_order(board):
    snapshot = at("dr", 2, make=large)
    async with mapped(board, snapshot, (112, 22)) as (gates, _):
        assert str(gates.border_title).startswith("gradients of the gates")
        assert "sorted by z" in str(gates.border_title)
        assert [matrix.form for matrix in gates.query(ValueMatrix) if matrix.display] == ["cells"] * 5


@pytest.mark.parametrize("height", [1, 2, 3, 4, 6, 9])
async def test_any_height_has_room_for_a_form_of_the_values(board, height):
    snapshot = at("h", 2, make=large, cell="lstm")
    async with mapped(board, snapshot, (112, height)) as (gates, _):
        assert {matrix.form for matrix in gates.query(ValueMatrix)} <= {"cells", "strips", "map"}


async def test_cells_of_few_units_are_wide_and_their_shares_are_in_words(board):
    """16 units leave most of the row empty at one cell each, and a newcomer does not know ≈±1."""
    snapshot = at("h", 2, make=large, hidden_size=16)
    async with mapped(board, snapshot) as (gates, _):
        order = order_of(snapshot, 2)
        for matrix in gates.query(ValueMatrix):
            assert matrix.drawn[0].text.count("▀") == 4 * 16
        matrix = matrix_of(gates, "h")
        assert matrix.drawn[0].text.endswith("% near ±1")
        assert all(matrix.point_at(17 + x, 0) and matrix.cursor[1] == order[x // 4] for x in range(64))
        assert not matrix.point_at(17 + 64, 0)
    async with mapped(board, at("h", 2, make=large), (106, 12)) as (gates, _):  # no room for the words
        assert matrix_of(gates, "h").drawn[0].text.split("▀")[-1].startswith("  ≈±1 ")


@pytest.mark.parametrize("width", [*range(60, 124, 4), 97, 98, 99, 101, 102, 103])
async def test_values_of_one_kind_have_one_form(board, width):
    """Columns of a grid differ by a cell: some would have room for numbers, and others for their tenths only."""
    snapshot = at("pr", 1, cell="layer-norm-gru")
    async with mapped(board, snapshot, (width, 8)) as (gates, _):
        forms, digits, names = {}, {}, [matrix.border_title or "" for matrix in gates.query(ValueMatrix)]
        for matrix in gates.query(ValueMatrix):
            kind, shown = (matrix.kind, matrix.shape), "".join(strip.text for strip in matrix.drawn)
            forms.setdefault(kind, set()).add(matrix.form)
            if matrix.form == "numbers":
                digits.setdefault(kind, set()).update(map(len, re.findall(r"\d\.(\d+)", shown)))
        assert all(len(found) == 1 for found in (*forms.values(), *filter(None, digits.values()))), (forms, digits)
        assert [str(name) for name in names[1:] if "…" in str(name)] == []


async def test_what_has_no_room_beside_its_place_is_not_cut(board):
    async with mapped(board, at("h", 2, make=large), (80, 6)) as (gates, _):
        texts = [strip.text for matrix in gates.query(ValueMatrix) for strip in matrix.drawn]
        assert any(text.startswith("max ") for text in texts)
        assert not any("…" in text or " at" in text for text in texts)
