import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rich.cells import cell_len

from tui_gru.tui.theme import ASCII, BLACKBOARD, palette_for
from tui_gru.tui.written import bracketed_matrix, scale_of, shown_indices

P = palette_for(BLACKBOARD)
arrays = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7))


@given(arrays, st.booleans(), st.sampled_from(["signed", "unit", "onehot"]))
def test_columns_align_whatever_the_numbers(values, compact, kind):
    box = bracketed_matrix(P, values, kind=kind, compact=compact)
    assert box.height == values.shape[0]
    assert {cell_len(line) for line in box.text.splitlines()} == {box.width}


@pytest.mark.parametrize("kind", ["signed", "unit", "onehot"])
def test_a_negative_zero_is_a_zero(kind):
    assert (
        bracketed_matrix(P, np.array([[0.0, -0.0]], np.float32), kind=kind).text
        == bracketed_matrix(P, np.zeros((1, 2)), kind=kind).text
    )


@given(arrays)
def test_what_is_not_computed_takes_the_same_room(values):
    blank = bracketed_matrix(P, None, shape=values.shape)
    full = bracketed_matrix(P, values)
    assert (blank.width, blank.height) == (full.width, full.height)
    assert not any(digit in blank.text for digit in "0123456789")


@given(st.integers(1, 60), st.integers(1, 12), st.data())
def test_elision_keeps_first_last_and_focus(count, limit, data):
    focus = data.draw(st.integers(0, count - 1))
    shown = shown_indices(count, limit, focus)
    indices = [index for index in shown if index is not None]
    assert len(shown) == min(count, limit)
    assert focus in indices
    assert indices == sorted(set(indices))
    if limit >= 5:
        assert {0, count - 1} <= set(indices)
    for before, gap, after in zip(shown, shown[1:], shown[2:], strict=False):
        if gap is None:
            assert after - before > 1  # something is left out there
    for before, after in itertools.pairwise(shown):
        if before is not None and after is not None:
            assert after == before + 1


def test_elided_matrix_says_its_shape():
    lines = bracketed_matrix(P, np.ones((64, 512)), elide=(5, 6), cursor=(30, 0)).text.splitlines()
    assert len(lines) == 5
    assert lines[-1].endswith("⎠ 64×512")
    assert "⋯" in lines[0]
    assert "⋮" in lines[1]
    assert "⋱" in lines[1]


@pytest.mark.parametrize(("focus", "first", "last"), [(0, False, True), (3, True, True), (7, True, False)])
def test_columns_and_rows_that_are_left_out_at_a_side_have_a_mark_there(focus, first, last):
    *lines, final = map(str.rstrip, bracketed_matrix(P, np.ones((8, 8)), elide=(2, 2), focus=(focus, focus)).text.splitlines())
    assert final.endswith("⎠ ⋮8×8")
    for line in (*lines, final.removesuffix(" ⋮8×8")):
        assert (line[1] == "⋯", line[-2] == "⋯") == (first, last)
        assert line.count("+1.0000") == 2
    assert "⋮" not in bracketed_matrix(P, np.ones((2, 8)), elide=(2, 2)).text
    assert "⋯" not in bracketed_matrix(P, np.ones((8, 2)), elide=(2, 2)).text


def test_one_hot_and_vector():
    assert bracketed_matrix(P, np.eye(2), kind="onehot").text == "⎛1 0⎞\n⎝0 1⎠"
    assert bracketed_matrix(P, np.array([0.0, -1.5])).text == "( 0      -1.5000)"


def test_ascii_matrix():
    assert bracketed_matrix(palette_for(BLACKBOARD, ASCII), np.eye(2), kind="onehot").text == "(1 0)\n(0 1)"


def test_fresh_cursor_and_singled_row_differ():
    values = np.array([[0.5, -0.5], [0.25, 1.0]])

    def styles(**marks):
        return [[segment.style for segment in row] for row in bracketed_matrix(P, values, **marks).rows]

    plain = styles()
    assert styles(fresh=True) != plain
    singled = styles(row=1)
    assert singled[1] == plain[1]
    assert singled[0] != plain[0]
    assert styles(cursor=(0, 1))[0].count(P.cursor) == 1


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([0.0], 1),
        ([0.9, -0.2], 1),
        ([-1.2], 1.5),
        ([2.26], 3),
        ([np.nan, 4.0], 5),
        ([np.inf, 0.03], 0.03),
        ([np.nan], 1),
    ],
)
def test_scale(values, scale):
    assert scale_of(np.array(values, np.float32)) == pytest.approx(scale)


def test_scale_of_nothing():
    assert scale_of(None) == 1
    assert scale_of(np.empty((0, 3))) == 1
