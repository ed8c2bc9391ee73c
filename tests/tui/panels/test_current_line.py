import math
import re
from itertools import pairwise

import numpy as np
import pytest

from tests.debugger.deriving import walk
from tests.tui.panels.sessions import at, every_line, large, numbers_in, on_every_size, start, tutorial
from tui_gru.debugger.program import index_in_words
from tui_gru.engine import numbers
from tui_gru.session.session import Session
from tui_gru.tui.draw import Cell, Ref
from tui_gru.tui.layout import Following, following
from tui_gru.tui.panel import View
from tui_gru.tui.panels.line import CurrentLine, drawn_line
from tui_gru.tui.theme import BLACKBOARD, palette_for
from tui_gru.tui.written import ExampleEntry, Operands, Waterfall, shown_number

P = palette_for(BLACKBOARD)
SIZES = [(10, 2), (20, 3), (36, 4), (50, 6), (78, 10), (114, 9), (160, 50)]
MODELS = [
    pytest.param({"make": tutorial}, id="tutorial"),
    pytest.param({"make": tutorial, "reset": "after", "carry": "notebook"}, id="reset-after"),
    pytest.param({"make": large}, id="large"),
    pytest.param({"make": large, "reset": "after"}, id="large-after"),
]


def text_of(snapshot, width=114, height=9, row=None):
    return drawn_line(P, snapshot, snapshot.line, View(row), width, height)[0].text


def panel_text(board, snapshot, size=(120, 12)):
    """Return the text of the panel."""

    async def shown():
        panel = CurrentLine()
        panel.styles.width, panel.styles.height = size
        async with board(panel).run_test(size=size) as pilot:
            panel.show(snapshot, View())
            await pilot.pause()
            return "\n".join(panel.render_line(y).text.rstrip() for y in range(panel.content_size.height))

    return shown()


def test_the_candidate_of_the_tutorial():
    assert [line.rstrip() for line in text_of(at("h_tilde", 1), row=0).splitlines()] == [
        "      letter  68 %                   state before  32 %                   bias  0 %",
        "      x 2×4      Wh 4×2              r⊙hₜ₋₁ 2×2       Uh 2×2              bh       h̃ 2×2",
        "      h a t M     unit 1  unit 2      unit 1  unit 2   unit 1  unit 2     1 2       unit 1  unit 2",
        "    ⎛         h ⎛-0.4212 -0.5107⎞                                             ⎞",
        "tanh⎜⎛0 1 0 0⎞a ⎜-1.5727 -0.1232⎟ + ⎛+0.3282 -0.0938⎞⎛+0.1103 -2.2590⎞ + (0 0)⎟ = ⎛-0.9207 -0.6919⎞",
        "    ⎜⎝0 0 0 1⎠t ⎜+3.5870 -1.8313⎟   ⎝-0.0860 -0.1167⎠⎝+0.6067 -0.1383⎠        ⎟   ⎝+0.9084 -0.7882⎠",
        "    ⎝         M ⎝+1.5987 -1.2770⎠                                             ⎠",
        "row 1, unit 1: −1.5727 + 0.3282·0.1103 − 0.0938·0.6067 + 0 = −1.5934   tanh → −0.9207",
        "  the letter a picks row 2 of Wh",
    ]


@pytest.mark.parametrize("snapshot", list(every_line()), ids=lambda s: f"{s.line.target}-{s.position.t}")
def test_every_number_is_the_recorded_one(snapshot):
    text = text_of(snapshot, 160, 20)
    operands = Operands(snapshot, snapshot.line)
    shown = [operands.read(name) for name in snapshot.line.reads if name not in ("x", "y", "learning_rate")]
    if snapshot.line.target == "dh_prev":  # its paths
        shown = [operands.term(part) for part in snapshot.line.formula.parts]
    for operand in [*shown, operands.result]:
        write = numbers.unit if operand.kind == "unit" else numbers.wide
        if operand.values.any() and not operand.is_number:
            assert set(numbers_in(operand.values, write)) <= set(re.findall(r"[-+]?[\d.]+(?:e-?\d+)?", text))


