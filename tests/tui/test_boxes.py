from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.segment import Segment

from tui_gru.tui import draw as boxes
from tui_gru.tui.draw import TableColumn, hstack, pad, text_box, vstack
from tui_gru.tui.theme import ASCII, BLACKBOARD, palette_for

P = palette_for(BLACKBOARD)
H_TILDE = "h\u0303"  # two code points in one cell

written = st.text(alphabet="ah[]/\\ 日本😀ŷ" + H_TILDE, max_size=8).filter(lambda s: not s.startswith("\u0303"))
some = st.builds(
    lambda lines, axis: boxes.replace(text_box(P, "\n".join(lines)), axis=axis % len(lines)),
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
    assert boxes.bracket(P, text_box(P, "1")).text == "(1)"
    assert boxes.bracket(P, text_box(P, "1\n2")).text == "⎛1⎞\n⎝2⎠"
    assert boxes.bracket(P, text_box(P, "1\n2\n3")).text == "⎛1⎞\n⎜2⎟\n⎝3⎠"


def test_data_is_never_markup():
    assert text_box(P, "[bold]x[/] [@click=quit]").text == "[bold]x[/] [@click=quit]"


def test_ascii_is_measured_as_it_is_written():
    plain = palette_for(BLACKBOARD, ASCII)
    box = hstack(text_box(plain, H_TILDE), text_box(plain, "ŷ"))
    assert (box.text, box.width) == ("h_tilde y_hat", 13)


def test_a_combining_character_stays_in_its_segment():
    row = text_box(P, f"{H_TILDE} = tanh").rows[0]
    assert row[0].text.startswith(H_TILDE)


def test_flow_and_columns():
    a, b = text_box(P, "a\na"), text_box(P, "bb")
    assert boxes.wrapped_boxes([a, b, b], 5, gap=1).text.splitlines() == ["a bb", "a   ", "    ", "bb  "]
    assert boxes.in_columns(a, b, gap=1).text.splitlines() == ["a bb", "a   "]


@given(st.lists(some, max_size=5), st.integers(0, 20), st.integers(0, 2))
def test_the_size_of_a_flow_is_known_before_it_is_drawn(parts, width, gap):
    flow = boxes.wrapped_boxes(parts, width, gap=gap)
    assert boxes.flow_size(parts, width, gap=gap) == (flow.width, flow.height)


def test_a_title_leaves_the_axis_on_the_box():
    assert boxes.titled(text_box(P, "Wz"), text_box(P, "1\n2")).axis == 1


# Tables


def cells(*texts):
    return [boxes.styled_row(P, each) for each in texts]


def drawn(rows, columns, width):
    return ["".join(segment.text for segment in row) for row in boxes.table(P, rows, columns, width)]


def test_the_columns_of_a_table_are_aligned_below_their_headings():
    rows = [cells("h̃", "0.5"), cells("日本", "-12.25"), cells("z", "")]
    columns = TableColumn("name", gap=0), TableColumn("value", right=True)
    assert drawn(rows, columns, 80) == ["name   value", "h\u0303        0.5", "日本  -12.25", "z           "]
    assert drawn(rows, [column._replace(heading="") for column in columns], 80)[0] == "h\u0303        0.5"
    assert drawn([], columns, 80) == ["name  value"]


def test_columns_needed_less_are_left_out_as_long_as_the_others_fit():
    columns = TableColumn(gap=0), TableColumn(need=2), TableColumn(need=0), TableColumn(need=0), TableColumn(need=1)
    rows = [cells("a", "bbbbb", "c", "d", "e")]
    assert [drawn(rows, columns, width) for width in (17, 16, 11, 10, 5, 4, 1, 0)] == [
        ["a  bbbbb  c  d  e"], ["a  bbbbb  e"], ["a  bbbbb  e"], ["a  bbbbb"], ["a  e"], ["a  e"], ["a"], ["a"],
    ]  # fmt: skip


def test_a_column_is_cut_no_further_than_to_its_least_width():
    columns = TableColumn(gap=0, least=3), TableColumn()
    rows = [cells("abcdef", "12"), cells("x", "3")]
    assert drawn(rows, columns, 10) == ["abcdef  12", "x       3 "]
    assert drawn(rows, columns, 8) == ["abc…  12", "x     3 "]
    assert drawn(rows, columns, 1) == ["ab…  12", "x    3 "]


def test_a_background_fills_a_column_only_if_it_says_so():
    row = [[(Segment("a", P.cursor),)], [(Segment("bcd", P.cursor),)]]
    filled, bare = (boxes.table(P, row, [TableColumn(gap=1, fill=fill)], 9)[0] for fill in (True, False))
    assert [(segment.text, segment.style) for segment in filled] == [(" a  ", P.cursor)]
    assert [segment.text for segment in bare if segment.style == P.cursor] == ["a"]


@given(st.lists(written, min_size=1, max_size=4), st.integers(0, 12))
def test_a_row_is_cut_with_an_ellipsis(parts, width):
    row = tuple(Segment(part, P.plain) for part in parts)
    cut = boxes.shortened_row(P, row, width)
    assert boxes.row_width(cut) <= width
    assert cut == row if boxes.row_width(row) <= width else width == 0 or cut[-1].text.endswith("…")


def test_an_explanation_is_beside_its_column_or_below_what_it_explains():
    def rows(width, column):
        drawn = boxes.explained(P, "key", P.keyword, "what it does", width, column=column)
        return ["".join(segment.text for segment in row) for row in drawn]

    assert rows(20, 5) == ["key  what it does"]
    assert rows(12, 5) == ["key  what it", "     does"]
    assert rows(10, 0) == ["key", "  what it", "  does"]


def test_rows_on_demand_are_drawn_once_each():
    asked = []

    def draw(index):
        asked.append(index)
        return (Segment(str(index)),)

    rows = boxes.RowsOnDemand(1000, draw)
    assert [row[0].text for row in rows[10:12]] == ["10", "11"]
    assert rows[-1][0].text == rows[999][0].text == "999"
    assert (len(rows), asked) == (1000, [10, 11, 999])
