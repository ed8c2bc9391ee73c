"""The verb table: its rows are consistent, and keys, palette, help and the `:` line are built from them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.tui.test_main_screen import driving
from tui_gru.tui.panels.typing.command_line import CommandLine
from tui_gru.tui.screens.help import HelpPanel
from tui_gru.tui.screens.main import MainScreen
from tui_gru.tui.verbs.table import BY_ID, KEYS, VERBS


def once(found: Any) -> bool:
    return all(count == 1 for count in Counter(found).values())


def test_every_id_key_and_name_is_there_once() -> None:
    assert once(verb.id for verb in VERBS)
    assert once(key for keys in KEYS.values() for key in keys.split(","))
    assert once(name for verb in VERBS for name in verb.names)


def test_every_verb_can_be_reached_and_says_what_it_does() -> None:
    for verb in VERBS:
        assert verb.keys or verb.names, verb.id
        assert verb.help or verb.id == "interrupt", verb.id
        assert verb.keys or not verb.label, verb.id
        assert not verb.needs_arguments or verb.names, verb.id


def test_every_key_of_the_table_is_bound_to_its_verb() -> None:
    bound = {binding.id: binding for binding in MainScreen.BINDINGS if not isinstance(binding, tuple)}
    assert {id: binding.key for id, binding in bound.items() if id in BY_ID} == KEYS


async def test_help_finds_verbs_and_executes_them() -> None:
    async with driving((80, 24)) as d:
        await d.type("l", "n", "?", *"largest gradient")
        panel = d.pilot.app.screen.query_one(HelpPanel)
        assert str(panel.border_subtitle).startswith("enter: :largest-gradient")
        await d.type("enter")
        assert d.pilot.app.screen is d.screen
        assert d.says.startswith("the largest: dWy[")
        await d.type("?", *"nothing like it", "enter")  # nothing is found, so nothing is done
        assert d.pilot.app.screen is not d.screen
        await d.type("escape", "?", *"theme", "enter")  # a verb that needs arguments opens the line
        assert d.screen.query_one(CommandLine).value == "theme "
        await d.type("escape", "?", "enter")  # without a text, enter does nothing
        assert d.pilot.app.screen is not d.screen


async def test_the_palette_names_the_keys_and_carries_verbs_out() -> None:
    async with driving() as d:
        app: Any = d.pilot.app
        commands = {command.title: command for command in app.get_system_commands(d.screen)}
        assert commands["Go: run until a condition holds: loss < 0.5"].help == "t · :until loss < 0.5"
        await commands["Step: one timestep"].callback()
        assert d.where == (0, 0, 0, "forward")
        assert len(commands) >= len([verb for verb in VERBS if verb.help])


async def test_help_has_every_verb() -> None:
    async with driving() as d:
        await d.type("?")
        shown = d.pilot.app.screen.query_one(HelpPanel).plain_text()
        for verb in VERBS:
            assert f":{verb.names[0]}" in shown if verb.names else True


async def test_a_verb_without_a_key_asks_for_what_it_needs() -> None:
    async with driving() as d:
        await d.screen.press(BY_ID["theme"])
        await d.pilot.pause()
        focused: Any = d.screen.focused
        assert focused.value == "theme "