def evaluated(snapshot, row):
    """Evaluate the arithmetic of the example entry with the shown numbers. Returns (computed result, shown result)."""
    words = " ".join(piece for piece, _ in ExampleEntry(Operands(snapshot, snapshot.line), row).pieces(P))
    words = words.split(": ", 1)[-1].replace("−", "-").replace("·", "*")
    terms, said = re.match(r"(.*?) = (-?[\d.]+(?:e-?\d+)?)", words).groups()
    terms = re.sub(r"e\^(-?[\d.]+)", r"exp(\1)", terms)
    terms = re.sub(r"log ([\d.e-]+)", r"log(\1)", terms)
    return eval(terms, {"exp": math.exp, "log": math.log}), float(said)


@pytest.mark.parametrize("reset", ["before", "after"])
@pytest.mark.parametrize("row", [0, 1])
def test_the_worked_entry_adds_up(reset, row):
    for snapshot in every_line(reset=reset):
        made, said = evaluated(snapshot, row)
        assert made == pytest.approx(said, abs=1.5e-3, rel=1e-3), snapshot.line.text


def test_the_worked_entry_says_the_recorded_preactivation_and_result():
    snapshot = at("z", 1)
    words = [piece for piece, _ in ExampleEntry(Operands(snapshot, snapshot.line), 1).pieces(P)]
    assert words[-3:] == [
        f"= {snapshot.value('az')[1, 0]:.4f}".replace("-", "−"),
        f"  σ → {snapshot.value('z')[1, 0]:.4f}",
        "  the letter M picks row 4 of Wz",
    ]


@pytest.mark.parametrize("reset", ["before", "after"])
def test_the_worked_entry_is_written_from_the_terms_of_the_derivation(reset):
    session = tutorial(reset=reset)
    session.learning = True
    session.step("batch")
    for _ in range(session.program.ticks):
        session.step("op")
        snapshot = session.snapshot()
        operands = Operands(snapshot, snapshot.line)
        worked = ExampleEntry(operands, 1)
        node = session.explain(snapshot.line.target, worked.index)
        if snapshot.line.op == "+=":
            node = node.terms[-1]  # the share of this timestep
        known = {shown_number(abs(each.value)) for each in walk(node, 5)} | {
            f"{snapshot.settings.rule['learning_rate']:g}",
            str(len(node.terms)),
        }
        terms = [piece for piece, _ in worked.pieces(P, brief=True) if not piece.startswith(("=", " "))]
        assert terms
        for piece in terms[snapshot.line.op == "+=" :]:  # without the sum before
            for written in re.findall(r"[0-9]+(?:\.[0-9]+)?(?:e−?[0-9]+)?", piece):
                assert written in known, (snapshot.line.text, piece)


def terms_by_hand(s, row):
    """Return the terms and the result of the first entry of a row, calculated from the arrays by the equations of a GRU."""
    read, wanted = (s.program.config.vocabulary.index(s.value(name)[row]) for name in ("char", "target"))
    Wz, Uz, bz, Wh, Uh, bh, Wy, by = (s.record.before[name] for name in ("Wz", "Uz", "bz", "Wh", "Uh", "bh", "Wy", "by"))
    h_prev, z, r, h_tilde, h, dh, dz, daz = (s.value(name) for name in ("h_prev", "z", "r", "h_tilde", "h", "dh", "dz", "daz"))
    match s.line.target:
        case "z":
            return [Wz[read, 0], *h_prev[row] * Uz[:, 0], bz[0]], z[row, 0]
        case "h_tilde":
            return [Wh[read, 0], *(r * h_prev)[row] * Uh[:, 0], bh[0]], h_tilde[row, 0]
        case "h":
            return [z[row, 0] * h_prev[row, 0], (1 - z[row, 0]) * h_tilde[row, 0]], h[row, 0]
        case "logits":
            return [*h[row] * Wy[:, wanted], by[wanted]], s.value("logits")[row, wanted]
        case "dz":
            return [dh[row, 0] * (h_prev[row, 0] - h_tilde[row, 0])], dz[row, 0]
        case "daz":
            return [dz[row, 0] * z[row, 0] * (1 - z[row, 0])], daz[row, 0]
        case "dUz":
            before = s.gradient_before("Uz")
            return [0 if before is None else before[0, 0], *h_prev[:, 0] * daz[:, 0]], s.gradient("Uz")[0, 0]
    return [Uz[0, 0], -0.01 * s.gradient("Uz")[0, 0]], s.parameter("Uz")[0, 0]


