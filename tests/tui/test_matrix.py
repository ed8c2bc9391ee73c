import numpy as np
import pytest
from textual.containers import Horizontal

from tui_gru.analysis.summaries import ValueRange, summary
from tui_gru.session.session import Session
from tui_gru.tui.draw import Ref, refs_of
from tui_gru.tui.matrix import MatrixView
from tui_gru.tui.panel import Request
from tui_gru.tui.theme import ASCII

SMALL = np.array([[0.7565, -0.3472], [-0.1355, 0.76641524]], np.float32)
LARGE = (np.sin(np.arange(64 * 48).reshape(64, 48) * 0.37) * 2.2).astype(np.float32)


def rows(view):
    return [view.render_line(y).text for y in range(view.content_size.height)]


def view(height=6, width=30, name="h"):
    matrix = MatrixView(name)
    matrix.styles.height, matrix.styles.width = height, width
    return matrix


class Listener:
    """Stores the messages of a view."""

    def __init__(self, matrix):
        self.messages = []
        post = matrix.post_message

        def keep(message):
            if isinstance(message, Request) and message.name == "number":
                self.messages += message.arguments
            return post(message)

        matrix.post_message = keep


async def test_a_small_matrix_shows_its_numbers_and_a_large_one_becomes_a_heat_map(board):
    matrix = view(height=9)
    async with board(matrix).run_test(size=(60, 20)) as pilot:
        matrix.show_array(SMALL)
        await pilot.pause()
        assert matrix.as_numbers
        assert rows(matrix)[0].rstrip() == "⎛+0.7565 -0.3472⎞"
        matrix.show_array(LARGE)
        await pilot.pause()
        assert not matrix.as_numbers
        assert matrix.show_vertical_scrollbar
        assert "≈0 3%" in rows(matrix)[0]
        assert rows(matrix)[1].split() == ["0", "2", "4", "6", "8", "⋯"]
        assert rows(matrix)[2].startswith(" 0  0+2+4+6+7+7+5+3+1-1")
        assert matrix.border_subtitle == "64×48 · tenths of 3"
        matrix.show_array(SMALL)
        await pilot.pause()
        assert not matrix.show_vertical_scrollbar


@pytest.mark.parametrize(
    ("width", "note"), [(25, "2×4 · tenths of 0.7"), (24, "tenths of 0.7"), (19, "tenths of 0.7"), (18, "×0.07"), (12, "×0.07")]
)
async def test_a_map_without_a_frame_says_its_scale_rather_than_its_shape(board, width, note):
    matrix = view(width=width, height=4)
    async with board(matrix).run_test(size=(60, 20)) as pilot:
        matrix.show_array(np.full((2, 4), -0.65))
        await pilot.pause()
        assert not matrix.as_numbers
        assert matrix.border_subtitle == note


async def test_stale_numbers_are_never_shown(board):
    matrix = view(height=9)
    async with board(matrix).run_test(size=(60, 20)) as pilot:
        for values in (SMALL, LARGE):
            matrix.show_array(values)
            await pilot.pause()
            matrix.show_array(None)
            await pilot.pause()
            assert matrix.shape == values.shape
            text = "".join(row[3:] for row in rows(matrix)[2:]) if values is LARGE else "".join(rows(matrix))  # without names
            assert "·" in text
            assert not any(digit in text for digit in "0123456789")


async def test_between_full_and_compact_numbers(board):
    matrix = view(width=2 + 2 + 13)  # border, padding, and space for only two compact entries
    async with board(matrix).run_test(size=(60, 20)) as pilot:
        matrix.show_array(SMALL)
        await pilot.pause()
        assert rows(matrix)[0].rstrip() == "⎛+0.76 -0.35⎞"


