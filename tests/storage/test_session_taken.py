"""Two programs with one session: only one can write to it, also while its file is replaced, cut, or known by another name."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from tests.session.acting import ROOT, acted, assert_same, portrait, untouched
from tui_gru import Session
from tui_gru.storage import file as session_file
from tui_gru.storage.file import DamagedSessionError, SessionInUseError, UnreadableSessionError, UnwritableSessionError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "math.tui-gru"


def test_nobody_else_has_a_session_while_it_is_replaced(path, monkeypatch):
    monkeypatch.setattr(session_file, "BUSY_SECONDS", 0.01)
    Session().save(path)
    tried = []

    def fill(new, old):
        for use in (Session().save, Session().record_to, lambda path: Session.open(path, record=True)):
            with pytest.raises(SessionInUseError):
                use(path)
            tried.append(use)
        raise KeyboardInterrupt

    with untouched(path), pytest.raises(KeyboardInterrupt):
        session_file.replace(path, fill)
    assert len(tried) == 3


def test_a_recording_leaves_a_file_alone_that_has_taken_the_place_of_its_own(path):
    session, other = Session(), path.with_name("other.tui-gru")
    with closing(session):
        session.record_to(path)
        session.step()
        acted(3, 9).save(other)
        theirs = portrait(Session.open(other))
        os.replace(other, path)
        session.step("batch")
        assert f"no longer recorded to {path}: another file has taken its place" in session.notice
        assert session.recording is None
        assert portrait(Session.open(path)) == theirs


@pytest.mark.parametrize("text", [b"\xff", b'{"a": "\xc3"}', "é".encode()])
@pytest.mark.parametrize("key", ["run", "here", "branches", "kept"])
def test_text_that_is_not_what_was_written_is_damage_whatever_its_bytes_are(path, key, text):
    acted(3, 9).save(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE facts SET json = CAST(? AS TEXT) WHERE key = ?", (text, key))
    with untouched(path), pytest.raises(DamagedSessionError, match=f"damaged at {key}"):
        Session.open(path)


@pytest.mark.parametrize("cut", ["", "-wal"])
def test_a_file_that_another_program_cuts_while_it_is_recorded_is_noticed(path, cut):
    session = Session()
    with closing(session):
        session.record_to(path)
        session.step("batch", 3)
        os.truncate(f"{path}{cut}", 5000)
        session.step("batch")
        assert f"no longer recorded to {path}: another program has changed the file; the session continues in" in session.notice
        assert session.recording is None
        session.step("batch")
        assert session.position.number == 4
        session.save(path.with_name("elsewhere.tui-gru"))
    assert_same(session, Session.open(path.with_name("elsewhere.tui-gru")))


def test_a_long_recording_is_not_taken_for_one_that_another_program_changes(path):
    """SQLite moves the log into the file from time to time, also after an interrupted change."""
    session = Session(hidden_size=32)
    with closing(session):
        session.record_to(path)
        sizes = set()
        for _ in range(12):
            session.step("batch", 30)
            session.edit("Wz", (0, 0), 1)
            sizes.add(path.stat().st_size)
            assert session.recording is not None, session.notice
        assert len(sizes) > 1
    assert_same(session, Session.open(path))


def test_a_recorded_session_is_not_opened_by_another_name_that_its_log_does_not_have(path):
    other = path.with_name("link.tui-gru")
    session = Session()
    with closing(session):
        session.record_to(path)
        os.link(path, other)
        session.step("batch", 3)
        for use in (Session.open, Session().save, lambda path: Session.open(path, record=True)):
            with pytest.raises(SessionInUseError, match=rf"is another name \(a hard link\) of {path}, which is being recorded"):
                use(other)
        folder = path.with_name("crashed")
        folder.mkdir()
        for end in ("", "-wal"):
            shutil.copy(f"{path}{end}", folder)
    os.link(folder / path.name, folder / other.name)
    for use in (Session.open, Session().save, lambda path: Session.open(path, record=True)):
        with untouched(folder / path.name), pytest.raises(UnreadableSessionError, match=r"has another name \(a hard link\)"):
            use(folder / other.name)
    assert_same(session, Session.open(folder / path.name))
    assert_same(session, Session.open(other))


FORKING = """
import os, sys
from tui_gru import Session
session = Session()
session.record_to({path!r})
session.step("batch", 2)
child = os.fork()
session.edit("Wz", (0, 0), 5 if child else 7)
session.step("batch")
if child:
    assert os.waitpid(child, 0)[1] == 0
    session.step("batch")
    assert session.recording is not None
else:
    assert "this process is a copy (fork) of the one that records it" in first, first
print(session.position.number)
""".replace('session.step("batch")\nif', 'first = session.notice\nsession.step("batch")\nif', 1)


def test_a_copy_of_the_process_does_not_record_to_the_same_file(path):
    done = subprocess.run(
        [sys.executable, "-c", FORKING.format(path=str(path))], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stderr) == (0, "")
    again = Session.open(path)
    assert again.parameter("Wz")[0, 0] == 5
    assert again.position.number == 3
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_an_entry_larger_than_any_that_is_written_is_refused_before_it_is_read(path, monkeypatch):
    """SQLite reads it whole for each key that it looks up: 900 MB took 23 seconds."""
    Session().save(path)
    for most, insert in (("MOST_FACT", "facts VALUES ('a', ?, '')"), ("MOST_ARRAY", "arrays VALUES ('a', 1, ?, '')")):
        with closing(sqlite3.connect(path)) as connection, connection:
            value = "x" * 90_000 if most == "MOST_FACT" else bytes(90_000)
            connection.execute(f"INSERT INTO {insert}", (value,))
        assert Session.open(path).position.tick == 0
        with monkeypatch.context() as patched:
            patched.setattr(session_file, most, 80_000)
            patched.setattr(session_file.SessionFile, "fact", None)
            with (
                untouched(path),
                pytest.raises(DamagedSessionError, match=r"damaged at an (entry of more than 80000|array of 90000) bytes"),
            ):
                Session.open(path)


def test_an_entry_that_could_not_be_read_again_is_not_written(path, monkeypatch):
    monkeypatch.setattr(session_file, "MOST_ARRAY", 100)
    with pytest.raises(UnwritableSessionError, match=r"^\S+/0 has \d+ bytes, more than 100 in a session file; use a"):
        Session().save(path)
    monkeypatch.undo()
    session = Session()
    with closing(session):
        session.record_to(path)
        monkeypatch.setattr(session_file, "MOST_ARRAY", 100)
        session.step("batch", 2)
        assert "no longer recorded" in session.notice
        assert "more than 100" in session.notice
    assert session.position.number == 1