@pytest.mark.parametrize("target", ["z", "h_tilde", "h", "logits", "dz", "daz", "dUz", "Uz"])
def test_the_terms_of_the_worked_entry_are_those_of_the_equations(target):
    for t, row in ((0, 0), (0, 1), (1, 0), (2, 1)):
        snapshot = at(target, None if target == "Uz" else t, batch=1)
        pieces = [piece for piece, _ in ExampleEntry(Operands(snapshot, snapshot.line), row).pieces(P, brief=True)]
        written = [piece.replace("−", "-").replace("·", "*") for piece in pieces]
        terms = [eval(re.sub("^([+-]) ", r"\1", term)) for term in written if not re.match("=| ", term)]
        expected, value = terms_by_hand(snapshot, row)
        assert terms == pytest.approx(expected, abs=5e-4), t  # factors of four decimals, none of them above 3
        assert float(written[-1].split()[-1]) == pytest.approx(value, abs=6e-5), t


def test_a_gradient_grows_by_a_share():
    first, second = at("dUz", 2), at("dUz", 1)
    assert first.gradient_before("Uz") is None
    assert any(line.lstrip().startswith("0 + ") for line in text_of(first).splitlines())
    np.testing.assert_array_equal(second.gradient_before("Uz"), at("dUz", 2).gradient("Uz"))
    share = second.value("h_prev").T @ second.value("daz")
    np.testing.assert_allclose(second.gradient_before("Uz") + share, second.gradient("Uz"), atol=1e-7)
    text = text_of(second)
    for array in (second.gradient_before("Uz"), second.gradient("Uz")):
        assert all(number in text for number in numbers_in(array, numbers.wide))


def test_an_update_shows_old_and_new():
    snapshot = at("Wy")
    text = text_of(snapshot)
    for array in (snapshot.record.before["Wy"], snapshot.record.gradients["Wy"], snapshot.parameter("Wy")):
        assert all(number in text for number in numbers_in(array, numbers.wide))
    assert " − 0.01 · " in text
    assert f"a step of {numbers.wide(snapshot.last_step('Wy')[0, 0]).strip()}".replace("+", "").replace("-", "−") in text


@pytest.mark.parametrize("model", MODELS)
def test_every_line_fits_every_size(model):
    written = (snapshot for snapshot in every_line(**model) if snapshot.line.formula is not None)
    for snapshot, (width, height) in on_every_size(written, SIZES):
        box = drawn_line(P, snapshot, snapshot.line, View(1), width, height)[0]
        if width >= 36 and height >= 4:  # the panel cuts off anything smaller
            assert box.width <= width, (snapshot.line.text, width, height)
            assert box.height <= height, (snapshot.line.text, width, height)