async def test_cursor_says_the_exact_number(board):
    matrix = view(width=40)
    async with board(matrix).run_test(size=(60, 20)) as pilot:
        matrix.show_array(SMALL)
        listener = Listener(matrix)
        matrix.focus()
        await pilot.press("down", "right", "right", "enter")
        assert matrix.subheading == "[1, 1] = +0.76641524"
        assert listener.messages == []
        matrix.refs = refs_of(Session().program, "h")
        await pilot.press("enter")
        assert listener.messages == [Ref("h", (1, 1))]
        matrix.show_array(None)
        await pilot.press("enter")
        assert listener.messages == [Ref("h", (1, 1))] * 2  # also uncomputed entries, whose answer says so
        assert matrix.subheading == "[1, 1] = ·"
        matrix.show_array(SMALL[:1])
        assert matrix.cursor == (0, 1)
        matrix.blur()
        await pilot.pause()
        assert matrix.subheading == ""


async def test_the_heat_map_follows_the_cursor_into_its_last_corner(board):
    matrix = view(height=9, width=31)
    async with board(matrix).run_test(size=(60, 20)) as pilot:
        matrix.show_array(LARGE)
        matrix.focus()
        await pilot.pause()
        matrix.cursor = (63, 47)
        await pilot.pause()
        offset, region = matrix.scroll_offset, matrix.scrollable_content_region
        assert offset.y + region.height == 64 + 2  # the rows that do not scroll
        last = offset.x // 2 + (region.width - 3) // 2  # the names that do not scroll
        assert last == 48
        assert matrix.subheading.startswith("[63, 47] = ")
        await pilot.press("home", "pageup")
        assert matrix.cursor[1] == 0
        assert matrix.scroll_offset.x == 0


async def test_the_mouse_chooses_what_it_points_at(board):
    matrix = view(height=9, width=40)
    async with board(matrix).run_test(size=(60, 20)) as pilot:
        matrix.show_array(SMALL)
        listener = Listener(matrix)
        matrix.refs = refs_of(Session().program, "h")
        await pilot.pause()
        await pilot.click(matrix, offset=(2 + 10, 2))
        assert matrix.cursor == (1, 1)
        await pilot.click(matrix, offset=(2 + 10, 2), times=2)
        assert listener.messages == [Ref("h", (1, 1))]
        before = matrix.cursor
        await pilot.click(matrix, offset=(30, 4))
        assert matrix.cursor == before
        matrix.show_array(LARGE)
        await pilot.pause()
        await pilot.click(matrix, offset=(2 + 3 + 5, 4))
        assert matrix.cursor == (1, 2)
        for above in (1, 2):
            await pilot.click(matrix, offset=(2 + 3 + 9, above))
        assert matrix.cursor == (1, 2)


async def test_a_large_matrix_says_what_is_in_it(board):
    matrix = view(height=12, width=100)
    async with board(matrix).run_test(size=(110, 20)) as pilot:
        values = LARGE.copy()
        values[5, 7], values[:, 9], values[2, 3] = -2.4, 0, np.nan
        matrix.show_array(values)
        await pilot.pause()
        assert "1 not finite" in rows(matrix)[0]
        matrix.show_array(np.nan_to_num(values), limits=ValueRange(-1, 1))
        await pilot.pause()
        what = summary(np.nan_to_num(values), ValueRange(-1, 1))
        said = [f"{100 * what.share(n):.0f} % {word}" for n, word in ((what.saturated, "near ±1"), (what.near_zero, "near 0"))]
        assert f"{said[0]} · {said[1]} · 1 dead unit · largest -2.40 at [5, 7]" in rows(matrix)[0]
        assert rows(matrix)[0][:16].strip(" ") == rows(matrix)[0][:16]  # the histogram
        matrix.show_array(LARGE)
        await pilot.pause()
        assert "-2.20 … +2.20 · 3 % near 0 · largest" in rows(matrix)[0]


