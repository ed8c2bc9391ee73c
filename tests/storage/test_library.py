"""Sessions without a name: recorded on first use, listed, and the oldest ones deleted."""

import os
import shutil
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest

from tests.session.acting import altered, assert_same, untouched
from tui_gru import Session
from tui_gru.session import opening
from tui_gru.storage import log_damage, recorder, store
from tui_gru.storage import state as state_writer
from tui_gru.storage import store as library
from tui_gru.storage.file import SessionInUseError, SessionMissingError
from tui_gru.storage.store import RecordedFile

TODAY = date(2026, 11, 25)


def automatic(text="MathMathMathMathMath"):
    return library.automatic_path(text, TODAY)


def at(path, seconds):
    """Set the time at which a session was saved, and a different time of its file, which must not matter."""
    altered(path, "here", lambda here: {**here, "written": seconds * 10**6})
    os.utime(path, (10**9 - seconds, 10**9 - seconds))


@pytest.fixture
def begun():
    """A session that is recorded on first use."""
    session = Session()
    session.recorder.record_later(automatic)
    with closing(session):
        yield session


# Begun with the first thing that is done


@pytest.mark.parametrize(
    "verb",
    [
        lambda s: s.step(),
        lambda s: s.sample("Ma", 3),
        lambda s: s.edit("Wz", (0, 0), 1.0),
        lambda s: s.keep("marks", {"a": 0}),
    ],
    ids=["step", "sample", "edit", "mark"],
)
def test_a_recording_begins_with_the_first_thing_done(begun, verb):
    assert begun.recording is None
    verb(begun)
    assert begun.recording == automatic().with_name("2026-11-25-Math.tui-gru")
    assert_same(begun, Session.open(begun.recording))
    assert Session.open(begun.recording).kept("marks") == begun.kept("marks")
    begun.step("batch")
    assert_same(begun, Session.open(begun.recording))


@pytest.mark.parametrize(
    "verb",
    [lambda s: s.step(count=-1), lambda s: s.undo(), lambda s: s.keep("layout", 1, begin=False), lambda s: s.seek(0), repr],
    ids=["step back", "undo", "layout", "seek", "nothing"],
)
def test_a_session_that_was_only_looked_at_leaves_nothing(begun, verb, own_state_folder):
    verb(begun)
    begun.close()
    begun.step()
    assert begun.recording is None
    assert not list(own_state_folder.iterdir())


def test_what_was_kept_before_the_recording_began_is_in_it(begun):
    begun.keep("layout", {"page": 2}, begin=False)
    begun.step()
    assert Session.open(begun.recording).kept("layout") == {"page": 2}


def test_two_that_begin_at_once_have_a_file_each():
    first, second, taken = Session(), Session(), automatic()
    with closing(first), closing(second):
        first.recorder.record_later(lambda: taken)
        first.step()
        places = [taken, taken, automatic()]
        second.recorder.record_later(lambda: places.pop(0))
        second.step("batch")
        assert (first.recording, second.recording) == (taken, taken.with_stem("2026-11-25-Math-2"))
        assert Session.open(taken).position == first.position


def test_a_place_that_is_always_taken_is_given_up_and_said():
    first, second, taken = Session(), Session(), automatic()
    with closing(first):
        first.record_to(taken)
        second.recorder.record_later(lambda: taken)
        second.step()
    assert "not recorded; the session continues in memory only" in second.notice
    assert second.position.t == 0
    second.step()
    assert second.notice == ""


def test_no_folder_is_said_and_the_session_goes_on(begun, own_state_folder):
    own_state_folder.rmdir()
    own_state_folder.write_text("not a folder")
    begun.step()
    assert begun.notice.startswith("not recorded; the session continues in memory only: ")
    assert "cannot be created" in begun.notice
    begun.step()
    assert begun.position.t == 1
    assert begun.recording is None


