import pytest
import torch
from rich.cells import cell_len

import tui_gru
from tests.tui.panels.sessions import at, every_line, large, start, tutorial
from tui_gru.debugger.program import shown_char, spoken
from tui_gru.engine import numbers
from tui_gru.session.session import Session
from tui_gru.tui.panel import View
from tui_gru.tui.panels.imported import about_gradients, imported_sequence
from tui_gru.tui.panels.sequence import sequence
from tui_gru.tui.theme import BLACKBOARD, UNICODE, palette_for, truncated

P = palette_for(BLACKBOARD)


def lines_of(snapshot, width=56, height=7, row=None):
    return [line.rstrip() for line in sequence(P, snapshot, View(row), width, height).text.splitlines()]


def test_the_first_batch_of_the_tutorial():
    assert lines_of(at("z", 1)) == [
        "        t 1      t 2      t 3",
        "row 1   M→a    ▐ a→t ▌    t→h      Mat → ath",
        "      0.1669      ·        ·",
        "row 2   h→M    ▐ M→a ▌    a→t      hMa → Mat",
        "      0.2119      ·        ·",
    ]


def test_backwards_is_marked():
    heading, first, *_ = lines_of(at("dz", 1))
    assert "‹t 2" in heading
    assert "‹ a→t ▌" in first


@pytest.mark.parametrize("target", ["loss", "earlier", "Wz"])
def test_outside_the_loops_no_column_is_at_work(target):
    assert "▌" not in "".join(lines_of(at(target, carry="notebook")))


def test_nothing_is_shown_before_it_is_computed():
    for snapshot in [start(), *every_line()]:
        text = "\n".join(lines_of(snapshot))
        for t in range(3):
            p = snapshot.record.array("y_hat")[t, 0, snapshot.record.ids("y")[t, 0]]
            assert (numbers.unit(p) in text) == (snapshot.value("y_hat", t) is not None)


def test_a_row_that_does_not_continue_is_said_unless_the_state_starts_anew():
    assert lines_of(at("z", 0, batch=1))[-1] == "▲ row 1 “thM” does not follow “Mat”"
    assert lines_of(at("z", 0, batch=1), row=1)[-1] == "▲ row 2 “ath” does not follow “hMa”"
    for snapshot in (at("z", 0), at("z", 0, batch=1, carry="reset"), at("z", 0, batch=1, batch_size=1)):
        assert "▲" not in "".join(lines_of(snapshot))


@pytest.mark.parametrize("t", [0, 7, 15])
def test_the_current_column_stays_in_view(t):
    heading, *rows = lines_of(at("z", t, make=large), 40, 7)
    assert str(t + 1) in heading.replace("⋯", "").split()
    assert sum("▌" in row for row in rows) == 6
    assert heading.endswith("⋯") == (t < 15)
    assert heading.lstrip().startswith("⋯") == (t > 0)


def test_the_row_singled_out_stays_in_view():
    assert any(line.startswith("row 5") for line in lines_of(at("z", 3, make=large), row=4))


@pytest.mark.parametrize(("target", "shown"), [("z", ["row 4⋮", "row 5", "row 6⋮"]), ("dz", ["row 5⋮"])])
def test_rows_that_are_left_out_are_marked(target, shown):
    lines = lines_of(at(target, 3, make=large), 33, 4, row=4)
    assert [line[:6].strip("▐ ") for line in lines if line.startswith("row")] == shown


def test_a_timestep_is_worth_more_than_a_word():
    text = "the quick brown fox jumps over the lazy dog " * 6
    heads = {}
    for width in (53, 55):
        heading, first, *_ = lines_of(at("z", 3, make=large, text=text), width, 6)
        heads[width] = heading.split(), first.split()[0]
    numbers = [str(t) for t in range(1, 17)]
    assert heads == {53: (numbers, "1"), 55: (numbers, "row")}


@pytest.mark.parametrize("make", [tutorial, large])
def test_every_size(make):
    for snapshot in (start(make), at("y_hat", 1, batch=1, make=make), at("dz", 2, batch=1, make=make)):
        for width, height in ((10, 2), (20, 3), (36, 4), (56, 7), (78, 10), (160, 50)):
            box = sequence(P, snapshot, View(1), width, height)
            assert box.height <= height
            if width >= 36:  # the panel cuts off anything smaller
                assert box.width <= width
            widths = {sum(cell_len(segment.text) for segment in row) for row in box.rows}
            assert widths == {box.width}


@pytest.mark.parametrize(
    ("char", "seen"),
    [
        (" ", "␣"),
        ("\n", "⏎"),
        ("\t", "⇥"),
        ("[", "["),
        ("日", "日"),
        ("\u0301", "◌\u0301"),
        ("\u1161", "◌\u1161"),
        ("\u200d", "\ufffd"),
        ("\ufe0f", "\ufffd"),
        ("\r", "␍"),
        ("\x1b", "␛"),
        ("\x7f", "␡"),
        ("\xa0", "⍽"),
    ],
)
def test_characters_are_seen(char, seen):
    assert shown_char(char) == seen


def test_every_visible_character_is_as_wide_in_a_text_as_alone():
    shown = [shown_char(chr(code)) for code in range(0x20000) if not 0xD800 <= code < 0xE000]
    assert {cell_len(char) for char in shown} == {1, 2}
    assert cell_len("".join(shown)) == sum(map(cell_len, shown))


def test_a_combining_mark_is_drawn_the_same_way_everywhere():
    session = Session(text="e\u0301a" * 20, hidden_size=2, batch_size=2, seq_length=3)
    session.learning = True
    session.step("batch")
    mark = session.config.vocabulary.index("\u0301")
    assert spoken(session.program, "Wz", (mark, 0)) == "Wz[“◌\u0301”, unit 1]"
    session.step("timestep", 2)
    lines = sequence(P, session.snapshot(), View(), 40, 8).text
    assert "◌\u0301→a" in lines
    assert "\ufffd" not in lines
    assert "\\u" not in lines


def test_cut():
    assert truncated("h\u0303 = tanh", 3, UNICODE) == "h\u0303 …"
    assert truncated("日本語", 4, UNICODE) == "日…"
    assert [truncated("abc", width, UNICODE) for width in (0, 1, 3)] == ["", "…", "abc"]


def test_a_step_of_a_recording_without_gradients_has_none(tmp_path):
    module = torch.nn.GRU(3, 4)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    with tui_gru.record(tmp_path / "run.gru", module, optimizer, every=1) as recorder:
        module(torch.randn(2, 1, 3))[0].sum().backward()
        optimizer.step()
        recorder.step()
        module(torch.randn(2, 1, 3))
    session = Session.open(tmp_path / "run.gru")
    for has_gradients in (True, False):
        session.step("batch")
        snapshot = session.snapshot()
        assert ("|dh|" in imported_sequence(P, snapshot, None, 60, 6).text) == has_gradients
        words = about_gradients(P, snapshot, 60, 6).text
        assert ("no gradient was recorded in step 1" in words) == (not has_gradients)