async def test_a_panel_too_low_for_a_map_shows_the_histogram_and_shares(board):
    matrix = view(height=4, width=30)
    async with board(matrix).run_test(size=(60, 20)) as pilot:
        z = (np.abs(LARGE) / 2.2).astype(np.float32)
        matrix.show_array(z, kind="unit", limits=ValueRange(0, 1))
        await pilot.pause()
        shares = [round(100 * float(part.mean())) for part in (z < 0.1, z > 0.9)]
        assert rows(matrix)[1].strip() == f"≈0 {shares[0]}%  ≈1 {shares[1]}%  mean {z.mean():.2f}"
        assert not matrix.show_vertical_scrollbar
        matrix.show_array(z, kind="unit", limits=ValueRange(0, 1), row=0)
        await pilot.pause()
        assert rows(matrix)[1].split()[1] == f"{round(100 * float((z[0] < 0.1).mean()))}%"
        matrix.focus()
        await pilot.pause()
        assert rows(matrix)[0].startswith(" 0 3 6 8 9")
        assert rows(matrix)[1].strip() == "[0, 0]"


async def test_largest_entries_one_after_the_other(board):
    matrix = view(height=12, width=60)
    async with board(matrix).run_test(size=(80, 20)) as pilot:
        matrix.show_array(LARGE)
        await pilot.pause()
        order = np.argsort(-np.abs(LARGE).ravel(), kind="stable")
        for rank in (1, 2, 3):
            assert matrix.go_to_largest() == rank
            assert abs(LARGE[matrix.cursor]) == np.abs(LARGE).ravel()[order[rank - 1]]
        matrix.cursor = (0, 0)
        assert matrix.go_to_largest() == 1
        matrix.show_array(None)
        assert matrix.go_to_largest() is None
        assert not matrix.go_to_saturated()
        matrix.show_array(np.full((3, 4), np.nan))
        assert matrix.go_to_largest() is None


async def test_saturated_units_one_after_the_other(board):
    matrix = view(height=12, width=60)
    async with board(matrix).run_test(size=(80, 20)):
        z = np.full((8, 40), 0.5)
        z[:, [3, 17]] = 0.99, 0.01
        matrix.show_array(z, kind="unit")
        assert not matrix.go_to_saturated()  # without limits
        matrix.show_array(z, kind="unit", limits=ValueRange(0, 1))
        seen = []
        for _ in range(3):
            assert matrix.go_to_saturated()
            seen.append(matrix.cursor[1])
        assert seen == [3, 17, 3]


async def test_columns_out_of_view_have_a_mark_above_the_map(board):
    matrix = view(height=12, width=40)
    async with board(matrix).run_test(size=(50, 16)) as pilot:
        matrix.show_array(LARGE)
        await pilot.pause()
        heads = rows(matrix)[1].rstrip()
        assert heads.endswith("⋯")
        assert heads.count("⋯") == 1
        matrix.focus()
        matrix.cursor = (0, LARGE.shape[1] - 1)
        await pilot.pause()
        assert rows(matrix)[1].split()[0] == "⋯"
        assert rows(matrix)[1].count("⋯") == 1
        matrix.show_array(LARGE[:, :5])
        await pilot.pause()
        assert "⋯" not in rows(matrix)[1]


async def test_rows_and_columns_by_size(board):
    matrix = view(height=20, width=100)
    async with board(matrix).run_test(size=(110, 24)) as pilot:
        values = LARGE.copy()
        values[40], values[:, 20] = 2.0, 2.1
        matrix.show_array(values)
        matrix.focus()
        await pilot.pause()
        assert matrix.sort() == "rows"
        await pilot.pause()
        matrix.cursor = (40, 0)
        await pilot.pause()
        assert rows(matrix)[2].split()[0] == "40"
        await pilot.press("down")
        assert matrix.cursor[0] == int(np.argsort(-np.linalg.norm(values, axis=1), kind="stable")[1])
        assert matrix.sort() == "columns"
        await pilot.press("home")
        assert matrix.cursor[1] == 20
        assert rows(matrix)[1].split()[0] == "20"
        assert matrix.sort() == "rows and columns"
        assert matrix.sort() == ""
        assert matrix.border_subtitle is not None


