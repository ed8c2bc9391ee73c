"""The `:` line says what can be typed next, with a few words about it, and completes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.test_main_screen import Driver, driving
from tui_gru.errors import TuiGruError
from tui_gru.tui.command import COMPLETIONS, CommandLine, CompletionList, common_beginning, complete
from tui_gru.tui.keys import execute
from tui_gru.tui.verbs import VERBS


def line_of(d: Driver) -> CommandLine:
    return d.screen.query_one(CommandLine)


def listed(d: Driver) -> tuple[str, ...]:
    panel = d.screen.query_one(CompletionList)
    return panel.shown if panel.display else ()


def test_every_argument_has_a_completion_that_is_there() -> None:
    for verb in VERBS:
        assert set(verb.completes) <= set(COMPLETIONS), verb.id


async def test_verbs_are_listed_with_what_they_do_and_completed_one_after_the_other() -> None:
    async with driving() as d:
        await d.type(":", *"un")
        assert [row.partition(" ")[0] for row in listed(d)] == ["undo", "until", "units"]
        assert listed(d)[0] == "undo undo the last change"
        await d.type("tab")
        assert line_of(d).value == "un"
        await d.type("tab")
        assert line_of(d).value == "undo"
        await d.type("tab")
        assert line_of(d).value == "until"
        await d.type("shift+tab", "shift+tab")
        assert line_of(d).value == "units"
        await d.type("escape")
        assert listed(d) == ()


async def test_all_candidates_can_be_reached_where_there_are_many() -> None:
    async with driving((40, 12)) as d:
        await d.type(":", "tab")
        seen = []
        for _ in range(len([verb for verb in VERBS if verb.names])):
            await d.type("tab")
            seen.append(line_of(d).value)
            assert any(row.startswith(seen[-1]) for row in listed(d))
        assert seen == [verb.names[0] for verb in VERBS if verb.names]


async def test_a_verb_is_described_while_its_arguments_are_typed() -> None:
    async with driving((80, 24)) as d:
        panel = d.screen.query_one
        await d.type(":", *"break ")
        assert panel(CompletionList).about == (
            "break h if any(h > 0.9) hits %5: breakpoint on the current line; again deletes it; or on another line, with a "
            "condition or a hit count; log TEMPLATE writes a line and does not stop"
        )
        assert listed(d) == ()
        await d.type(*"h_t")
        assert panel(CompletionList).about.startswith("break h if")
        assert listed(d) == ("h_tilde candidate: what the new state could be",)
        await d.type("tab", "escape")
        assert not panel(CompletionList).display
        await d.type(":", *"nothing ")
        assert not panel(CompletionList).display


#: What is typed, and how it can go on.
ARGUMENTS = {
    "set lea": ["learning_rate"],
    "until los": ["loss"],
    "until any(h_ti": ["h_tilde"],
    "until ma": ["max_weight", "max"],
    "break h_t": ["h_tilde"],
    "learning o": ["on", "off"],
    "step 3 ba": ["batch"],
    "sample Ma": [],
    "theme white": ["whiteboard"],
    "class quo": ["quotes"],
    "what-if Wz": ["Wz"],
    "go e": [],
    "nothing x": [],
}


async def test_arguments() -> None:
    async with driving() as d:
        found = {typed: [each.text for each in complete(d.screen, typed).candidates] for typed in ARGUMENTS}
        assert found == ARGUMENTS


async def test_what_the_session_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "hers.txt").touch()
    async with driving() as d:
        await d.type("n", "m", "a", "N", "b")
        execute(d.screen, "break h")
        execute(d.screen, "set Wz[0,1] 0.5")
        assert [each.text for each in complete(d.screen, "delete ").candidates] == ["1", "a"]
        assert [each.text for each in complete(d.screen, "jump ").candidates] == ["a"]
        assert [each.text for each in complete(d.screen, "branch ").candidates] == ["main"]
        assert "loss" in complete(d.screen, "branch ").candidates[0].words
        assert [each.text for each in complete(d.screen, "export her").candidates] == ["here/", "hers.txt"]
        assert complete(d.screen, "export here/x").candidates == ()
        await d.type(":", *"export her", "tab", "tab", "tab")
        assert line_of(d).value == "export hers.txt"


async def test_a_wrong_word_is_answered_with_the_one_that_was_meant() -> None:
    async with driving() as d:
        await d.type("n", "N", ":set Wz[0,1] 0.5")  # which waits, should it take a thread
        for typed, meant in (
            ("banches", "branches"), ("branch mian", "main"), ("compare mian", "main"), ("delete-branch mian", "main"),
            ("theme blackbord", "blackboard"),
        ):  # fmt: skip
            with pytest.raises(TuiGruError, match=f"did you mean {meant}"):
                execute(d.screen, typed)


@pytest.mark.parametrize(
    ("texts", "common"), [(["undo", "until"], "un"), (["a"], "a"), (["a", "b"], ""), (["on", "one", "onto"], "on"), (["", "a"], "")]
)
def test_the_common_beginning(texts: list[str], common: str) -> None:
    assert common_beginning(texts) == common