@pytest.mark.parametrize("row", [None, 1])
@pytest.mark.parametrize(("width", "height"), [(76, 3), (36, 4)], ids=["80x24", "40x12"])
@pytest.mark.parametrize("reset", ["before", "after"])
def test_every_line_has_its_operands_on_small_screens(reset, width, height, row):
    for snapshot in every_line(tutorial, reset=reset):
        text = text_of(snapshot, width, height, row)
        if (reset, width, snapshot.line.target) == ("after", 36, "dh_prev"):  # four products, in four rows of 36 cells
            assert text.lstrip().startswith(("dhₜ₋₁", "(")), text
            continue
        operands = Operands(snapshot, snapshot.line)
        if snapshot.line.target == "dh_prev":
            continue  # its paths in the place of its operands
        written = set(re.findall(r"[\d.]+(?:e-?\d+)?", text.replace("−", "-")))
        for name in {*snapshot.line.reads, snapshot.line.target} - {"x", "y", "learning_rate"}:
            operand = operands.read(name) if name in snapshot.line.reads else operands.result
            ways = {way for x in np.ravel(operand.values) for way in ways_of(abs(x))}
            folded = name in ("r", "h_prev", "z", "h_tilde", "Uh", "bhn")  # inside a part recorded as a whole, such as r⊙h
            assert written & ways or folded, (snapshot.line.text, name, text)
        assert not text.lstrip().startswith("= "), text


#: The space for a line on the first page of an 80 × 24 screen, next to what is shown with it.
NARROW = {Following.VALUES: (77, 7), Following.PREDICTION: (77, 6), Following.WEIGHTS: (77, 6)}


@pytest.mark.parametrize("reset", ["before", "after"])
def test_every_line_has_its_operands_and_its_worked_entry_at_80x24(reset):
    folded = {"before": {"r", "h_prev"}, "after": {"h_prev", "Uh", "bhn"}}[reset]  # what is in a part recorded as a whole
    for snapshot in every_line(tutorial, reset=reset):
        operands, (width, height) = Operands(snapshot, snapshot.line), NARROW[following(snapshot)]
        lines = text_of(snapshot, width, height).splitlines()
        assert len(lines) <= height
        pieces = ExampleEntry(operands, 0).pieces(P, brief=True)
        text, worked = (" ".join(" ".join(parts).split()) for parts in (lines, [piece for piece, _ in pieces]))
        matrices, entry, _ = text.rpartition(worked)
        if snapshot.line.target in ("dWy", "Wy"):  # two lines of four columns each, with their names, leave no row for it
            continue
        assert entry, (snapshot.line.text, text)
        written = set(re.findall(r"[\d.]+(?:e-?\d+)?", matrices))
        if snapshot.line.target in ("dh", "dh_prev"):
            folded = {*folded, *snapshot.line.reads}  # each term is one matrix
        for name in {*snapshot.line.reads, snapshot.line.target} - {"x", "y", "learning_rate"} - folded:
            operand = operands.read(name) if name in snapshot.line.reads else operands.result
            ways = {way for x in np.ravel(operand.values) for way in ways_of(abs(x))}
            assert written & ways, (snapshot.line.text, name, text)


def ways_of(x):
    """Return the ways in which a number may be written, without its sign."""
    ways = (numbers.wide(x), numbers.compact(x), numbers.unit(x), shown_number(x), f"{x:.2f}")
    return {way.strip().removeprefix("+").replace("−", "-") for way in ways}


async def test_one_row_of_the_batch_is_written_where_there_is_no_room_for_all(board):
    panel = CurrentLine()
    snapshot = at("h_tilde", 1)
    async with board(panel).run_test(size=(80, 5)) as pilot:
        panel.styles.height = 5
        for row, shown in ((None, 0), (1, 1), (0, 0)):
            panel.show(snapshot, View(row))
            await pilot.pause()
            lines = [panel.render_line(y).text.strip() for y in range(3)]
            h_tilde = " ".join(numbers.wide(x) for x in snapshot.value("h_tilde")[shown])
            given = snapshot.record.ids("x")[1, shown]
            assert lines[2].endswith(f"= ({h_tilde})")
            assert f"({' '.join(numbers.wide(x) for x in snapshot.parameter('Wh')[given])})" in lines[0]
            assert panel.subheading == f"row {shown + 1} of 2"
        panel.show(at("loss"), View())
        await pilot.pause()
        assert "row" not in panel.subheading


