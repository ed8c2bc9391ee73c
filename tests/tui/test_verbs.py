"""The verb table: its rows are consistent, and keys, help and the `:` line are built from them."""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.tui.test_main_screen import driving
from tui_gru.tui.app import VerbScreen
from tui_gru.tui.ask import AskPanel
from tui_gru.tui.command import CommandLine
from tui_gru.tui.help import HelpPanel
from tui_gru.tui.verbs import BY_ID, KEYS, UNLISTED, VERBS


def once(found: Any) -> bool:
    return all(count == 1 for count in Counter(found).values())


def test_every_id_key_and_name_is_there_once() -> None:
    assert once(verb.id for verb in (*VERBS, *UNLISTED))
    assert once(key for keys in KEYS.values() for key in keys.split(","))
    assert once(name for verb in (*VERBS, *UNLISTED) for name in verb.names)


def test_verbs_that_left_the_list_can_still_be_typed_and_are_listed_nowhere() -> None:
    names = "repeat faster slower print where newest not-finite delete d enable disable marks next-mark previous-mark previous-row"
    names += (
        " reading branch rename delete-branch apart theme class feature learned plot arrays largest largest-gradient largest-change"
    )
    names += " saturated sort near-zero save! export! legend again"
    assert [name for verb in UNLISTED for name in verb.names] == names.split()
    assert not any(verb.listed or verb.keys or verb.label for verb in UNLISTED)
    assert sum(bool(verb.help) for verb in VERBS) <= 62
    assert sum(len(keys.split(",")) for keys in KEYS.values()) <= 54


def test_every_verb_can_be_reached_and_says_what_it_does() -> None:
    for verb in VERBS:
        assert verb.keys or verb.names, verb.id
        assert verb.help or verb.id == "interrupt", verb.id
        assert verb.keys or not verb.label, verb.id
        assert not verb.needs_arguments or verb.names, verb.id


def test_every_key_of_the_table_is_bound_to_its_verb() -> None:
    bound = {binding.id: binding for binding in VerbScreen.BINDINGS if not isinstance(binding, tuple)}
    assert {id: binding.key for id, binding in bound.items() if id in BY_ID} == KEYS


def requests_of_panels() -> Iterator[tuple[str, int]]:
    """Yield the names that panels ask for, each with the number of its arguments."""
    for path in (Path(__file__).parents[2] / "tui_gru" / "tui").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "request":
                named = (node.args[0].body, node.args[0].orelse) if isinstance(node.args[0], ast.IfExp) else (node.args[0],)
                yield from ((name.value, len(node.args) - 1) for name in named if isinstance(name, ast.Constant))


def test_every_request_of_a_panel_is_answered_and_every_answer_is_asked_for() -> None:
    asked = set(requests_of_panels())
    assert {name for name, _ in asked} == set(VerbScreen.requests)
    for name, arguments in asked:
        inspect.signature(VerbScreen.requests[name]).bind("the screen", *range(arguments))


async def test_a_question_is_answered_by_a_verb_that_enter_executes() -> None:
    async with driving((80, 24)) as d:
        await d.type("l", "n", "?", *"largest gradient")
        panel = d.pilot.app.screen.query_one(AskPanel)
        assert panel.entry is not None
        assert panel.entry.command == "largest-gradient"
        await d.type("enter")
        assert d.pilot.app.screen is d.screen
        assert d.says.startswith("the largest: dWy[")
        await d.type("?", *"☃☃", "enter")  # nothing fits, so nothing is done
        assert d.pilot.app.screen is not d.screen
        await d.type("escape", "?", *"dark theme", "enter")  # what has to be completed is put on the line
        assert d.screen.query_one(CommandLine).value == "theme whiteboard"


async def test_the_arrows_choose_among_all_that_fits() -> None:
    async with driving((80, 24)) as d:
        await d.type("ctrl+p", *"timestep")
        panel = d.pilot.app.screen.query_one(AskPanel)
        chosen = [panel.entry]
        for _ in panel.entries[1:]:
            await d.type("down")
            chosen.append(panel.entry)
            cursor = [strip for strip in panel.drawn if any(piece.style == panel.palette.cursor for piece in list(strip)[:1])]
            assert len(cursor) == 1, panel.entry  # it is in view
        assert chosen == panel.entries
        questions = [bool(entry.command) for entry in panel.entries]
        assert questions == sorted(questions, reverse=True)  # first
        await d.type("down")
        assert panel.entry == panel.entries[-1]
        await d.type("x")  # another text begins with its first row
        assert panel.entry == panel.entries[0]
        await d.type("ctrl+p", "escape", "ctrl+p", "ctrl+p")
        assert d.pilot.app.screen is d.screen


async def test_help_has_every_verb() -> None:
    async with driving() as d:
        await d.type("?", "tab")
        shown = d.pilot.app.screen.query_one(HelpPanel).plain_text()
        for verb in VERBS:
            assert f":{verb.names[0]}" in shown if verb.names else True


async def test_a_verb_without_a_key_asks_for_what_it_needs() -> None:
    async with driving() as d:
        await d.screen.run_action(BY_ID["open"].action)
        await d.pilot.pause()
        focused: Any = d.screen.focused
        assert focused.value == "open "
