import re

import numpy as np

from tests.tui.panels.sessions import at, large
from tui_gru.debugger.program import shown_char
from tui_gru.engine import numbers
from tui_gru.tui.draw import Cell, Ref
from tui_gru.tui.panel import View
from tui_gru.tui.panels.values import Softmax


def test_every_probability_of_every_row_and_the_target_marked(content, moment):
    snapshot = moment("predicted")
    drawn = content(Softmax(), snapshot, 56, 11)
    lines = [line for line in drawn.lines if line.strip()]
    expected = [(row, char) for row in range(2) for char in range(4)]
    for (row, char), line in zip(expected, lines, strict=True):
        assert numbers.unit(snapshot.value("y_hat")[row, char]) in line
        assert f" {snapshot.config.vocabulary[char]} {numbers.unit(snapshot.value('y_hat')[row, char])}" in line
        target = snapshot.value("target")[row] == snapshot.config.vocabulary[char]
        assert (line.count("◂"), line.count("target")) == (target,) * 2
    assert (drawn.title, drawn.place, drawn.fresh) == ("ŷ — what comes next", "t 2", True)


def test_before_its_line_there_are_dots_and_never_the_timestep_before(content, moment):
    softmax = Softmax()
    for name in ("predicted", "computed", "start"):
        shown = content(softmax, moment(name), 56, 11).text
    assert "·" in shown
    assert not any(sign in shown for sign in "0█▏▎▍▌▋▊▉.")
    shown = content(softmax, moment("computed"), 56, 11).text
    assert shown.count("◂") == 2
    assert "." not in shown


def test_rows_stand_side_by_side_where_they_do_not_fit_below_each_other(content, moment):
    snapshot = moment("predicted")
    first = content(Softmax(), snapshot, 36, 4).lines[0]
    assert [numbers.unit(p[0]) in first for p in snapshot.value("y_hat")] == [True, True]


def test_of_a_large_vocabulary_the_likeliest_and_the_target(content, moment):
    snapshot = moment("large")
    drawn = content(Softmax(), snapshot, 76, 28)
    assert drawn.box.height <= 28
    for row, y_hat in enumerate(snapshot.value("y_hat")):
        target = snapshot.config.vocabulary.index(snapshot.value("target")[row])
        for index in (int(np.argmax(y_hat)), target):
            assert numbers.unit(y_hat[index]) in drawn.text
            assert shown_char(snapshot.config.vocabulary[index]) in drawn.text
    assert drawn.text.count("◂") == 8
    assert f"of {snapshot.config.vocab_size}" in drawn.note


def test_a_row_singled_out_is_alone_where_not_all_fit_and_the_others_quiet_where_they_do(content, moment):
    softmax = Softmax()
    drawn = content(softmax, moment("predicted"), 56, 11, View(row=1))
    styles = {segment.style for row in drawn.box.rows[:4] for segment in row if segment.text.strip()}
    assert styles == {softmax.palette.dim}
    shown = content(softmax, moment("large"), 26, 5, View(row=6)).text
    assert shown.startswith("row 7")
    assert shown.count("row") == 1


def test_with_a_single_row_the_probability_of_the_target_is_shown(content, moment):
    """Not the first of two rows, with the other cut off."""
    snapshot = moment("predicted")
    drawn = content(Softmax(), snapshot, 76, 1)
    assert (drawn.box.height, drawn.text.count("◂"), drawn.note) == (1, 2, "the likeliest 1 of 4")


# ------------------------------------------------------------------------------
# A line of numbers for each row, where there is no room for more than two bars a row.


def test_many_rows_have_a_line_each_with_chance_and_surprise(content):
    snapshot = at("y_hat", 3, make=large)
    y_hat, targets = snapshot.value("y_hat", 3), snapshot.record.ids("y")[3]
    drawn = content(Softmax(), snapshot, 60, 10)
    head, *rows = drawn.lines
    assert head.split() == ["row", "wants", "chance", "surprise", "it", "says"]
    assert len(rows) == 8
    for i, row in enumerate(rows):
        chance = y_hat[i, targets[i]]
        numbers_shown = [f"{chance:.4f}", f"{-np.log(chance):.4f}", *(f"{p:.4f}" for p in np.sort(y_hat[i])[::-1][:2])]
        assert [word for word in row.split() if re.fullmatch(r"\d\.\d{4}", word)][:4] == numbers_shown
        assert row.split()[0] == str(i + 1)
    assert "surprise: −log chance" in drawn.note
    refs = {segment.ref for row in drawn.box.rows for segment in row if isinstance(segment, Cell)}
    assert {Ref("y_hat", (i, targets[i])) for i in range(8)} <= refs


def test_a_prediction_that_is_not_computed_yet_is_one_quiet_sign_a_row(content):
    rows = content(Softmax(), at("r", 3, make=large), 60, 10).lines[1:]
    assert [row.split()[-1] for row in rows] == ["·"] * 8
    assert all(row.count("·") == 1 for row in rows)


def test_before_it_is_computed_the_likeliest_have_one_sign_for_all(content):
    text = content(Softmax(), at("r", 3, make=large), 60, 40).text
    assert (text.count("·"), text.count("◂")) == (8, 8)


def test_rows_that_are_left_out_are_marked(content):
    snapshot = at("y_hat", 3, make=large)
    assert [row.split()[0] for row in content(Softmax(), snapshot, 60, 4).lines[1:]] == ["1", "2", "3⋮"]
    assert "surprise" not in content(Softmax(), snapshot, 60, 4, View(7)).text  # for one row alone there is room for bars


def test_with_room_for_more_characters_a_row_has_bars(content):
    snapshot = at("y_hat", 3, make=large)
    assert content(Softmax(), snapshot, 60, 40).text.count("◂") == 8
    assert "surprise" not in content(Softmax(), snapshot, 60, 40).text
    assert "surprise" not in content(Softmax(), at("y_hat", 1), 60, 3).text  # of four characters, all are shown


def test_rows_that_would_be_blank_say_what_a_row_reads_and_wants(content, moment):
    snapshot = moment("predicted")
    read, wanted = (snapshot.value(name) for name in ("x", "target"))
    letters = [snapshot.config.vocabulary[int(i)] for i in np.argmax(read, axis=1)]
    drawn = content(Softmax(), snapshot, 60, 6)
    assert drawn.lines[-1].split() == [
        word for x, y in zip(letters, wanted, strict=True) for word in ("reads", f"{x},", "wants", y)
    ]
    assert not drawn.lines[-2]
    assert drawn.lines[-1].index("reads") == drawn.lines[0].index("h ")
    narrow = content(Softmax(), snapshot, 36, 6)
    assert narrow.lines[-1].split() == [word for y in wanted for word in ("wants", y)]  # rather than cut
    for width, height, view in ((60, 5, View()), (36, 4, View()), (56, 11, View())):  # no room, or none that would be blank
        assert "reads" not in content(Softmax(), snapshot, width, height, view).text


def test_the_border_says_what_the_sign_of_a_target_is_where_the_bar_has_no_room_for_it(content, moment):
    snapshot = moment("predicted")
    assert content(Softmax(), snapshot, 60, 6).note == "◂ what the text has next"
    alone = content(Softmax(), snapshot, 56, 11)
    assert alone.note == ""
    assert "◂ target" in alone.text
    assert content(Softmax(), moment("large"), 76, 28).note.startswith("the likeliest")
