from rich.style import Style

from tui_gru.tui.draw import CellRow

RED, BLUE = Style.parse("red"), Style.parse("blue")


def test_what_is_put_later_covers_and_nothing_sticks_out():
    row = CellRow(8)
    row.put(2, "abcdefghij", RED)
    row.put(3, "xy", BLUE)
    row.put(-1, "no", RED)
    strip = row.strip()
    assert (strip.text, strip.cell_length) == ("o axydef", 8)
    assert [segment.style for segment in strip if segment.text == "xy"] == [BLUE]


def test_a_blank_that_was_put_is_not_free():
    row = CellRow(5)
    row.put(1, " a", RED)
    assert [row.free(x, 1) for x in range(5)] == [True, False, False, True, True]
    assert not row.free(4, 2)
    assert not row.free(-1, 1)


def test_a_wide_character_is_shown_whole_or_not_at_all():
    row = CellRow(7)
    row.put(0, "日本", RED)
    row.put(5, "a語", RED)
    assert row.strip().text == "日本 a "
    row.put(1, "x", BLUE)
    row.put(2, "y", BLUE)
    assert row.strip().text == " xy  a "
    assert row.strip().cell_length == 7


def test_a_combining_mark_takes_no_cell_of_its_own():
    row = CellRow(3)
    row.put(0, "e\u0301a", RED)
    assert (row.strip().text, row.strip().cell_length) == ("e\u0301a ", 3)


def test_a_copy_is_another_row():
    row = CellRow(3)
    twin = row.copy()
    twin.put(0, "abc", RED)
    assert row.free(0, 3)
    assert row.strip().text == "   "
