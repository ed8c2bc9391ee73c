"""The origin of a number on the main screen, driven by keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.tui.test_main_screen import Driver, driving
from tui_gru.debugger.derivation import ValueRef
from tui_gru.tui.draw import Ref
from tui_gru.tui.panel import Panel
from tui_gru.tui.panels.derivation import DerivationPanel
from tui_gru.tui.panels.line import CurrentLine
from tui_gru.tui.panels.sequence import Sequence
from tui_gru.tui.panels.values import LossTerms, Softmax, ValueMatrix
from tui_gru.tui.panels.weights import Overview


def panel(d: Driver) -> DerivationPanel:
    overlay = d.screen.overlay
    assert isinstance(overlay, DerivationPanel)
    return overlay


def asked(d: Driver) -> ValueRef:
    number = panel(d).leaf.root.number
    assert number is not None
    return number


def made(d: Driver) -> list[str]:
    return [row.made for row in panel(d).rows]


async def choose(d: Driver, label: str) -> None:
    """Move the cursor to a row by the beginning of its label."""
    rows = panel(d).rows
    await d.type("home", *["down"] * next(i for i, row in enumerate(rows) if row.label.startswith(label)))


async def test_a_change_of_a_weight_is_followed_down_to_the_letter_that_caused_it() -> None:
    async with driving() as d:
        await d.type("l", "n")
        end = d.session.position
        overview = d.screen.query_one(Overview)
        overview.focus()
        overview.pointed = Ref("Wz", (3, 0))
        await d.type("enter")
        assert asked(d) == ValueRef("Wz", (3, 0), None, end.tick)
        assert panel(d).leaf.root.value == d.session.parameter("Wz")[3, 0]
        await choose(d, "dWz")
        await d.type("enter")
        assert asked(d).name == "dWz"
        assert [row.label for row in panel(d).rows if len(row.path) == 1][:3] == ["t 3", "t 2", "t 1"]
        await d.type(">")  # the timestep that contributes most
        assert panel(d).rows[panel(d).leaf.cursor].label == "t 2"
        await choose(d, "daz")
        await d.type("enter")
        assert (asked(d).name, asked(d).t) == ("daz", 1)
        assert d.where == (0, 0, 1, "backward")
        await choose(d, "dz")
        await d.type("enter")
        await choose(d, "dh")
        await d.type("enter")
        await choose(d, "dh_output")
        await d.type("enter")
        await choose(d, "do Wyᵀ at “a”")
        await d.type("enter")  # it has no number, so it opens
        await choose(d, "do[row 2, “a”]")
        await d.type("enter")
        await choose(d, "ŷ − y")
        await d.type("right")
        await choose(d, "y[row 2, “a”]")
        assert made(d)[panel(d).leaf.cursor] == "“a” is to be predicted here: character 6 of the text"
        for _ in range(6):
            await d.type("backspace")
        assert asked(d) == ValueRef("Wz", (3, 0), None, end.tick)
        assert d.session.position.line is not None
        assert d.session.position.line.target == "Wz"
        await d.type("backspace")
        assert d.screen.overlay is None


async def test_a_state_is_followed_over_timesteps_and_batches_to_the_beginning() -> None:
    async with driving() as d:
        await d.type("n", "s", "o", "o", "o", "o", "enter")
        seen = []
        while True:
            number = asked(d)
            seen.append((number.t, d.session.position.batch))
            rows = panel(d).rows
            if "every epoch begins with h = 0" in made(d):
                break
            await choose(d, "hₜ₋₁[row 1" if any(row.label.startswith("hₜ₋₁[row 1") for row in rows) else "h[")
            await d.type("enter")
        assert seen == [(None, 1), (0, 1), (2, 0), (1, 0), (0, 0)]


async def test_a_weight_is_followed_over_sgd_steps_to_its_first_value() -> None:
    async with driving() as d:
        await d.type("l", "3n")
        d.screen.query_one(Overview).focus()
        d.screen.query_one(Overview).pointed = Ref("Uh", (0, 1))
        await d.type("enter")
        places = [d.where[1]]
        while len(panel(d).rows) > 1:
            await d.type("home", "down", "enter")
            places.append(d.where[1])
        assert places == [2, 1, 0, 0]
        assert made(d) == ["an initial weight, drawn with seed 1"]


async def test_every_panel_can_be_asked() -> None:
    numbers: list[tuple[type[Any], Ref]] = [
        (Softmax, Ref("y_hat", (1, 2))),
        (LossTerms, Ref("term1", (1, 2))),
        (LossTerms, Ref("term3", (), 0)),
        (LossTerms, Ref("loss")),
        (Sequence, Ref("y_hat", (1, 2), 2)),
    ]
    async with driving() as d:
        await d.type("n")
        for kind, ref in numbers:
            where = d.screen.query_one(kind)
            where.focus()
            where.pointed = ref
            await d.type("enter")
            assert asked(d) == ValueRef(ref.name, ref.index, ref.t, d.session.position.tick)
            await d.type("escape")
            assert d.screen.overlay is None


async def test_the_gates_and_the_line_at_work_can_be_asked() -> None:
    async with driving() as d:
        await d.type("s")
        next(matrix for matrix in d.screen.query(ValueMatrix) if matrix.value_name == "z").focus()
        await d.type("down", "right", "enter")
        assert (asked(d).name, asked(d).index) == ("z", (1, 1))
        await d.type("escape", "right", "left", "enter")  # the focus is back on the matrix
        assert (asked(d).name, asked(d).index) == ("z", (1, 0))
        await d.type("escape", "escape", "o", "r", "r", "enter")  # without the focus: the entry below the line, in this row
        assert (asked(d).name, asked(d).index) == ("z", (1, 0))


async def test_before_the_first_line_there_is_nothing_to_ask() -> None:
    async with driving() as d:
        await d.type("n", "N", ":why h[0,0]")
        assert "has not been computed yet" in d.says
        assert d.screen.overlay is None


async def test_stepping_goes_on_under_a_derivation_which_stays_as_it_was() -> None:
    async with driving() as d:
        await d.type("s", "enter")
        before = panel(d).text()
        await d.type("n", "s")
        assert d.where == (0, 1, 0, "forward")
        assert panel(d).text() == before
        await d.type("escape")
        assert d.screen.overlay is None


async def test_terms_open_and_close() -> None:
    async with driving() as d:
        await d.type("s", "o", "o", "o", "o", "enter")
        rows = len(panel(d).rows)
        await choose(d, "z⊙hₜ₋₁")
        await d.type("left")
        assert len(panel(d).rows) < rows
        await d.type("right")
        assert len(panel(d).rows) == rows
        await d.type("right", "left", "left", "left", "left")
        assert panel(d).leaf.cursor == 0


async def test_when_a_weight_last_changed_is_one_key_away() -> None:
    async with driving() as d:
        await d.type("l", "4n")
        d.screen.query_one(Overview).focus()
        d.screen.query_one(Overview).pointed = Ref("Wz", (3, 0))
        await d.type("enter")
        for batch in ((1, 0), (0, 2)):  # the last of them changed it more than the one before, which is then skipped
            await d.type("d", "0.00005", "enter")
            place = f"epoch {batch[0] + 1} · batch {batch[1] + 1} · update"
            assert d.says == f"abs(Wz[“M”, unit 1] - prev(Wz)[“M”, unit 1]) > 0.00005 holds at {place}"
            assert d.session.position.line is not None
            assert d.session.position.line.target == "Wz"
            assert d.where[:2] == batch


async def test_a_derivation_is_copied_as_text_and_as_latex(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    async with driving() as d:
        monkeypatch.setattr(d.pilot.app, "copy_to_clipboard", copied.append)
        await d.type("s", "enter", "y", "Y")
        assert copied[0].startswith("③ = +")
        assert r"\begin{align*}" in copied[1]
        assert "copied as LaTeX" in d.says


@pytest.mark.parametrize("size", [(160, 50), (80, 24), (40, 12)])
async def test_what_is_under_the_cursor_is_in_view(size: tuple[int, int]) -> None:
    async with driving(size) as d:
        await d.type("l", "n", "enter")
        overlay: Panel = panel(d)
        await d.type("end")
        assert overlay.scroll_offset.y + overlay.content_size.height > panel(d).leaf.cursor
        await d.type("home")
        assert overlay.scroll_offset.y == 0


async def test_a_number_is_asked_by_its_name() -> None:
    async with driving() as d:
        await d.type("2s", ":why h[1,0] t 1")
        assert asked(d) == ValueRef("h", (1, 0), 0, d.session.position.tick)
        await d.type(":why h[1,")
        assert "write it as h[row 2, unit 1]" in d.says
        await d.type(":why h[1,9]")
        assert "no entry [1, 9]" in d.says


async def test_the_old_number_that_a_line_of_the_update_replaces_is_explained_as_it_was() -> None:
    async with driving(text="abcacbabcbacbabcaabc", cell="rnn", optimizer="momentum", hidden_size=2, seq_length=3) as d:
        line = d.session.program.tick_of("m_Wh")
        assert line is not None
        await d.type("l", "2a", f"{d.session.program.ticks - line}O")
        assert d.session.position.line is not None
        assert d.session.position.line.target == "m_Wh"
        work = d.screen.query_one(CurrentLine)
        old = next(spot.ref for spot in work.spots if spot.ref.before)
        new = next(spot.ref for spot in work.spots if spot.ref == replace(old, before=False))
        for ref, tick in ((old, d.session.position.tick - 1), (new, d.session.position.tick)):
            work.focus()
            work.pointed = ref
            value = float(work.read(ref)[ref.index])
            await d.type("enter")
            assert asked(d) == ValueRef("m_Wh", ref.index, None, tick)
            assert panel(d).leaf.root.value == value
            await d.type("escape")
        assert work.read(old)[old.index] != work.read(new)[new.index]