@pytest.mark.parametrize(
    ("target", "width", "title", "below"),
    [
        ("h", 120, "h = z⊙hₜ₋₁ + (1 − z)⊙h\u0303 — hidden state: part old state, part candidate", ""),
        ("h", 80, "h = z⊙hₜ₋₁ + (1 − z)⊙h\u0303", "hidden state: part old state, part candidate"),
        ("y_hat", 80, "ŷ = softmax(o) — prediction: a probability for each character", ""),
        ("h", 60, "h = z⊙hₜ₋₁ + (1 − z)⊙h\u0303", ""),
        ("dz", 120, "dz = dh⊙(hₜ₋₁ − h\u0303)", ""),
    ],
)
async def test_what_a_line_computes_is_said_in_words(board, target, width, title, below):
    panel = CurrentLine()
    async with board(panel).run_test(size=(width, 12)) as pilot:
        panel.styles.height = 12
        panel.show(at(target, 1), View())
        await pilot.pause()
        assert (panel.heading, panel.subheading) == (title, below)


@pytest.mark.parametrize(("make", "width", "height"), [(tutorial, 74, 7), (large, 74, 9), (large, 60, 5)])
def test_one_row_is_written_with_the_shape_of_its_matrix(make, width, height):
    snapshot = at("h_tilde", 1, make=make)
    shapes = {f"{rows}×{columns}" for rows, columns in (np.shape(snapshot.value(name)) for name in ("x", "r", "h_tilde"))}
    shapes |= {"{}×{}".format(*snapshot.parameter(name).shape) for name in ("Wh", "Uh")}
    written = set(re.findall(r"\d+×\d+", text_of(snapshot, width, height)))
    assert written
    assert written - {f"1×{snapshot.config.hidden_size}"} <= shapes  # 1: the bias, a row


async def test_the_panel_cuts_what_does_not_fit(board):
    for size in ((14, 4), (24, 5), (40, 6)):
        text = await panel_text(board, at("dh_prev", 1, make=large), size)
        assert len(text.splitlines()) == size[1] - 2
        assert max(map(len, text.splitlines())) <= size[0] - 4


@pytest.mark.parametrize("target", ["y_hat", "term1", "logits", "dlogits"])
def test_elision_keeps_the_target_in_view(target):
    snapshot = at(target, 1, make=large)
    wanted = snapshot.record.ids("y")[1, 3]
    value = snapshot.value(target)[3, wanted]
    ways = {write(value).strip() for write in (numbers.unit, numbers.wide, numbers.compact)}
    text = text_of(snapshot, row=3)
    if target != "logits":  # a waterfall of that entry, otherwise the largest entries
        name = index_in_words("character", wanted, snapshot.config.vocabulary)
        text = next(row for row in text.splitlines() if row.startswith(name))
    assert any(way in text for way in ways)


@pytest.mark.parametrize("size", [(60, 5), (76, 7), (109, 12)])
@pytest.mark.parametrize("target", ["h", "y_hat", "dz", "daz", "dh_tilde"])
def test_a_line_with_an_entry_from_each_place_is_a_table_of_its_largest_entries(target, size):
    """Where only parts of its matrices would fit, each row of the table is the whole computation of an entry."""
    snapshot = at(target, 1, make=large)
    drawn, alone, falling = drawn_line(P, snapshot, snapshot.line, View(2), *size)
    assert (alone, falling) == (True, False)
    assert drawn.width <= size[0]
    assert drawn.height == size[1]
    assert drawn.rows[0][0].text.strip() == "largest"
    found = []
    for row in drawn.rows[1:]:
        cells = [segment for segment in row if isinstance(segment, Cell) and segment.ref is not None]
        place = next(cell.ref.index for cell in cells if cell.ref.name == target)
        read = [name for name in snapshot.line.reads if name in snapshot.program.names and np.ndim(snapshot.value(name)) == 2]
        entries = {cell.ref.name.removesuffix("_prev"): cell.text.strip() for cell in cells if cell.ref.index == place}
        assert {target, *(name.removesuffix("_prev") for name in read)} <= set(entries)
        value = snapshot.value(target)[place]
        assert entries[target] in {numbers.wide(value).strip(), numbers.unit(value).strip()}
        assert place[0] == 2
        found.append(abs(value))
    largest = np.sort(np.abs(snapshot.value(target)[2]))[::-1]
    np.testing.assert_array_equal(found[:-1], largest[: len(found) - 1])  # the last is the one in focus, if it is none of them


