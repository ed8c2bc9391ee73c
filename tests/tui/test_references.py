"""Every number that a screen names can be typed as it is shown there, and is then the same number."""

from __future__ import annotations

import re
from functools import cache, partial

import pytest

from tests.tui.test_main_screen import Driver, driving
from tui_gru.debugger.expressions import ExpressionText, compile_expression
from tui_gru.debugger.position import Reader
from tui_gru.debugger.program import spoken
from tui_gru.tui.command import CommandLine
from tui_gru.tui.matrix import MatrixView
from tui_gru.tui.panel import CellPanel
from tui_gru.tui.panels.derivation import DerivationPanel
from tui_gru.tui.terminal import drawn_lines

SIZES = [(160, 50), (100, 30), (80, 24), (40, 12)]
PART = "(?:(?:row|unit|column) [0-9]+|“.{1,2}”)"
#: A name and an index with a word or a character in quotes.
SHOWN = re.compile(rf"(?<![\w[])[\w①②③ₜ₋₁←̃ŷ∂∇]*\w[\w①②③ₜ₋₁←̃ŷ]*\[{PART}(?:, {PART})*\]")
PHASE = ":step phase"
#: Keys after which the panels show other numbers.
WALK = ("s", "ooo", "l", "n", "N", PHASE, "oooo", PHASE, "ooooooo", "oo", "nooo")


def check(d: Driver, typed: str) -> tuple[str, tuple[int, ...]]:
    """Return the entry that a typed reference names, which must be the same in a command and in a condition."""
    program = d.session.program
    reader = Reader(typed, "")
    name, index = reader.entry(program)
    reader.end()
    assert program.code_name(name) in program.names, typed
    assert spoken(program, program.code_name(name), index) == typed.removeprefix("Δ")
    (read,) = compile_expression(typed.removeprefix("Δ"), program.spellings).names
    assert read == program.code_name(name)
    return read, index


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_every_number_on_a_screen_can_be_typed_as_it_is_named(size: tuple[int, int]) -> None:
    seen: set[str] = set()
    async with driving(size) as d:
        entry = cache(partial(check, d))  # most numbers are on many pages of the walk
        for keys in WALK:
            await d.type(*([keys] if keys == PHASE else keys))
            for page in range(d.screen.panels.pages):
                if page:
                    await d.type("v")
                refs = {spot.ref for panel in d.screen.query(CellPanel) if panel.region for spot in panel.spots}
                for matrix in d.screen.query(MatrixView):
                    if matrix.region and matrix.values is not None and matrix.refs is not None:
                        refs |= {matrix.refs(i, j) for i in range(matrix.shape[0]) for j in range(matrix.shape[1])}
                for ref in refs:
                    assert entry(spoken(d.session.program, ref.name, ref.index)) == (ref.name, ref.index)
                shown = {found[0] for line in drawn_lines(d.screen) for found in SHOWN.finditer(line.text)}
                for typed in shown:
                    entry(typed)
                seen |= shown
        for keys in (
            "tab",
            "right",
            "enter",
            ":why Wz[M, 1]",
            ":what-if h[row 1, unit 2] 0",
            ":arrays",
            "!",
            ":watch Wz[M, 1]",
            "*",
            "a",
            "u",
        ):
            await d.type(*(("escape", "escape", keys) if keys.startswith(":") else (keys,)))
            for line in drawn_lines(d.screen):
                for found in SHOWN.finditer(line.text):
                    entry(found[0])
                    seen.add(found[0])
    assert any("row" in each for each in seen)
    assert any("“" in each for each in seen)


async def test_what_is_filled_in_is_spelled_as_on_the_screen() -> None:
    async with driving() as d:
        await d.type("l", "n", ":why Wz[“M”, unit 1]")
        panel = d.screen.overlay
        assert isinstance(panel, DerivationPanel)
        number = panel.leaf.root.number
        assert number is not None
        assert (number.name, number.index) == ("Wz", (3, 0))
        await d.type("i")
        assert d.screen.query_one(CommandLine).value.startswith("what-if Wz[“M”, unit 1] ")
        await d.type("escape", "escape", ":watch z[0,1]")
        assert d.says.startswith("watching z[row 1, unit 2]")
        await d.type(":break z if Wz[3,0] > 9")
        assert d.says.startswith("breakpoint 2 on z if Wz[“M”, unit 1] > 9")
        await d.type(":set Wz[M, 1] 0.25")
        assert d.says.startswith("Wz[“M”, unit 1] is 0.25, was ")
        await d.type(":until z[1,0] > 0")
        assert d.says.startswith("z[row 2, unit 1] > 0 holds ")


def test_a_reference_in_a_condition_keeps_the_columns_of_what_is_typed() -> None:
    from tui_gru import Session

    spellings = Session().program.spellings
    text = ExpressionText("z[row 1, unit 2] > Wz[M, 1]", names=spellings)
    assert [text.place(node).text for node in (text.tree.left, *text.tree.comparators)] == ["z[row 1, unit 2]", "Wz[M, 1]"]  # type: ignore[attr-defined]
