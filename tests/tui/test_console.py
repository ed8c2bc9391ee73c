"""Keys and commands without a screen: they answer as the screen does, and need it only where they show something."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tui_gru import Session, TuiGruError
from tui_gru.session.answers import PlainResults
from tui_gru.storage.trace import json_text
from tui_gru.tui.console import Console
from tui_gru.tui.headless import UnseenScreen
from tui_gru.tui.keys import commands_of, example
from tui_gru.tui.verbs import VERBS

EVIL = "[red]a[/red]\x1b[31m\u202eb"


@pytest.fixture
def console() -> Iterator[Console]:
    console = Console(Session(epochs=4))
    yield console
    console.close()


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("l; 3n;why h[row 1, unit 1] ;; findings", ["l", "3n", "why h[row 1, unit 1]", "findings"]),
        ("influence ';'; s", ["influence ';'", "s"]),
        ('set text[3] ";"\ns', ['set text[3] ";"', "s"]),
        ("why Wz[“;”, unit 1]; s", ["why Wz[“;”, unit 1]", "s"]),
        ("ma; 'a; s; 'a", ["ma", "'a", "s", "'a"]),
        ("mark a don't stop; s", ["mark a don't stop", "s"]),
        ("mark a 'open; s", ["mark a 'open", "s"]),
        (" ; \n", []),
    ],
)
def test_commands_are_separated_by_semicolons_outside_of_quotes(text: str, commands: list[str]) -> None:
    assert commands_of(text) == commands


@pytest.mark.parametrize("entry", ["z[row 1, unit 2]", "Wz[“M”, unit 1]", "Wz[M, 1]", ":z[0,1]", "z[row 1, unit 2] t 1"])
def test_an_entry_alone_is_explained(console: Console, entry: str) -> None:
    console.execute("s")
    assert console.execute(entry) == console.execute(f"why {entry.lstrip(':')}")


def test_what_is_no_entry_is_refused_in_the_spelling_of_the_screen(console: Console) -> None:
    console.execute("s")
    for command, words in (
        ("why z", r"such as z\[row 1, unit 1\]"),
        ("set Wz 3", r"such as Wz\[“h”, unit 1\]"),
        ("z[0, 9]", r"its first entry is \[row 1, unit 1\]"),
        ("none[0, 1]", "there is no value named 'none'"),
        ("z[row 3, unit 1]", "column 3: z has the rows 1 to 2"),
    ):
        with pytest.raises(TuiGruError, match=words):
            console.execute(command)
    assert "4 numbers, now from" in console.execute("what-if z 0.5").text  # all of them at once


#: Verbs whose answer is words, in an order in which each has something to do.
ANSWERED = """
o; s; 2s; S; n; N; e; step phase; step -1 phase; step 3 batch; step -1 line; repeat; a; l; learning off; learning on; go e2 b1 t2; g
go 50%; go newest; newest
set Wz[0,1] 0.5; u; U; undo; redo; undo; undo; set lr 0.1; set text[3] t; sample Ma 5 0; until loss < 1.3; back loss > 1.31; ]; [
go nan; not-finite
b; b; break z if any(z > 0.9) hits %2; c; C; disable 2; enable 2; w; watch max(abs(h)) stop; c; delete 2 3; c; delete 9
mark a what to see; n; m b; next-mark; previous-mark; 'a; jump '; ]; [
delete a; r; previous-row; L; branch main; go e1 b1; set Wz[0,0] 1
branches main; compare; =
compare off; rename main~1 warm; delete-branch warm; n; delete-branch warm; y; check every on; check every off
whatif; ne; lossy; reading
esc; 7
"""


def test_the_answers_are_those_of_the_screen() -> None:
    """Each command is executed without a screen on one session and on the screen of another."""
    console = Console(Session(epochs=4))
    screen = UnseenScreen(Session(epochs=4), console.view, (160, 50))  # on one page, so that no answer names another
    unlike = []
    try:
        for command in commands_of(ANSWERED):
            one, other = _answer(console, command), _seen(screen, console, command)
            if one != other or console.snapshot.position != screen.session.position:
                unlike.append((command, one, other))
            assert console._screen is None, command  # noqa: SLF001 - it needed no screen
    finally:
        console.close()
        screen.close()
    assert unlike == [], "\n".join(map(str, unlike))


def _answer(console: Console, command: str) -> str:
    try:
        return console.execute(command).text
    except TuiGruError as error:
        return str(error)


def _seen(screen: UnseenScreen, console: Console, command: str) -> str:
    """Return what a console answers to which this screen belongs."""
    other = Console(screen.session)
    other._screen = screen  # noqa: SLF001
    other.pending = console.pending
    text = _answer(other, command)
    # The panel in focus is an answer of the screen only.
    return text.split("\n\n")[0]


@pytest.mark.parametrize("typed", [False, True])
def test_every_verb_has_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, console: Console, typed: bool) -> None:
    """No verb is without one, or fails otherwise than by a refusal; all data are JSON."""
    monkeypatch.chdir(tmp_path)
    for command in ("l", "2n", "s", "o", "break h", "watch loss", "mark a", "set Wz[0,0] 1"):
        console.execute(command)
    refused: list[str] = []
    for verb in VERBS:
        if verb.id in ("quit", "open") or not (verb.names if typed else verb.keys):
            continue
        command = f":{example(console.session.program, verb.usage)}" if typed else verb.keys.split(",")[0]
        try:
            answer = console.execute(command)
        except TuiGruError as error:
            refused.append(str(error))
        else:
            assert answer.text, verb.id
            assert all(line.isprintable() for line in answer.text.split("\n"))
            json.loads(json_text({"position": answer.place, "data": answer.data}), parse_constant=pytest.fail)
    assert all(words and words.isprintable() for words in refused)


def test_what_is_shown_is_data(console: Console) -> None:
    assert console.execute("l").data["loss"] is None
    loss = console.execute("3n").data["loss"]
    assert loss == console.session.loss
    why = console.execute("why h[1,0]").data
    assert why["value"] == float(console.session.value("h")[1, 0])
    assert console.execute("why h[row 2, unit 1]").data == why
    assert why["value"] == pytest.approx(sum(term["value"] for term in why["terms"]), abs=1e-7)
    assert [sample["text"] for sample in console.execute("sample Ma 4 0").data] == [each.text for each in console.session.samples]
    (finding, *_) = console.execute("findings").data
    (found, *_) = console.session.findings()
    assert (finding["name"], finding["cures"]) == (found.name, [cure.typed for cure in found.cures])
    assert set(finding) >= {"cause", "first_seen", "evidence", "meaning", "cure"}
    assert console.execute("what-if z[0,1] 0.5").data["loss"] == loss
    activity, _, probes = console.execute("units").data
    assert len(probes) == len(console.session.units().probes())
    assert activity["values"].shape == (20, 2)
    influence, rows, *_ = console.execute("influence").data
    assert (influence["row"], rows["row"]) == (0, 0)
    rates = console.execute("rates").data
    assert [rate["rate"] for rate in rates] == sorted(rate["rate"] for rate in rates)
    assert min(rate["loss"] for rate in rates) > 0
    story = console.execute("plot max(abs(h))").data
    assert (story["batches"], story["columns"]["loss"][-1]) == (3, pytest.approx(loss))
    batches, values = console.session.history("max(abs(h))")
    assert [moment["plotted"]["max(abs(h))"] for moment in story["moments"]] == values.tolist()
    assert [(moment["place"]["epoch"], moment["place"]["batch"]) for moment in story["moments"]] == [(1, b + 1) for b in batches]
    check = console.execute("check").data
    assert {row["name"] for row in check["rows"]} > {"dWz", "dh"}
    assert [branch["name"] for branch in console.execute("branches").data] == ["main"]
    assert console.execute("set Wz[0,0] 1").data["line"]  # not the list, which is still open


def test_a_place_counts_from_one(console: Console) -> None:
    console.execute("l")
    assert console.execute("n").place["words"].startswith("at the end of epoch 1 · batch 1")
    place = console.execute("s").place
    assert {name: place[name] for name in ("epoch", "batch", "t", "phase")} == {"epoch": 1, "batch": 2, "t": 1, "phase": "forward"}


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("foo", "there is no command 'foo'"), ("why nothing", "no value named"), ("c", "no breakpoints are set"),
        ("t", "t needs more: type, for example, until loss < 0.5"), ("space", "play goes on by itself"), (":play", "play goes on"),
        ("b", "no line has been executed yet"), ("s 3 4", "there is no level"), ("class quotes", "no units are shown"),
    ],
)  # fmt: skip
def test_what_is_refused_is_an_error(command: str, words: str) -> None:
    console = Console(Session())  # which has no end
    with pytest.raises(TuiGruError, match=words):
        console.execute(command)
    assert console.execute("s").text.startswith("at epoch 1 · batch 1 · t 1")


def test_keys_of_panels_need_the_screen_and_have_it(console: Console) -> None:
    console.execute("set Wz[0,0] 1")
    console.execute("n")
    text = console.execute("stops").text
    assert "no breakpoints" in text
    console.execute("esc")
    assert console.execute("x").text.startswith("weights panel: ")
    assert console.execute("tab").text  # the panel in focus
    assert "step.line" not in console.execute("?").text
    assert console.execute("o").place["phase"]


def test_numbers_that_are_not_finite_are_strings(console: Console) -> None:
    found = json_text(
        PlainResults(console.session.program).plain(
            {"a": float("nan"), "b": np.array([[np.nan, np.inf]], np.float32), "c": np.float32(1)}
        )
    )
    assert json.loads(found, parse_constant=pytest.fail)["a"] == "NaN"
    assert json.loads(found)["b"] == [["NaN", "Infinity"]]


def test_a_derivation_and_a_result_of_several_fields_are_written_in_full(console: Console) -> None:
    console.execute("n")
    session, results = console.session, PlainResults(console.session.program)
    node = session.explain("h", (0, 0))
    written = results.plain(node)
    assert written["formula"] == node.derivation.formula != ""
    assert [term["label"] for term in written["terms"]] == [term.label for term in node.terms]
    assert [term["share"] for term in written["terms"]] == list(node.shares) != []
    summary = session.summary("Wz")
    assert summary is not None
    fields = results.plain(summary)
    assert (fields["entries"], fields["finite"]) == (summary.entries, summary.finite)


def test_hostile_texts_are_shown_as_text() -> None:
    console = Console(Session(text=EVIL * 3, batch_size=1, seq_length=3))
    try:
        console.execute(f"mark a {EVIL}")
        for command in ("n", "marks", "units", "findings", "sample", "losses"):
            text = console.execute(command).text
            assert all(line.isprintable() for line in text.split("\n")), command
        assert "[red]a[/red]\\x1b[31m\\u202eb" in console.execute("'a").text
    finally:
        console.close()


def test_help_about_words_is_text_and_no_picture_of_a_screen(console: Console) -> None:
    text = console.execute("help compare branches").text
    first, *lines = text.splitlines()
    assert first == "Any moment of a long run · Branches: compare two futures"
    assert any(line.startswith("also: ") for line in lines)
    assert not set(text) & set("│╭╮╰╯")


def test_losses_by_class_say_that_classes_overlap(console: Console) -> None:
    console.execute("n")
    assert "in several classes, so the shares overlap" in console.execute("d").text