def test_one_that_is_recorded_on_purpose_is_not_recorded_automatically(begun, tmp_path, own_state_folder):
    begun.record_to(tmp_path / "a.tui-gru")
    begun.step()
    assert begun.recording == tmp_path / "a.tui-gru"
    assert not list(own_state_folder.iterdir())


def test_a_disk_that_is_full_at_the_beginning_is_said(begun, monkeypatch):
    import sqlite3

    from tui_gru.storage.state import StateWriter

    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(StateWriter, "write", full)
    begun.step()
    assert begun.notice.endswith("database or disk is full; save it elsewhere")
    assert recorder.ATTEMPTS > 1


# Names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("MathMathMathMathMath", "Math"),
        ("aaaaaaaa", "a"),
        ("Shall I compare thee to a summer's day?", "Shall"),
        ("../../etc/passwd", "etc"),
        ("?!?!?!?!", "text"),
        ("日本語のテキスト", "日本語のテキスト"),
        ("def f(x):\n    return x", "def"),
        ("supercalifragilisticexpialidocious", "supercalifragili"),
        ("under_scored", "under"),
        ("abcabc abcabc", "abcabc"),
    ],
)
def test_a_name_is_the_day_and_the_first_word(text, name):
    assert automatic(text) == store.automatic_folder() / f"2026-11-25-{name}.tui-gru"


def test_a_name_that_is_taken_has_a_number():
    for expected in ("Math", "Math-2", "Math-3"):
        path = automatic()
        assert path.stem == f"2026-11-25-{expected}"
        Session().save(path)
    assert library.free_path(Path("free.tui-gru")) == Path("free.tui-gru")


def test_a_bare_name_finds_automatic_ones_too_and_those_that_were_named_first():
    path = automatic()
    Session().save(path)
    assert store.session_path(path.stem) == path
    assert library.find_session(path.stem) == path
    named = store.sessions_folder() / path.name
    Session().save(named)
    assert store.session_path(path.stem) == named


def test_last_is_the_newest():
    with pytest.raises(SessionMissingError, match="no session in"):
        library.find_session("last")
    old, new = store.session_path("old"), automatic()
    Session().save(old)
    Session().save(new)
    at(old, 1)
    at(new, 2)
    assert library.find_session("last") == new
    session = Session.open(old, record=True)
    with closing(session):
        assert library.find_session("last") == old
        session.step()
        Session().save(new)
        assert library.find_session("last") == new
        session.step()
        assert library.find_session("last") == old


def test_a_clock_that_was_set_back_makes_nothing_older(monkeypatch):
    monkeypatch.setattr(library, "STAY", 3)
    clock = iter([5000, 6000, 7000, 100, 90, 80, 70])
    monkeypatch.setattr(state_writer, "now", lambda: next(clock) * 10**6)
    paths = []
    for letter in "abcdefg":
        paths.append(automatic(letter * 9))
        Session().save(paths[-1])
        library.prune()
        assert paths[-1].exists()
        assert library.find_session("last") == paths[-1]
    assert [path.exists() for path in paths] == [False] * 4 + [True] * 3
    assert [each.path for each in library.all_sessions()] == paths[:-4:-1]


def test_a_recording_is_newer_with_every_verb_whatever_the_clock_says(tmp_path, monkeypatch):
    session, path = Session(), tmp_path / "math.tui-gru"
    clock = iter([50, 40, 30, 60])
    monkeypatch.setattr(state_writer, "now", lambda: next(clock))
    with closing(session):
        session.record_to(path)
        for expected in (51, 52, 60):
            session.step()
            assert store.written(path) == expected
        assert not session.undo()
        assert store.written(path) == 60
        monkeypatch.setattr(state_writer, "now", lambda: 10)
    with closing(Session.open(path, record=True)):
        assert store.written(path) == 61


