"""Texts on the screen use the names of the current model."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

import tui_gru
from tests.tui.test_main_screen import driving
from tests.tui.test_stopping import command
from tui_gru.debugger.program import program_of
from tui_gru.engine.config import Config
from tui_gru.equations.page import names_of, shipped
from tui_gru.session.session import Session
from tui_gru.tui.command import CommandLine
from tui_gru.tui.draw import Ref
from tui_gru.tui.headless import until_checked
from tui_gru.tui.help import HelpPanel
from tui_gru.tui.keys import example, execute
from tui_gru.tui.panels.check import CheckReport
from tui_gru.tui.panels.derivation import DerivationPanel
from tui_gru.tui.panels.sequence import Sequence
from tui_gru.tui.panels.time import header
from tui_gru.tui.theme import BLACKBOARD, palette_for
from tui_gru.tui.verbs import VERBS

PACKAGE = Path(tui_gru.__file__).parent
OWN = """
state s : H
parameters Vw Vs
w = σ(x Vw)
s = w ⊙ s_prev + (1 − w) ⊙ tanh(s_prev Vs)
"""
#: One weight read by two lines, so that its gradient has parts.
TWICE = """
state s : H
parameters Vw Vs
w = σ(x Vw + s_prev Vs)
s = w ⊙ tanh(s_prev Vs)
"""
MODELS = {
    "lstm": ({"cell": "lstm"}, ("Wi", "h", "i")),
    "own": ({"cell": "own.cell", "cell_text": OWN}, ("Vw", "s", "w")),
    "layers": ({"layers": 2, "bidirectional": True, "embedding": 2}, ("E", "h_l1", "z_l1")),
}


@pytest.mark.parametrize("model", MODELS)
def test_examples_have_the_names_of_the_model(model: str) -> None:
    options, names = MODELS[model]
    program = program_of(Config.of(**options))
    shown = example(program, "$W[0,1], max(abs($h)), $z loss")
    assert re.fullmatch(rf"{names[0]}\[“h”, (unit|column) 2\], max\(abs\({names[1]}\)\), {names[2]} loss", shown)
    assert set(names) <= set(program.readable)


@pytest.mark.parametrize("model", MODELS)
async def test_every_name_in_the_help_is_one_of_the_model(model: str) -> None:
    options, _ = MODELS[model]
    async with driving(**options) as d:
        await d.type("?", "tab")
        shown = d.pilot.app.screen.query_one(HelpPanel).plain_text()
        assert "$" not in shown
        for words in [verb.usage for verb in VERBS if verb.names] + [verb.help for verb in VERBS]:
            for name in re.findall(r"\$(\w)", words):
                assert example(d.session.program, f"${name}") in shown


@pytest.mark.parametrize("model", MODELS)
async def test_a_command_that_is_not_understood_is_answered_with_one_that_can_be_done(model: str) -> None:
    options, _ = MODELS[model]
    async with driving(**options) as d:
        await d.type("n")
        for verb in ("set", "why", "what-if"):
            await command(d, f"{verb} =")
            said = re.search(r"write it as ((?:[^,\[]|\[[^\]]*\])+)", d.says)  # up to a comma that is not in an index
            assert said is not None, (verb, d.says)
            execute(d.screen, f"{verb} {said[1]}")
            await d.type()
            assert "write it as" not in d.says, verb
            await d.type("escape")


async def test_a_character_can_be_supposed_where_it_is_read_through_an_embedding() -> None:
    async with driving(embedding=2) as d:
        await d.type("s")
        d.screen.query_one(Sequence).focus()
        assert d.screen.query_one(Sequence).spot.ref.name == "token"
        await d.type("i")
        assert d.screen.query_one(CommandLine).value == "set text[0] M"
        await d.type("right", "escape", "i")
        await d.type("escape")
        d.screen.query_one(Sequence).pointed = Ref("y", (1, 3), 0)
        await d.type("i")
        assert d.screen.query_one(CommandLine).value == "set text[4] M"


async def test_every_row_of_a_check_can_be_asked_where_two_lines_read_a_weight() -> None:
    async with driving(cell="own.cell", cell_text=TWICE) as d:
        await d.type("l", "n", "k")
        await until_checked(d.pilot)
        panel = d.screen.overlay
        assert isinstance(panel, CheckReport)
        assert panel.report is not None
        assert panel.report.agrees
        assert {row.name for row in panel.report.rows} <= set(d.session.program.names)
        await d.type("enter")
        assert isinstance(d.screen.overlay, DerivationPanel)


def test_no_name_of_a_cell_or_of_an_update_stands_in_the_code() -> None:
    """The program gets all names of a model from its equations."""
    names: set[str] = set()
    for kind in ("cell", "update", "input"):
        for piece in (shipped(kind, name) for name in names_of(kind)):
            names |= {*piece.states, *piece.parameters, *piece.inputs, *piece.settings, *(line.target for line in piece.lines)}
            names |= {node.label for line in piece.lines for node in line.formula.walk()}
    names = {name for name in names if len(name) > 1} - {"grad_norm", "learning_rate", "clip", "limit", "new", "token"}
    found = []
    for path in [path for folder in ("tui", "debugger", "engine") for path in sorted((PACKAGE / folder).rglob("*.py"))]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
                found += [(path.name, node.lineno, word) for word in re.findall(r"\w+", node.value) if word in names]
    assert found == []


# The top line


def facts(batches: int = 0, phases: int = 0, **options: Any) -> str:
    session = Session(**options)
    session.learning = True
    session.step("batch", batches)
    session.step("phase", phases)
    return "".join(segment.text for segment in header(palette_for(BLACKBOARD), session.snapshot(), 200))


def test_the_update_rule_stands_beside_its_rate() -> None:
    assert "learning on, η 0.01  " in facts(1, 1)
    assert "learning on, momentum η 0.1  " in facts(1, 1, optimizer="momentum", learning_rate=0.1)
    assert "learning on, η 0.01, clip 0.5  " in facts(1, 1, clip=0.5)


@pytest.mark.parametrize(("batches", "phases", "count"), [(0, 0, 0), (0, 2, 0), (0, 3, 1), (2, 0, 2), (2, 2, 2), (2, 3, 3)])
def test_adam_says_how_many_updates_there_were(batches: int, phases: int, count: int) -> None:
    shown = facts(batches, phases, optimizer="adam", clip=1.0)
    updates = f"{count} update{'' if count == 1 else 's'}"
    assert re.search(rf"adam η 0\.01, clip 1, {updates}(  |$)", shown)