def places_in(rows, target):
    return [cell.ref.index for row in rows for cell in row if isinstance(cell, Cell) and cell.ref and cell.ref.name == target]


@pytest.mark.parametrize("height", [6, 12])
def test_of_a_line_with_one_entry_a_row_each_row_of_the_table_is_one_of_the_batch(height):
    snapshot = at("term1", 1, make=large)
    drawn, alone, _ = drawn_line(P, snapshot, snapshot.line, View(), 109, height)
    wanted = [(row, int(character)) for row, character in enumerate(snapshot.record.ids("y")[1])]
    assert not alone
    assert places_in(drawn.rows, "term1") == wanted[: height - 1]  # no entry that is 0
    assert drawn.text.split()[:2] == ["not", "0"]
    assert ("row 5⋮, " in drawn.text) is (height == 6)  # the cut is marked
    only, alone, _ = drawn_line(P, snapshot, snapshot.line, View(2), 109, height)
    assert alone
    assert places_in(only.rows[:2], "term1")[:1] == [wanted[2]]


def test_entries_that_are_0_are_not_written_out_one_by_one():
    snapshot = at("term1", 1)
    drawn = drawn_line(P, snapshot, snapshot.line, View(), 109, 12)[0].text
    assert drawn.count("·log ") == 2  # the targets of both rows
    assert "0·log" not in drawn
    assert drawn.splitlines()[-1].strip() == "every other entry is 0"
    assert "every other entry" not in drawn_line(P, at("z", 1), at("z", 1).line, View(), 109, 12)[0].text


def test_the_other_entries_take_the_rows_that_a_short_line_leaves():
    snapshot = at("h", 1)
    rows = [row.rstrip() for row in text_of(snapshot, height=12).splitlines()]
    h = snapshot.value("h")
    assert [row.partition(":")[0] for row in rows[-4:]] == [f"row {i}, unit {j}" for i in (1, 2) for j in (1, 2)]
    assert [row.rpartition("= ")[2] for row in rows[-4:]] == [numbers.plain(x).replace("-", "−") for x in h.ravel()]
    fewer = text_of(snapshot, height=8).splitlines()
    assert len(fewer) == 8
    assert [row.rstrip() for row in fewer] == rows[:8]
    followed = drawn_line(P, snapshot, snapshot.line, View(), 114, 12, Ref("h", (1, 1)))[0].text.splitlines()
    assert [row.partition(":")[0] for row in followed[-4:]] == [f"row {i}, unit {j}" for i, j in ((2, 2), (1, 1), (1, 2), (2, 1))]


def test_an_entry_of_a_softmax_is_not_said_to_be_one_of_a_number():
    text = text_of(at("y_hat", 1, make=large), row=3)
    assert "softmax" not in text
    assert " → " in text


def test_elision_keeps_the_picked_row_in_view():
    snapshot = at("z", 1, make=large)
    picked = snapshot.record.ids("x")[1, 5]
    assert numbers.compact(snapshot.parameter("Wz")[picked, 0]) in text_of(snapshot, row=5)


