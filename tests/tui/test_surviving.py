"""Sessions on the screen: saved, opened, copied and recorded, with their layout restored."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.session.acting import untouched
from tests.tui.test_main_screen import Driver
from tui_gru.engine.config import Config
from tui_gru.engine.training import Trainer
from tui_gru.session import opening
from tui_gru.session.session import Session
from tui_gru.storage.file import VERSION
from tui_gru.storage.state import StateWriter
from tui_gru.storage.store import session_path
from tui_gru.tui.app import make_app, new_session
from tui_gru.tui.command import CommandLine
from tui_gru.tui.headless import headless, until_idle
from tui_gru.tui.panels.lists import StopsList
from tui_gru.tui.panels.sequence import Samples
from tui_gru.tui.panels.values import Gates, ValueMatrix
from tui_gru.tui.screen import MainScreen, ScreenLayout


@asynccontextmanager
async def driving(session: Session | None = None, size: tuple[int, int] = (160, 50)) -> AsyncIterator[Driver]:
    app = make_app(Config.of() if session is None else session)
    async with headless(app, size) as pilot:
        screen = app.screen
        assert isinstance(screen, MainScreen)
        await pilot.pause()
        yield Driver(pilot, screen)
        screen.session.close()


async def command(d: Driver, text: str) -> None:
    """Type a command, and wait until it is done."""
    await d.type(":")
    line = d.screen.query_one(CommandLine)
    line.value = text
    await d.type("enter")
    await until_idle(d.pilot)
    await d.pilot.pause()
    d.session = d.screen.session


def saved(name: str, *steps: Any) -> Session:
    session = Session()
    for level, count in steps:
        session.step(level, count)
    session.save(session_path(name))
    return session


# Layout and commands


async def test_a_session_is_laid_out_as_it_was_left() -> None:
    path = session_path("math")
    session = Session()
    session.record_to(path)
    async with driving(session, (80, 24)) as d:
        await d.type("s", "r", "r", ":faster", "x", "x", "x")  # the first x turns to the page of the weights
        d.screen.set_focus(d.screen.query_one(Samples))
        await d.type("z")
        await command(d, "go e2 b1 t1")
        await command(d, "nonsense")
        left = ScreenLayout.of(d.screen)
        assert (left.page, left.row, left.speed, left.weights, left.zoomed) == (3, 1, 3, "gradients", "Samples")
    async with driving(Session.open(path), (80, 24)) as d:
        assert ScreenLayout.of(d.screen) == left
        assert isinstance(d.screen.maximized, Samples)
        assert d.says.startswith("reopened where it was left: epoch 2 · batch 1 · t 1 on main")
        assert not d.screen.play.playing
        await d.type(":", "up")
        assert d.screen.query_one(CommandLine).value == "nonsense"
        await d.type("up")
        assert d.screen.query_one(CommandLine).value == "go e2 b1 t1"


async def test_the_layout_is_written_when_it_changes_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    session, kept = Session(), []
    keep = Session.keep
    monkeypatch.setattr(Session, "keep", lambda self, *args, **options: (kept.append(args[0]), keep(self, *args, **options)))
    async with driving(session) as d:
        await d.type("s", "o", "n", "N", "tab", "2", "escape")
        assert kept == []
        await d.type("r")
        assert kept == ["layout"]
        await d.type("s", "o", "r")
        assert kept == ["layout", "layout"]


@pytest.mark.parametrize(
    "kept",
    [
        None, [], "layout", {"page": "2"}, {"row": 17, "page": 99, "speed": -5}, {"row": -1, "zoomed": "Nothing"},
        {"weights": "none of these", "parameter": "Q", "alone": 3}, {"row": True, "speed": 1.5}, {"later": {"version": 2}},
    ],
    ids=str,
)  # fmt: skip
async def test_a_layout_that_makes_no_sense_is_no_layout(kept: Any) -> None:
    session = Session()
    session.keep("layout", kept)
    session.keep("commands", [1, "s", None] if kept else kept)
    async with driving(session) as d:
        assert ScreenLayout.of(d.screen) == ScreenLayout(speed=0 if kept == {"row": 17, "page": 99, "speed": -5} else 2)
        await d.type(":", "up")
        assert d.screen.query_one(CommandLine).value == ("s" if kept else "")


@pytest.mark.parametrize(
    ("place", "offer"),
    [
        ("before", "3 marks have a text: ] goes to the next"),
        ("a", "3 marks have a text"),
        ("b", "3 marks have a text: [ goes to the one before"),
        ("c", "3 marks have a text: [ goes to the one before"),
        ("after", "3 marks have a text: [ goes to the one before"),
    ],
)
async def test_a_session_with_marks_is_opened_with_the_keys_to_them(tmp_path: Path, place: str, offer: str) -> None:
    lesson = Session()
    for letter, text in (("a", "first"), ("b", "second"), ("c", "third")):
        lesson.step("timestep")
        lesson.mark(letter, text)
    lesson.jump(place) if len(place) == 1 else lesson.seek(0 if place == "before" else 99)
    lesson.save(tmp_path / "lesson.tui-gru")
    async with driving(opening.open_session(tmp_path / "lesson.tui-gru")) as d:
        assert d.says.partition("; ")[2] == offer
        assert d.card == {
            "a": "mark a at epoch 1 · batch 1 · t 1 · forward first ] next 1 of 3",
            "b": "mark b at epoch 1 · batch 1 · t 2 · forward second ] next [ back 2 of 3",
            "c": "mark c at epoch 1 · batch 1 · t 3 · forward third [ back 3 of 3",
        }.get(place, "")


async def test_a_session_with_marks_is_a_tour_that_leaves_its_file_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "lesson.tui-gru"
    lesson = Session()
    lesson.step("timestep")
    lesson.mark("a", "the first prediction: a guess")
    lesson.step("batch")
    lesson.mark("b", "the loss of a guess")
    lesson.seek(0)
    lesson.save(path)
    before = path.read_bytes()
    async with driving(opening.open_session(path)) as d:
        assert "2 marks have a text: ] goes to the next" in d.says
        await d.type("]")
        assert d.says == "at epoch 1 · batch 1 · t 1 · forward"
        assert d.card == "mark a at epoch 1 · batch 1 · t 1 · forward the first prediction: a guess ] next 1 of 2"
        await d.type("o")
        assert d.card == ""
        await d.type("O")
        assert "the first prediction: a guess" in d.card
        await d.type("]")
        assert "the loss of a guess" in d.card
        await d.type("]")
        assert d.says == "this is the last mark"
        assert "the loss of a guess" in d.card
        await d.type("B")
        listed = d.screen.query_one(StopsList).plain_text().splitlines()
        assert [line.strip("│▸ ") for line in listed if "e1 b1" in line] == [
            "a  e1 b1 t1  the first prediction: a guess",
            "b  e1 b1 t3  the loss of a guess",
        ]
        await d.type("escape", "[")
        assert "the first prediction" in d.card
    async with driving(opening.open_session(path), (40, 12)) as d:  # there is no room for a card
        await d.type("]")
        assert d.says == "at epoch 1 · batch 1 · t 1 · forward · a: the first prediction: a guess · ] next mark"
    assert path.read_bytes() == before


async def test_a_mark_keeps_page_focus_and_zoom_and_a_text_of_several_lines(tmp_path: Path) -> None:
    async with driving(Session(), (80, 24)) as d:
        await d.type("l", "2n", "s", "o", "v", "tab", "tab", "tab", "tab")
        matrix = d.screen.focused
        assert matrix is list(d.screen.query(ValueMatrix))[1]
        await d.type(":mark a Look at the gates.\\n\\nWhich one is near 1?")
        assert d.card == "mark a at epoch 1 · batch 3 · t 2 · forward Look at the gates. Which one is near 1? 1 of 1"
        await d.type("n", "v", "escape", ":mark b The weights.", "z", ":mark c One panel.", "z")
        assert (ScreenLayout.of(d.screen).page, d.screen.focused) == (3, None)
        await d.type(":go a")
        assert (ScreenLayout.of(d.screen).page, d.screen.focused) == (2, matrix)
        await d.type(":go b")
        assert (ScreenLayout.of(d.screen).page, d.screen.focused, d.screen.maximized) == (3, None, None)
        await d.type(":go c")
        assert d.screen.maximized is not None
        d.session.save(tmp_path / "lesson.tui-gru")
    async with driving(opening.open_session(tmp_path / "lesson.tui-gru"), (80, 24)) as d:
        await d.type(":go a")
        assert ScreenLayout.of(d.screen).page == 2
        assert d.screen.maximized is None
        assert d.screen.focused is list(d.screen.query(ValueMatrix))[1]
        assert "Which one is near 1?" in d.card


@pytest.mark.parametrize("look", [None, [], "a", {"place": ["main", 0], "focus": ["Nothing", 9], "page": "x"}, {"page": 3}])
async def test_a_look_that_makes_no_sense_is_left_out(look: Any) -> None:
    session = Session()
    session.mark("a")
    session.keep("looks", {"a": look})
    async with driving(session, (80, 24)) as d:
        await d.type("s", ":go a")
        assert ScreenLayout.of(d.screen).page == 1


async def test_marks_of_one_timestep_have_names_of_their_own() -> None:
    async with driving(Session(), (80, 24)) as d:
        await d.type("o", ":mark a keeps", "o", ":mark b reads", "n", ":mark c the loss", "B")
        listed = d.screen.query_one(StopsList).plain_text().splitlines()
        names = [" ".join(line.strip("│▸ ").split()[1:5]) for line in listed if " e1 b1" in line]
        assert names == ["e1 b1 t1 z", "e1 b1 t1 r", "e1 b1 t3 the"]


async def test_only_the_newest_commands_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_gru.tui.screen.MOST_COMMANDS", 3)
    async with driving() as d:
        for i in range(5):
            await command(d, f"go {i}")
        assert d.session.kept("commands") == ["go 2", "go 3", "go 4"]


# Files


async def test_what_is_opened_is_recorded_from_there_on() -> None:
    left = saved("math", ("batch", 2))
    async with driving() as d:
        await d.type("s")
        await command(d, "open math")
        assert d.session.position == left.position
        assert "reopened where it was left" in d.says
        assert d.session.recording == session_path("math")
        await d.type("n", "r")
        again = Session.open(session_path("math"))
        assert again.position == d.session.position
        assert ScreenLayout.read(again.kept("layout")).row == 0
        await command(d, "open math")
        assert "is the session that is open here" in d.says
    assert [path.name for path in session_path("math").parent.iterdir()] == ["math.tui-gru"]


async def test_opening_another_ends_the_recording_of_the_first() -> None:
    saved("second", ("epoch", 2))
    first = Session()
    first.record_to(session_path("first"))
    async with driving(first) as d:
        await d.type("s", "z")
        await command(d, "open second")
        assert d.screen.maximized is not None  # a session without a layout is shown in the layout of the one before it
        await d.type("z")
        await command(d, "open first")
        await d.pilot.pause()
        assert d.screen.maximized is not None
        assert d.session.position == first.position
        assert first.recording is None


async def test_saving_says_where_and_goes_on_where_it_was(tmp_path: Path) -> None:
    session = Session()
    session.record_to(session_path("here"))
    async with driving(session) as d:
        await d.type("n")
        await command(d, "save there")
        assert d.says == f"saved to {session_path('there')}; `open there` opens it"
        await d.type("n")
        assert d.session.recording == session_path("here")
        await command(d, f"save {tmp_path}/a.tui-gru")
        await command(d, "save here")
        assert d.says == f"saved to {session_path('here')}"
        await command(d, "save")
        assert "type a name or a file" in d.says
        await command(d, f"save {tmp_path}/no/where.tui-gru")
        assert "cannot be written" in d.says
    assert Session.open(session_path("there")).position.number == 0
    assert Session.open(tmp_path / "a.tui-gru").position.number == 1


async def test_saving_leaves_another_session_unless_asked() -> None:
    path = session_path("math")
    saved("math", ("batch", 2))
    async with driving() as d:
        await command(d, "save math")
        assert d.says == f"{path} exists. Overwrite it? y/n"
        await d.type("n")
        assert d.says == f"{path} is left as it is"
        assert Session.open(path).position.number == 1
        await command(d, "save! math")
        assert d.says == f"saved to {path}; `open math` opens it"
        await d.type("n")
        await command(d, "save math")  # this session's own file
        assert d.says == f"saved to {path}; `open math` opens it"
    assert Session.open(path).position.number == 0


async def test_a_session_in_use_is_opened_as_a_copy_only() -> None:
    left = saved("math", ("batch", 2))
    with closing(Session.open(session_path("math"), record=True)):
        async with driving() as d:
            here = d.session
            await command(d, "open math")
            assert d.session is here
            assert "is open in another tui-gru; `open math copy` opens a copy of it" in d.says
            await command(d, "open math copy")
            assert "a copy of math, recorded as math-2" in d.says
            assert d.session.position == left.position
            assert d.session.recording == session_path("math-2")


async def test_what_cannot_be_opened_is_said_and_changes_nothing() -> None:
    saved("math", ("batch", 2))
    path = session_path("math")
    good = path.read_bytes()
    at = good.index(b'"tick"')
    async with driving() as d:
        await d.type("s")
        here = d.session
        for bad, name, said in (
            (good[: len(good) // 2], "math", "is damaged"),
            (good[:at] + b"#" + good[at + 1 :], "math", "is damaged at"),
            (good[:60] + (VERSION + 1).to_bytes(4, "big") + good[64:], "math", "use a newer one"),
            (b"a text that is no session at all\n" * 40, "math", "is not a tui-gru session"),
            (good, "nothing", "there is no file"),
            (good, "x" * 300, "is not a file name"),
        ):
            path.write_bytes(bad)
            with untouched(path):
                await command(d, f"open {name}")
            assert said in d.says
            assert d.session is here, said
            await d.type("S", "s")
            assert here.position.t == 0
            assert d.says == "", said


async def test_a_full_disk_is_said_and_the_walk_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with driving(new_session(Config.of(), record=True)) as d:
        await d.type("s")
        assert d.session.recording is not None

        def full(*_: Any) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(StateWriter, "write", full)
        await d.type("n")
        assert "no longer recorded to" in d.says
        assert "database or disk is full; the session continues in memory" in d.says
        await d.type("n")
        assert d.session.position.number == 1
        assert d.says == ""


async def test_no_state_folder_is_said_and_the_walk_goes_on(own_state_folder: Path) -> None:
    own_state_folder.rmdir()
    own_state_folder.write_text("a file", encoding="utf-8")
    async with driving(new_session(Config.of(), record=True)) as d:
        await d.type("s")
        assert "not recorded; the session continues in memory only" in d.says
        await d.type("r", "s")
        assert d.session.position.t == 1
        assert d.says == ""


async def test_a_debugger_that_is_not_told_to_records_nowhere(own_state_folder: Path) -> None:
    async with driving() as d:
        await d.type("s", "r", "n", "p")
    assert not list(own_state_folder.iterdir())


# Divergence


async def test_a_replay_that_diverges_is_said_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(vocabulary="hatMx", history_memory=20000)
    session.learning = True
    session.step("batch", 300)
    run = Trainer.run

    def otherwise(self: Any, record: Any, *arguments: Any, **options: Any) -> None:
        run(self, record, *arguments, **options)
        record.own_after["Wz"][4, 0] = np.nextafter(record.own_after["Wz"][4, 0], np.float32(9))

    async with driving(session) as d:
        here = d.session.position
        monkeypatch.setattr(Trainer, "run", otherwise)
        await command(d, "back any(z > 9)")
        assert "the replay of batch " in d.says
        assert "begins with 1 of " in d.says
        assert d.session.position == here
        monkeypatch.undo()
        await d.type("s")
        assert d.session.position > here


async def test_the_screen_shows_other_panels_after_opening_another_model() -> None:
    large = Session(text="abcdefghij" * 9, hidden_size=12, batch_size=3, seq_length=4)
    large.step("batch", 2)
    large.keep("layout", ScreenLayout(row=2, parameter="Wy", zoomed="Gates")._asdict())
    large.save(session_path("large"))
    async with driving() as d:
        await command(d, "open large")
        await d.pilot.pause()
        assert np.array_equal(d.screen.snapshot.parameter("Wy"), large.parameter("Wy"))
        assert d.screen.view.row == 2
        assert d.screen.query(Gates)
