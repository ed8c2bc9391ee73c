"""A line in LaTeX: names replaced by their matrices, large matrices shortened, and the complete text."""

import numpy as np
import pytest

from tui_gru import Session
from tui_gru.session.snapshot import MOST_LATEX_ENTRIES, line_latex, values_latex

LINES = ("z", "r", "h_tilde", "h", "logits", "dh", "dz", "daz", "dh_prev")


def at_line(name, **options):
    """Return the snapshot of the first batch, with learning, just after a line has been executed."""
    session = Session(**options)
    session.learning = True
    session.step("batch")
    session.seek(session.program.tick_of(name, 1))
    return session.snapshot()


def entries(written):
    """Return the rows of the first matrix in LaTeX, each a list of entries."""
    inside = written.split(r"\begin{pmatrix} ")[1].split(r" \end{pmatrix}")[0]
    return [row.split(" & ") for row in inside.split(r" \\ ")]


@pytest.mark.parametrize("reset", ["before", "after"])
@pytest.mark.parametrize("name", LINES)
def test_every_name_of_a_line_is_replaced_by_its_matrix(name, reset):
    snapshot = at_line(name, reset=reset)
    formula, numbers = line_latex(snapshot).splitlines()[2:4]
    assert r"\begin{pmatrix}" not in formula
    assert numbers.count(r"\begin{pmatrix}") == 1 + len(list(snapshot.line.formula.names()))


def test_a_line_is_written_whole():
    snapshot = at_line("dh", text="abababab", hidden_size=1, batch_size=1, seq_length=3)
    do, Wy = r"\begin{pmatrix} -0.1504 & 0.1504 \end{pmatrix}", r"\begin{pmatrix} 0.3652 & -0.3897 \end{pmatrix}"
    numbers = rf"{do}\,{{{Wy}}}^\top + \begin{{pmatrix}} 0.06641 \end{{pmatrix}}"
    assert line_latex(snapshot).splitlines() == [
        "% epoch 1, batch 1, t 2",
        r"\begin{align*}",
        r"  dh &= do\,{W_{y}}^\top + \overleftarrow{dh} \\",
        rf"  \begin{{pmatrix}} -0.04712 \end{{pmatrix}} &= {numbers}",
        r"\end{align*}",
    ]


def test_values_are_written_whole():
    assert values_latex(Session().snapshot(), [("A", np.eye(2)), ("b", 0.5)]).splitlines() == [
        "% epoch 1, batch 1, t 1",
        r"\begin{align*}",
        r"  A &= \begin{pmatrix} 1.0000 & 0.0000 \\ 0.0000 & 1.0000 \end{pmatrix} \\",
        "  b &= 0.5",
        r"\end{align*}",
    ]


@pytest.mark.parametrize("rows", [1, MOST_LATEX_ENTRIES, MOST_LATEX_ENTRIES + 1, 40])
@pytest.mark.parametrize("columns", [1, MOST_LATEX_ENTRIES, MOST_LATEX_ENTRIES + 1, 40])
def test_a_large_matrix_is_its_first_entries_and_dots(rows, columns):
    array = np.arange(float(rows * columns)).reshape(rows, columns)
    written = entries(values_latex(Session().snapshot(), [("A", array)]))
    assert len(written) == min(rows, MOST_LATEX_ENTRIES)
    assert {len(row) for row in written} == {min(columns, MOST_LATEX_ENTRIES)}
    across, down = columns > MOST_LATEX_ENTRIES, rows > MOST_LATEX_ENTRIES
    if down:
        assert written.pop() == [r"\vdots"] * min(columns, MOST_LATEX_ENTRIES)
    for row, numbers in zip(written, array, strict=False):
        assert (row[-1] == r"\cdots") is across
        assert [float(x) for x in row[: MOST_LATEX_ENTRIES - across]] == list(numbers[: MOST_LATEX_ENTRIES - across])