async def test_entries_near_zero_can_be_left_out(board):
    matrix = view(height=20, width=100)
    async with board(matrix).run_test(size=(110, 24)) as pilot:
        values = np.full((20, 40), 0.01)
        values[:, ::2] = 1
        matrix.show_array(values)
        await pilot.pause()
        assert "+1" not in rows(matrix)[2]
        assert rows(matrix)[2].split()[1].startswith("+9+0+9")
        assert not matrix.toggle_near_zero()
        await pilot.pause()
        assert rows(matrix)[2].split()[1:4] == ["+9", "+9", "+9"]
        assert str(matrix.border_subtitle).endswith("near 0 hidden")
        assert matrix.toggle_near_zero()


ODD = {
    "a vector": (np.array([1.0, 2.0]), "(+1.0000 +2.0000)", (0, 1), "[0, 1] = +2.0"),
    "no rows": (np.empty((0, 3)), "", (0, 0), None),
    "no columns": (np.empty((2, 0)), "⎛⎞", (0, 0), None),
    "no numbers": (np.full((2, 2), np.nan), "⎛  nan     nan  ⎞", (1, 1), "[1, 1] = nan"),
    "many": (np.eye(70), "0 0 0 0 0 0 0 0 0 0 0 0 0", (1, 69), "[1, 69] = +0.0"),
}


@pytest.mark.parametrize("shape", ODD)
async def test_arrays_of_odd_shapes(board, shape):
    values, first, cursor, caption = ODD[shape]
    matrix = view()
    async with board(matrix).run_test(size=(60, 20)) as pilot:
        matrix.show_array(values)
        matrix.focus()
        await pilot.press("right", "down", "end")
        assert (matrix.cursor, matrix.border_subtitle) == (cursor, caption)
        assert rows(matrix)[0].strip() == first
        written = [line.split() for line in matrix.plain_text().splitlines()[2:]]
        np.testing.assert_array_equal(np.array(written, float).reshape(np.atleast_2d(values).shape), np.atleast_2d(values))
        await pilot.press("left", "up", "home")
        assert matrix.cursor == (0, 0)


def gallery(theme, glyphs=None, focus=False):
    def make(board):
        views = {name: view(6, 31, name) for name in ("z", "h\u0303", "h", "x")}
        heat, dots = view(9, 31, "W"), view(9, 31, "dW")
        shown = [*views.values(), heat, dots]
        lines = [Horizontal(*shown[i : i + 2]) for i in (0, 2, 4)]
        app = board(*lines, theme=theme, **({"glyphs": glyphs} if glyphs else {}))

        def prepare():
            z, h_tilde, h, x = views.values()
            z.show_array(np.abs(SMALL), kind="unit", row=1)
            h_tilde.show_array(SMALL, fresh=True, scale=1)
            h.show_array(None, shape=(2, 2))
            x.show_array(np.eye(4)[:2], kind="onehot")
            broken = LARGE.copy()
            broken[1, 3], broken[2, 4], broken[3] = np.nan, np.inf, 0
            heat.show_array(broken)
            dots.show_array(None, shape=(64, 48))
            (heat if focus else h_tilde).focus()
            if focus:
                heat.cursor = (4, 5)

        app.prepare = prepare
        return app

    return make


@pytest.mark.parametrize("theme", ["blackboard", "whiteboard"])
def test_pictures(snap_compare, board, theme):
    assert snap_compare(gallery(theme)(board), terminal_size=(64, 24))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(gallery("ansi-dark"), id="ansi"),
        pytest.param(gallery("blackboard", ASCII), id="ascii"),
        pytest.param(gallery("blackboard", focus=True), id="cursor"),
    ],
)
def test_texts(snap_text, board, make):
    snap_text(make(board), terminal_size=(64, 24))