async def test_before_the_first_line(board):
    text = await panel_text(board, start())
    lines = text.splitlines()
    assert lines[0].split() == ["its", "sampler", "writes", *"Matttttttttt"]
    assert lines[1].split() == ["the", "text", "is", *"MathMathMath"]
    assert [line.split("  ")[0] for line in lines[6:]] == ["enter", ":lesson", "o s n", "?"]


async def test_what_notebook_adds_is_told_in_words(board):
    assert (await panel_text(board, at("earlier", carry="notebook"))).startswith("The initial state of this batch")


async def test_a_softmax_that_underflows_is_said(board):
    session = tutorial()
    session.edit("Wy", (0, 0), 3000.0)
    session.step("op", session.program.tick_of("term1", 0))
    assert "✗ ŷ has an entry 0" in await panel_text(board, session.snapshot())
    assert "✗" not in await panel_text(board, at("term1", 0))


def test_it_says_that_an_operand_was_changed_since(content):
    session = Session()
    session.step("op")
    session.edit("Wz", (0, 1), 0.5)
    session.edit("Uh", (0, 0), 0.5)  # not of this line
    panel = CurrentLine()
    assert content(panel, session.snapshot(), 96, 10).note == "Wz changed since this line ran"
    session.step("op")
    assert not content(panel, session.snapshot(), 96, 10).note


def shown_of(snapshot, width, height):
    """Return how much of a line is shown: whether its matrices have names, all rows of the batch, and four decimals."""
    box, alone, _ = drawn_line(P, snapshot, snapshot.line, View(), width, height)
    named = "×" in box.text or all(axis == () for axis in [Operands(snapshot, snapshot.line).result.values.shape])
    return named, not alone, bool(re.search(r"\d\.\d{4}|\be-", box.text))


@pytest.mark.parametrize("target", ["z", "h_tilde", "h", "logits", "term1", "dh", "dz", "dh_prev", "dWz", "Wz"])
def test_more_room_never_shows_less_of_a_line(target):
    snapshot = at(target, None if target == "Wz" else 1)
    for height in (7, 10):
        shown = [shown_of(snapshot, width, height) for width in range(60, 201)]
        assert all(not (less and not more) for one, next_ in pairwise(shown) for less, more in zip(one, next_, strict=True)), height
    for width in (77, 109, 117, 157):
        shown = [shown_of(snapshot, width, height) for height in range(7, 25)]  # as many as at 80x24
        assert all(not (less and not more) for one, next_ in pairwise(shown) for less, more in zip(one, next_, strict=True)), width


# ------------------------------------------------------------------------------
# Waterfalls, in which one entry of a long sum is worked out.


def fallen(target, width=110, height=12, row=None, pointed=None):
    """Return the snapshot of a line of a large model, and the rows of its waterfall."""
    snapshot = at(target, 1, make=large)
    box, _, falls = drawn_line(P, snapshot, snapshot.line, View(row), width, height, pointed)
    assert falls
    assert box.height <= height
    assert box.width <= width
    return snapshot, box.text.splitlines()


@pytest.mark.parametrize("row", [None, 3])
def test_a_long_sum_is_a_waterfall_of_its_largest_terms(row):
    snapshot, rows = fallen("r", row=row)
    i = row or 0
    before, weights = snapshot.value("h_prev", 1)[i].astype(float), snapshot.parameter("Ur")[:, 0].astype(float)
    products = before * weights
    largest = np.argsort(-np.abs(products), kind="stable")[:6]
    pick = snapshot.record.ids("x")[1, i]
    assert rows[0].split()[:4] == ["r", "8×64", "=", "σ("]
    letter, *terms, rest, bias, whole, result = rows[1:]
    assert letter.split("]")[1].split()[0] == numbers.wide(snapshot.parameter("Wr")[pick, 0]).strip()
    for k, term in zip(largest, terms, strict=True):
        assert term.startswith(f"unit {k + 1} before ")
        assert f"{shown_number(before[k])}·{shown_number(weights[k])}  {numbers.wide(products[k])}" in term
    assert rest.startswith("58 other units ")
    assert numbers.wide(np.delete(products, largest).sum()) in rest
    assert bias.startswith("bias ")
    value = snapshot.value("r", 1)[i, 0]
    assert numbers.wide(np.log(value / (1 - value)))[:6] in whole
    assert result.split()[:3] == ["r[row", f"{i + 1},", "unit"]
    assert f"{value:.4f}" in result