def test_the_log_of_a_killed_process_is_not_read_when_another_session_begins(tmp_path, monkeypatch):
    """It can be large: reading it took seconds at the first key."""
    session, live, killed = Session(), tmp_path / "live.tui-gru", automatic("killed")
    with closing(session):
        session.record_to(live)
        session.step()
        killed.parent.mkdir(parents=True)
        for end in ("", "-wal", "-shm"):
            shutil.copyfile(f"{live}{end}", f"{killed}{end}")
    new = automatic("new")
    with closing(Session()) as other:
        with monkeypatch.context() as patched:
            patched.setattr(log_damage, "damage_of", None)
            other.record_to(new)
            library.prune()
        assert library.written(killed) < library.written(new)
        assert library.find_session("last") == new


def test_a_session_from_the_end_of_time_does_not_break_those_that_come_after_it():
    evil, good = store.session_path("evil"), store.session_path("good")
    Session().save(evil)
    altered(evil, "here", lambda here: {**here, "written": state_writer.LATEST})
    Session().save(good)
    assert Session.open(good).position.tick == 0
    assert {each.name for each in library.all_sessions()} == {"evil", "good"}


# The list


def test_the_list_says_where_each_was_left_and_what_is_wrong_with_others(tmp_path):
    session = Session()
    session.step("epoch", 2)
    session.seek("e2 b1 t2")
    session.edit("Wz", (0, 0), 1.0)
    session.save(store.session_path("math"))
    Session().save(automatic())
    (store.sessions_folder() / "foreign.tui-gru").write_text("something else entirely, and long enough to be a file")
    (store.sessions_folder() / "a folder.tui-gru").mkdir()
    (store.sessions_folder() / "readme.txt").write_text("no session")
    for seconds, path in enumerate([store.session_path("math"), automatic().with_stem("2026-11-25-Math")]):
        at(path, seconds + 1)
    auto, math, foreign = library.all_sessions()
    assert (math.name, math.place, math.branches) == (
        "math",
        "epoch 2, batch 1, t 2",
        ("main~1", "main"),
    )
    assert (auto.name, auto.branches, auto.written) == ("2026-11-25-Math", ("main",), 2)
    assert math.size == store.session_path("math").stat().st_size
    assert (foreign.name, foreign.branches) == ("foreign", ())
    assert "is not a tui-gru session" in foreign.place


def test_a_session_that_is_open_is_listed_as_it_is_now():
    session = Session()
    with closing(session):
        session.record_to(store.session_path("math"))
        session.seek("e5 b1 t1")
        (math,) = library.all_sessions()
        assert math.place == "epoch 5, batch 1, t 1"


# The oldest go


def test_the_oldest_automatic_ones_go_and_no_others(monkeypatch):
    monkeypatch.setattr(library, "STAY", 3)
    kept = store.session_path("kept")
    Session().save(kept)
    at(kept, 1)
    paths = []
    for i in range(7):
        paths.append(automatic())
        Session().save(paths[-1])
        at(paths[-1], 10 + i)
    paths[1].write_bytes(b"not a session, so it is no business of ours" * 9)
    busy = Session.open(paths[2], record=True)
    with closing(busy):
        library.prune()
        assert [path.exists() for path in paths] == [False, True, True, False, False, True, True]
    assert kept.exists()
    at(paths[2], 3)
    monkeypatch.setattr(library, "STAY", 2)
    library.prune()
    assert [path.exists() for path in paths] == [False, True, False, False, False, True, True]
    assert {path.name for path in store.automatic_folder().iterdir()} == {path.name for path in paths if path.exists()}


# Going on


def test_a_copy_is_recorded_beside_and_the_original_is_left_as_it_is(tmp_path):
    path = tmp_path / "math.tui-gru"
    session = Session()
    session.step("batch", 2)
    session.save(path)
    before = path.read_bytes()
    with closing(opening.copied(path)) as copy:
        assert copy.recording == tmp_path / "math-2.tui-gru"
        assert copy.notice == "a copy of math, recorded as math-2: epoch 1 · batch 2 · t 3 on main, 1 branch, 0 changes"
        copy.step()
        assert_same(copy, Session.open(tmp_path / "math-2.tui-gru"))
    assert path.read_bytes() == before


