import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from rich.cells import cell_len

from tests.tui.panels.sessions import large, tutorial
from tui_gru.analysis.check import CheckTotals
from tui_gru.engine.numbers import scientific
from tui_gru.tui.panels.check import CheckReport, Table, folded
from tui_gru.tui.theme import ASCII, BLACKBOARD, palette_for

P = palette_for(BLACKBOARD)
PLAIN = palette_for(BLACKBOARD, ASCII)


@cache
def checked(make=tutorial, wrong=None, learning=True, **options):
    """Return a report and its snapshot; the last entry of the array `wrong` is changed."""
    session = make(**options)
    session.learning = learning
    session.step("batch")
    check = session.batch_check()
    if wrong is not None:
        record = check.record.copy()
        array = record.gradients[wrong[1:]] if wrong[1:] in record.gradients.names else record.array(wrong)
        array[(-1,) * array.ndim] += 0.25
        check = replace(check, record=record)
    return check.run(), session.snapshot()


def name_on_screen(program, name):
    """Return the formula of a part of a line, which has no name on screen, unless it is long; of anything else its name."""
    formula = None if name in program.preactivations else program.parts.get(name)
    written = None if formula is None else program.writer.text(formula)
    return written if written is not None and len(written) <= 20 else program.writer.name(name)


def drawn(report, width=108, height=46, cursor=None, top=0, totals=None, palette=P):
    """Return the lines of the table, with the cursor at the largest difference."""
    shown = Table(report)
    cursor = shown.rows.index(report.worst) if cursor is None else cursor
    return [line.rstrip() for line in shown.draw(palette, totals, cursor, top, width, height)[1].text.splitlines()]


def test_a_row_for_every_array_with_all_its_numbers():
    report, snapshot = checked()
    lines = drawn(report, height=80)
    assert lines[0].startswith("✓ all 47 arrays agree: the largest difference is ")
    assert "finite differences on 2 entries of each, chosen with seed 0" in " ".join(" ".join(lines[:3]).split())
    for row in report.rows:
        name = name_on_screen(snapshot.program, row.name)
        (line,) = [line for line in lines if re.match(rf"{re.escape(name)} +✓ ", line[2:])]
        words = line.split()
        assert report.written(row.whole.ours) in words
        assert f"{row.whole.theirs:.10g}" in words
        assert line.count("✓") == (1 if row.slopes is None else 2)
        if row.name.startswith("dU"):
            assert f"unit {row.whole.index[0] + 1}, unit {row.whole.index[1] + 1}" in line


def test_the_row_under_the_cursor_is_told_in_full():
    report, _ = checked()
    cursor = [row.name for row in report.rows].index("dUh")
    row = report.rows[cursor]
    text = " ".join(" ".join(drawn(report, cursor=cursor)[-5:]).split())
    assert f"dUh, all 4 entries against PyTorch’s autograd: {row.whole.absolute:.1e}".replace("e-0", "e-") in text
    assert f"ours {np.float32(row.whole.ours)!s}, theirs {row.whole.theirs!r}" in text
    assert "dUh, 2 of 4 entries against finite differences" in text
    assert "explain" in text


@pytest.mark.parametrize(("wrong", "readers"), [("dUr", 0), ("dah", 4), ("dby", 0)])
def test_what_does_not_agree_comes_first_and_is_named(wrong, readers):
    """Lines that read a wrong array differ as well, since each line is checked by itself; the wrong one is computed first."""
    report, _ = checked(wrong=wrong)
    lines = drawn(report)
    assert lines[0].startswith(f"✗ {1 + readers} of 47 arrays do not agree, the first computed is {wrong}: ")
    table = [line for line in lines if "e-" in line and line.lstrip("▸ ").startswith("d")]
    (at,) = [i for i, line in enumerate(lines) if line.startswith("▸ ")]
    assert lines[at].startswith(f"▸ {wrong}")
    assert lines.index("") + 2 <= at <= lines.index("") + 2 + readers
    assert "✗" in next(line for line in lines if line.startswith("▸ "))
    assert "this does not agree" in " ".join(lines)
    assert len(table) > 10


def test_a_batch_that_does_not_learn_is_said_to_be_a_copy():
    report, _ = checked(learning=False)
    assert "this batch does not learn: a copy of it was given a backward pass" in " ".join(drawn(report))


def test_what_came_of_every_batch():
    report, _ = checked()
    totals = CheckTotals(120, 2e-7, "dUh[0, 1]", 7)
    text = " ".join(" ".join(drawn(report, totals=totals)).split())
    assert "every batch is checked: 120 batches so far, the largest difference 2.0e-7 at dUh[0, 1] of epoch 3, batch 2" in text
    assert "every batch is checked from now on" in " ".join(drawn(report, totals=CheckTotals()))
    assert "1 batch so far" in " ".join(drawn(report, totals=replace(totals, batches=1)))


