"""Two letters lead to any number, line, timestep or moment that is on the screen."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tui.test_main_screen import Driver, driving
from tui_gru.tui.jump import LETTERS
from tui_gru.tui.matrix import MatrixView
from tui_gru.tui.panel import CellPanel, Panel
from tui_gru.tui.panels.derivation import DerivationPanel
from tui_gru.tui.panels.listing import Listing
from tui_gru.tui.panels.values import ValueMatrix
from tui_gru.tui.panels.weights import WeightsPanel
from tui_gru.tui.terminal import drawn_lines

SIZES = [(160, 50), (120, 36), (80, 24), (40, 12)]


def on_screen(d: Driver, panel: Panel, x: int, y: int, width: int) -> str:
    """What is drawn at a place of the content of a panel."""
    left, top = panel.region.x + panel.gutter.left + x, panel.region.y + panel.gutter.top + y
    return drawn_lines(d.screen)[top].crop(left, left + width).text


def number_under_cursor(d: Driver) -> tuple[str, tuple[int, ...]] | None:
    focused = d.screen.focused
    if isinstance(focused, MatrixView) and focused.refs is not None:
        ref = focused.refs(*focused.cursor)
    elif isinstance(focused, CellPanel) and focused.spot is not None:
        ref = focused.spot.ref
    else:
        return None
    return ref.name, ref.index


@pytest.mark.parametrize("size", SIZES)
async def test_every_place_has_letters_that_are_drawn_on_it_and_lead_there(size: tuple[int, int]) -> None:
    async with driving(size) as d:
        await d.type("l", "2n", "s", "o", "o", "f")
        targets = dict(d.screen.jump.targets)
        assert len(targets) > 10
        for letters, (panel, place) in targets.items():
            assert on_screen(d, panel, place.x, place.y, 1) == letters[0]
        await d.type("escape")
        numbers = {letters: target for letters, target in targets.items() if isinstance(target.panel, (MatrixView, CellPanel))}
        assert numbers
        for letters, (panel, place) in numbers.items():
            if place.tick is None and not place.columns:
                await d.type("f", *letters)
                assert d.screen.focused is panel, letters
                panel.point_at(place.x, place.y)
                assert number_under_cursor(d) is not None
        assert not d.screen.jump.waits


async def test_letters_go_by_place_so_a_number_has_its_letter_before_it_is_computed() -> None:
    async with driving() as d:
        await d.type("f")
        before = {letters: target for letters, target in d.screen.jump.targets.items() if letters[0] == "g"}
        await d.type("escape", "s", "o", "f")
        assert {letters: target for letters, target in d.screen.jump.targets.items() if letters[0] == "g"} == before
        z = next(matrix for matrix in d.screen.query(ValueMatrix) if matrix.value_name == "z")
        first = next(letters for letters, (panel, _) in before.items() if panel is z)
        await d.type(*first)
        assert number_under_cursor(d) == ("z", (0, 0))


async def test_a_capital_second_letter_explains_and_an_entry_is_jumped_to_by_typing() -> None:
    async with driving() as d:
        await d.type("s", "f", "w", "D")
        assert isinstance(d.screen.overlay, DerivationPanel)
        explained = d.screen.overlay.leaf.root.number
        await d.type("escape", ":jump wd")
        assert explained is not None
        assert number_under_cursor(d) == (explained.name, explained.index)
        await d.type(":jump zz")
        assert d.says == "no place on this screen has the letters 'zz'; f shows those of all"


async def test_from_a_line_enter_runs_to_it_and_b_sets_a_breakpoint() -> None:
    async with driving() as d:
        await d.type("f", "l", "d")
        listing = d.screen.query_one(Listing)
        assert listing.pointed == "h_tilde"
        assert d.says.startswith("enter runs to h̃ = tanh")
        await d.type("b")
        assert [stop.line for stop in d.session.stops.breakpoints] == ["h_tilde"]
        await d.type("enter")
        assert d.screen.snapshot.line is not None
        assert d.screen.snapshot.line.target == "h_tilde"
        await d.type("tab")
        assert listing.pointed == ""
        await d.type("f", "l", "F")
        assert d.screen.snapshot.line.target == "h"  # a capital letter does what enter does


async def test_a_timestep_and_a_moment_are_gone_to() -> None:
    async with driving() as d:
        await d.type("l", "2n", "f", "s", "s")
        assert d.where == (0, 1, 1, "forward")
        await d.type("f", "m", "a")
        assert d.session.position.tick == 0
        moments = [target.place.tick for letters, target in d.screen.jump.targets.items() if letters[0] == "m"]
        assert moments == sorted(moments)


async def test_an_entry_of_a_large_matrix_is_reached_by_row_group_and_digit_or_by_its_number() -> None:
    async with driving(hidden_size=64) as d:
        await d.type("l", "n", "s", "f")
        z = next(matrix for matrix in d.screen.query(ValueMatrix) if matrix.value_name == "z")
        letters = next(letters for letters, (panel, _) in d.screen.jump.targets.items() if panel is z)
        await d.type(*letters)
        assert d.says.startswith("a letter below, then 1 to 3")
        await d.type("1", "7")
        assert number_under_cursor(d) == ("z", (0, 16))
        await d.type("f", *letters, "s", "2")
        assert number_under_cursor(d) == ("z", (0, z.entry_of_column(4)))
        await d.type("f", *letters, "5", "enter")
        assert number_under_cursor(d) == ("z", (0, 4))
        await d.type("f", *letters, "9", "9")
        assert d.says == "there is no such unit; this row has 64"
        await d.type("f", "g", "*")
        largest = max((m for m in d.screen.query(ValueMatrix) if m.values is not None), key=lambda m: np.abs(m.values).max())
        assert d.screen.focused is largest
        assert abs(largest.values[largest.cursor]) == np.abs(largest.values).max()  # type: ignore[index, arg-type]


async def test_a_matrix_that_is_cut_is_enlarged_so_that_its_entries_have_places() -> None:
    async with driving(hidden_size=64) as d:
        await d.type("l", "n", "s")
        weights = d.screen.query_one(WeightsPanel)
        assert weights.matrix is not None
        d.screen.set_focus(weights.matrix)
        while weights.matrix.shape != (64, 64):
            await d.type(">")
        await d.type("f", "w")
        assert d.screen.maximized is not None
        assert weights.matrix.form == "map"
        assert sum(letters[0] in "wer" for letters in d.screen.jump.targets) > 26
        await d.type("d", "5", "enter")
        assert weights.matrix.cursor == (2, 4)


async def test_panels_of_other_pages_are_named_and_their_letter_turns_to_them() -> None:
    async with driving((80, 24)) as d:
        await d.type("s", "o", "f")
        assert "w weights" in d.says
        await d.type("w")
        assert d.screen.query_one(WeightsPanel).region
        await d.type("backspace", "escape", "f", "w", "a")
        assert number_under_cursor(d) == ("Wz", (0, 0))


async def test_the_gates_of_another_page_are_labelled_once_they_are_laid_out() -> None:
    async with driving((120, 36), hidden_size=64) as d:
        await d.type("n", "s", "f", "g")
        assert d.screen.panels.page == 2
        await d.type("s", "1", "7")
        assert number_under_cursor(d) == ("r", (0, 16))


async def test_other_keys_leave_it_and_nothing_stays_dimmed() -> None:
    async with driving() as d:
        await d.type("s", "o")
        before = [line.text for line in drawn_lines(d.screen)][:-2]
        for keys in (["escape"], ["g", "escape"], ["g", "1"], ["x"]):
            await d.type("f", *keys)
            assert not d.screen.jump.waits
            d.screen.say("")
            assert [line.text for line in drawn_lines(d.screen)][:-2] == before
        await d.type("f", "1")
        assert d.says == "no place has the letters 1"
        await d.type("f", ":")
        assert d.screen.typing


async def test_the_entries_of_a_list_have_letters() -> None:
    async with driving() as d:
        await d.type(":mark a", "n", ":mark b", "B", "f")
        assert {letters for letters in d.screen.jump.targets if letters[0] == "a"} == {"aa", "as"}
        await d.type("a", "s")
        assert d.screen.overlay is not None
        assert d.screen.overlay.cursor == 1  # type: ignore[attr-defined]


def test_letters_are_all_letters_once() -> None:
    assert sorted(LETTERS) == [chr(ord("a") + i) for i in range(26)]