def test_each_bar_of_a_waterfall_begins_where_the_one_before_it_ends():
    for target in ("z", "h_tilde", "logits"):
        _, rows = fallen(target, width=80, height=11)
        bars = [(row.index("█"), row.rindex("█") + 1) for row in rows if "█" in row]
        assert len(bars) >= 6
        for one, other in pairwise(bars):
            assert min(abs(end - begin) for end in one for begin in other) <= 1
        assert any("▲" in row for row in rows[-2:])


@pytest.mark.parametrize("target", ["z", "r", "h_tilde", "logits", "dh", "drh", "dh_prev"])
def test_the_terms_of_a_waterfall_add_up(target):
    snapshot = at(target, 1, make=large)
    operands = Operands(snapshot, snapshot.line)
    whole = operands.result if operands.activation is None else operands.activation
    for row, unit in ((0, 0), (3, 5)):
        summands = Waterfall(P, ExampleEntry(operands, row, Ref(target, (row, unit)))).summands
        total = sum(each.values.sum() for each in summands)
        largest = max(np.abs(each.values).max() for each in summands)
        assert total == pytest.approx(whole.values[row, unit], abs=1e-5 * largest)
        assert max(len(each.values) for each in summands) >= 16


def test_each_of_several_long_sums_says_what_it_is():
    _, rows = fallen("dh_prev", height=14)
    words = [row.split("  ")[0] for row in rows[1:]]
    assert words[:2] == ["carry", "candidate"]
    assert sum(bool(re.match(r"\d+ (other )?units? (update|reset)$", word)) for word in words) == 2


def test_without_room_for_a_waterfall_the_line_is_matrices():
    snapshot = at("r", 1, make=large)
    for width, height in ((110, 6), (40, 12)):
        box, _, falls = drawn_line(P, snapshot, snapshot.line, View(), width, height)
        assert not falls
        assert box.height


@pytest.mark.parametrize("make", [tutorial])
def test_short_sums_are_no_waterfall(make):
    for target in ("z", "dh_prev"):
        snapshot = at(target, 1, make=make)
        assert not any(drawn_line(P, snapshot, snapshot.line, View(), width, 8)[2] for width in range(20, 120, 9))


async def test_the_arrows_go_from_entry_to_entry_of_a_waterfall(board):
    panel = CurrentLine()
    panel.styles.width, panel.styles.height = 120, 14
    async with board(panel).run_test(size=(120, 14)) as pilot:
        panel.show(at("r", 1, make=large), View())
        panel.focus()
        await pilot.pause()
        for keys, index in ((["right", "right"], (0, 2)), (["down"], (1, 2)), (["left", "up", "up"], (0, 1))):
            await pilot.press(*keys)
            assert panel.pointed == Ref("r", index)
            await pilot.pause()
            assert f"r[row {index[0] + 1}, unit {index[1] + 1}]" in panel.plain_text()
            assert panel.spot.ref == Ref("r", index)


@pytest.mark.parametrize("options", [{}, {"cell": "lstm"}, {"make": large}], ids=["gru", "lstm", "large"])
def test_the_state_that_the_head_reads_is_not_called_by_the_path_of_its_gradient(options):
    snapshot = at("logits", 1, **options)
    drawn = drawn_line(P, snapshot, snapshot.line, View(), 109, 12)[0].text
    assert "carry" not in drawn
    assert re.search(r"unit \d+ state|state  \d+ %", drawn)
