from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui_gru.tui import draw as boxes
from tui_gru.tui.draw import hstack, pad, text, vstack
from tui_gru.tui.theme import ASCII, BLACKBOARD, palette_for

P = palette_for(BLACKBOARD)
H_TILDE = "h\u0303"  # two code points in one cell

written = st.text(alphabet="ah[]/\\ 日本😀ŷ" + H_TILDE, max_size=8).filter(lambda s: not s.startswith("\u0303"))
some = st.builds(
    lambda lines, axis: boxes.replace(text(P, "\n".join(lines)), axis=axis % len(lines)),
    st.lists(written, min_size=1, max_size=4),
    st.integers(0, 3),
)


def line(box, y):
    return box.text.split("\n")[y]


def is_rectangle(box):
    return all(sum(cell_len(segment.text) for segment in row) == box.width for row in box.rows)


@given(some, st.integers(0, 3), st.integers(0, 3))
def test_padding_keeps_the_axis_on_its_row(box, left, top):
    padded = pad(box, left=left, top=top, right=1, bottom=1)
    assert is_rectangle(padded)
    assert line(padded, padded.axis).strip() == line(box, box.axis).strip()


@given(st.lists(some, min_size=1, max_size=4), st.integers(0, 2))
def test_boxes_side_by_side_meet_on_their_axes(parts, gap):
    row = hstack(*parts, gap=gap)
    assert is_rectangle(row)
    shown = [part for part in parts if part.width]
    assert row.width == sum(part.width for part in shown) + gap * max(len(shown) - 1, 0)
    if shown:
        assert line(row, row.axis) == (" " * gap).join(line(part, part.axis) for part in shown)
        assert row.height == max(p.axis for p in shown) + max(p.height - p.axis for p in shown)


@given(st.lists(some, min_size=1, max_size=4))
def test_boxes_one_under_another_keep_their_rows(parts):
    column = vstack(*parts)
    assert is_rectangle(column)
    assert column.height == sum(part.height for part in parts)


@given(some)
def test_brackets_are_as_tall_as_what_they_hold(box):
    held = boxes.bracket(P, box)
    assert is_rectangle(held)
    assert (held.width, held.height, held.axis) == (box.width + 2, box.height, box.axis)


def test_brackets():
    assert boxes.bracket(P, text(P, "1")).text == "(1)"
    assert boxes.bracket(P, text(P, "1\n2")).text == "⎛1⎞\n⎝2⎠"
    assert boxes.bracket(P, text(P, "1\n2\n3")).text == "⎛1⎞\n⎜2⎟\n⎝3⎠"


def test_data_is_never_markup():
    assert text(P, "[bold]x[/] [@click=quit]").text == "[bold]x[/] [@click=quit]"


def test_ascii_is_measured_as_it_is_written():
    plain = palette_for(BLACKBOARD, ASCII)
    box = hstack(text(plain, H_TILDE), text(plain, "ŷ"))
    assert (box.text, box.width) == ("h_tilde y_hat", 13)


def test_a_combining_character_stays_in_its_segment():
    row = text(P, f"{H_TILDE} = tanh").rows[0]
    assert row[0].text.startswith(H_TILDE)


def test_flow_and_columns():
    a, b = text(P, "a\na"), text(P, "bb")
    assert boxes.flow([a, b, b], 5, gap=1).text.splitlines() == ["a bb", "a   ", "    ", "bb  "]
    assert boxes.columns(a, b, gap=1).text.splitlines() == ["a bb", "a   "]


def test_a_title_leaves_the_axis_on_the_box():
    assert boxes.titled(text(P, "Wz"), text(P, "1\n2")).axis == 1
