import numpy as np

from tui_gru.debugger.program import shown_char
from tui_gru.engine import numbers
from tui_gru.tui.panel import View
from tui_gru.tui.panels.values import Softmax


async def test_every_probability_of_every_row_and_the_target_between_markers(board, moment, written):
    softmax, snapshot = Softmax(), moment("predicted")
    async with board(softmax).run_test(size=(60, 13)) as pilot:
        softmax.show(snapshot, View())
        await pilot.pause()
        lines = [line for line in written(softmax).splitlines() if line.strip()]
        expected = [(row, char) for row in range(2) for char in range(4)]
        for (row, char), line in zip(expected, lines, strict=True):
            assert numbers.unit(snapshot.value("y_hat")[row, char]) in line
            assert f" {snapshot.config.vocabulary[char]} " in line
            target = snapshot.value("target")[row] == snapshot.config.vocabulary[char]
            assert (line.count("▸"), line.count("◂"), line.count("target")) == (target,) * 3
        assert (str(softmax.border_title), str(softmax.border_subtitle)) == ("ŷ  softmax", "t 2")
        assert softmax.has_class("-fresh")


async def test_before_its_line_there_are_dots_and_never_the_timestep_before(board, moment, written):
    softmax = Softmax()
    async with board(softmax).run_test(size=(60, 13)) as pilot:
        for name in ("predicted", "computed", "start"):
            softmax.show(moment(name), View())
            await pilot.pause()
        assert "·" in written(softmax)
        assert not any(sign in written(softmax) for sign in "0█▏▎▍▌▋▊▉.")
        softmax.show(moment("computed"), View())
        await pilot.pause()
        assert written(softmax).count("▸") == 2
        assert "." not in written(softmax)


async def test_rows_stand_side_by_side_where_they_do_not_fit_below_each_other(board, moment, written):
    softmax, snapshot = Softmax(), moment("predicted")
    async with board(softmax).run_test(size=(40, 6)) as pilot:
        softmax.show(snapshot, View())
        await pilot.pause()
        first = written(softmax).splitlines()[0]
        assert [numbers.unit(p[0]) in first for p in snapshot.value("y_hat")] == [True, True]


async def test_of_a_large_vocabulary_the_likeliest_and_the_target(board, moment, written):
    softmax, snapshot = Softmax(), moment("large")
    async with board(softmax).run_test(size=(80, 30)) as pilot:
        softmax.show(snapshot, View())
        await pilot.pause()
        shown = written(softmax)
        assert not softmax.show_vertical_scrollbar
        for row, y_hat in enumerate(snapshot.value("y_hat")):
            target = snapshot.config.vocabulary.index(snapshot.value("target")[row])
            for index in (int(np.argmax(y_hat)), target):
                assert numbers.unit(y_hat[index]) in shown
                assert shown_char(snapshot.config.vocabulary[index]) in shown
        assert shown.count("▸") == 8
        assert f"of {snapshot.config.vocab_size}" in str(softmax.border_subtitle)


async def test_a_row_singled_out_is_alone_where_not_all_fit_and_the_others_quiet_where_they_do(board, moment, written):
    softmax = Softmax()
    async with board(softmax).run_test(size=(60, 13)) as pilot:
        softmax.show(moment("predicted"), View(row=1))
        await pilot.pause()
        styles = {segment.style for strip in softmax.drawn[:4] for segment in strip if segment.text.strip()}
        assert styles == {softmax.palette.dim}
        await pilot.resize_terminal(30, 7)
        softmax.show(moment("large"), View(row=6))
        await pilot.pause()
        assert written(softmax).startswith("row 7")
        assert written(softmax).count("row") == 1