def test_a_session_that_is_open_can_be_copied(tmp_path):
    path = tmp_path / "math.tui-gru"
    session = Session()
    with closing(session):
        session.record_to(path)
        session.step()
        with pytest.raises(SessionInUseError):
            opening.reopen_session(path)
        with closing(opening.copied(path)) as copy:
            assert_same(session, copy)


def test_a_session_that_cannot_be_written_goes_on_in_memory(tmp_path, monkeypatch):
    path = tmp_path / "math.tui-gru"
    session = Session()
    session.step()
    session.save(path)
    from tui_gru.storage import file as session_file

    connect = session_file.connect
    monkeypatch.setattr(session_file, "connect", lambda path, mode: connect(path, "ro" if mode.startswith("rwc") else mode))
    for way in (opening.reopen_session, opening.copied):
        with untouched(path):
            again = way(path)
            assert again.notice.startswith("not recorded; the session continues in memory only: ")
            assert again.recording is None
            again.step()
            assert again.position.t == 1


def test_the_past_can_be_given_other_bounds(tmp_path):
    session = Session()
    session.learning = True
    session.step("batch", 500)
    session.save(tmp_path / "math.tui-gru")
    for record in (False, True):
        with closing(Session.open(tmp_path / "math.tui-gru", record=record, history_memory=20000)) as again:
            budget = again.state.timeline.memory.budget
            assert budget.limit == 20000
            assert again.state.timeline.segments[-1].checkpoints.count < session.state.timeline.segments[-1].checkpoints.count
            again.seek("e20 b1 t1")
            session.seek("e20 b1 t1")
            assert (again.parameter("Wz") == session.parameter("Wz")).all()
    assert Session.open(tmp_path / "math.tui-gru").state.timeline.memory.budget.limit == 20000


# Branches with another name


def test_a_branch_and_the_marks_on_it_are_renamed_in_one_go(tmp_path, monkeypatch):
    path = tmp_path / "math.tui-gru"
    session = Session()
    with closing(session):
        session.record_to(path)
        session.step("batch", 3)
        session.step("batch", -2)
        session.edit("Wz", (0, 0), 1.0)
        session.mark("a")
        states = []

        def after(write):
            def written(file, state):
                said = write(file, state)
                again = Session.open(path)
                states.append((again.branches, [mark.branch for mark in again.marks]))
                return said

            return written

        monkeypatch.setattr(RecordedFile, "write", after(RecordedFile.write))
        monkeypatch.setattr(RecordedFile, "write_kept", after(RecordedFile.write_kept))
        session.rename_branch("main~1", "warm")
        session.switch("main")
        session.delete_branch("warm")
        assert states == [(("main", "warm"), ["warm"])] * 2 + [(("main",), [])]
        session.mark("b")
        assert states[-1] == (("main",), ["main"])
    assert session.marks == Session.open(path).marks


@pytest.mark.parametrize("stops", [False, True])
def test_a_process_that_is_killed_in_a_long_run_loses_its_last_seconds_only(tmp_path, monkeypatch, stops):
    monkeypatch.setattr(recorder, "RECORD_EVERY", 0)
    monkeypatch.setattr(recorder, "RECORD_SHARE", 0)
    session, path, killed = Session(), tmp_path / "live.tui-gru", tmp_path / "killed.tui-gru"
    session.learning = True
    if stops:
        session.break_at(condition="loss < 0")
    copied = []

    def progress(place):
        if place.number == 60:
            copied.append(place)
            for end in ("", "-wal", "-shm"):
                shutil.copyfile(f"{path}{end}", f"{killed}{end}")

    with closing(session):
        session.record_to(path)
        session.step("batch", 100, progress=progress)
    assert len(copied) == 1
    left, reference = Session.open(killed), Session()
    assert left.newest.number == 59  # the one before
    assert left.position.tick == (0 if stops else left.newest.tick)  # the run may still have stopped on the way
    reference.learning = True
    if stops:
        reference.break_at(condition="loss < 0")
    for each in (left, reference):
        each.seek(0)
        each.seek(left.newest)
    assert_same(left, reference)