@pytest.mark.parametrize("cursor", [0, 20, 40])
def test_the_row_under_the_cursor_is_in_sight(cursor):
    report, snapshot = checked()
    name = snapshot.program.writer.name(report.rows[cursor].name)
    for top in (0, 10, 39):
        for height in (5, 12, 20):
            assert any(line.lstrip("▸ ").startswith(f"{name} ") for line in drawn(report, 76, height, cursor, top))


@pytest.mark.parametrize(("make", "dtype"), [(tutorial, "float32"), (large, "float32"), (tutorial, "float64")])
@pytest.mark.parametrize("palette", [P, PLAIN], ids=["unicode", "ascii"])
def test_every_size(make, dtype, palette):
    report, _ = checked(make, dtype=dtype)
    for width, height in ((36, 4), (60, 10), (76, 14), (108, 46), (150, 60)):
        lines = drawn(report, width, height, palette=palette)
        assert len(lines) <= height
        assert max(map(cell_len, lines)) <= width
        if palette is PLAIN and make is tutorial:
            assert all(line.isascii() for line in lines)
            assert "?" not in "".join(lines)
            assert sum(" ok " in line for line in lines) >= (height > 5)


def with_numbers(report, draw):
    """Replace the numbers of all comparisons with drawn ones; every second comparison agrees."""

    def drawn(comparison, i):
        if comparison is None:
            return None
        ours, theirs, relative = draw(), draw(), abs(draw())
        absolute = abs(ours - theirs)
        numbers = {"ours": ours, "theirs": theirs, "absolute": absolute, "relative": relative}
        return replace(comparison, **numbers, allowed=absolute / (0.5, 2)[i % 2] or 1.0)

    rows = [replace(row, whole=drawn(row.whole, i), slopes=drawn(row.slopes, i + 1)) for i, row in enumerate(report.rows)]
    return replace(report, rows=tuple(rows))


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("palette", [P, PLAIN], ids=["unicode", "ascii"])
def test_numbers_of_any_size_are_drawn_whole(dtype, palette):
    report, _ = checked(dtype=dtype)
    random = np.random.default_rng(4)

    def draw():
        return float(random.choice([random.normal(), random.normal() * 10.0 ** random.integers(-320, 300), 0.0, 5e-324, 1 / 3]))

    for _ in range(5):
        report = with_numbers(report, draw)
        for width, height in ((20, 6), (24, 8), (36, 12), (60, 60), (76, 60), (108, 60), (150, 60)):
            rows = Table(report)
            lines = rows.draw(palette, None, 0, 0, width, height)[1].text.splitlines()
            assert max(cell_len(line.rstrip()) for line in lines) <= width
            for y, line in enumerate(lines):
                if (shown := rows.row_at(y)) is not None:
                    assert scientific(rows.rows[shown].whole.absolute) in line.split()


def test_a_click_finds_the_row():
    report, snapshot = checked()
    shown = Table(report)
    lines = shown.draw(P, None, 0, 0, 108, 46)[1].text.splitlines()
    for y, line in enumerate(lines):
        row = shown.row_at(y)
        if row is not None:
            assert line[2:].startswith(f"{name_on_screen(snapshot.program, report.rows[row].name)} ")
    assert [shown.row_at(y) for y in (-1, 0, 999)] == [None] * 3
    assert shown.row_at(lines.index(next(line for line in lines if line[2:].startswith("dz ")))) is not None


def test_text_is_folded_between_words():
    assert folded("one two  three", 7) == ["one two", "three"]
    assert folded("", 7) == []


def evened(report):
    """Replace numbers that differ between machines: rounding errors, and the entries with the largest ones."""

    def even(comparison, i):
        if comparison is None:
            return None
        if not comparison.agrees:
            theirs = round(comparison.theirs, 4)
            return replace(comparison, ours=theirs + 0.25, theirs=theirs, absolute=0.25, relative=5.5, allowed=1e-5)
        ours, difference = (-1) ** i * (i % 9 + 1) / 80, (i % 9 + 1) * 1e-9
        index = tuple(i % 2 for _ in comparison.index)
        even = {"ours": ours, "theirs": ours + difference, "absolute": difference, "relative": 10 * difference}
        return replace(comparison, index=index, allowed=1e-5, **even)

    rows = [replace(row, whole=even(row.whole, i), slopes=even(row.slopes, i + 4)) for i, row in enumerate(report.rows)]
    return replace(report, rows=tuple(rows))


PICTURES = {
    "tutorial": ({}, (108, 46), {}),
    "wrong": ({"wrong": "dah"}, (76, 22), {"theme": "whiteboard"}),
    "copy-in-float64": ({"learning": False, "dtype": "float64"}, (136, 22), {}),
    "tiny": ({}, (36, 4), {}),
    "ascii": ({}, (76, 16), {"glyphs": ASCII}),
    "waiting": ({}, (56, 3), {}),
}


@pytest.mark.parametrize("name", PICTURES)
def test_texts(content, snapshot, name):
    arguments, size, options = PICTURES[name]
    report, moment = checked(**arguments)
    panel = CheckReport(report.position)
    if name != "waiting":
        panel.show_report(evened(report))
    assert content(panel, moment, *size, **options).described() == snapshot
