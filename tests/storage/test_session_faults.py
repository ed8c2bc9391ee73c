"""Faults of the machine are not reported as faults of the file: a full disk, a failing disk, no memory, no locks, no
permission, or the rules of Windows."""

import errno
import fcntl
import os
import sqlite3
import time
from contextlib import closing, suppress

import pytest

from tests.session.acting import assert_same, untouched
from tui_gru import Session
from tui_gru.session import opening
from tui_gru.storage import file as session_file
from tui_gru.storage.file import (
    DamagedSessionError,
    NotASessionError,
    SessionFile,
    SessionInUseError,
    UnreadableSessionError,
    UnwritableSessionError,
)
from tui_gru.storage.state import StateWriter


@pytest.fixture
def path(tmp_path):
    session = Session()
    session.step("batch", 2)
    session.save(tmp_path / "math.tui-gru")
    return tmp_path / "math.tui-gru"


def fault(name):
    """Return the error that Python's sqlite3 raises for a result code of SQLite."""
    if name == "SQLITE_NOMEM":
        return MemoryError()
    error = sqlite3.OperationalError({"SQLITE_FULL": "database or disk is full"}.get(name, f"it said {name}"))
    error.sqlite_errorcode, error.sqlite_errorname = getattr(sqlite3, name), name
    return error


def failing(monkeypatch, owner, method, error):
    def fail(*_, **options):
        raise error

    monkeypatch.setattr(owner, method, fail)


READING = {
    "SQLITE_FULL": (UnreadableSessionError, "cannot be read: database or disk is full; check the disk and the memory"),
    "SQLITE_IOERR": (UnreadableSessionError, "cannot be read: it said SQLITE_IOERR; check the disk"),
    "SQLITE_IOERR_READ": (UnreadableSessionError, "cannot be read"),
    "SQLITE_NOMEM": (UnreadableSessionError, "cannot be read: not enough memory"),
    "SQLITE_CANTOPEN": (UnreadableSessionError, "cannot be opened .*; check its permissions, or copy it elsewhere"),
    "SQLITE_READONLY": (UnreadableSessionError, "cannot be opened .*; check its permissions"),
    "SQLITE_PERM": (UnreadableSessionError, "cannot be opened .*; check its permissions"),
    "SQLITE_BUSY": (SessionInUseError, "is open in another tui-gru"),
    "SQLITE_LOCKED": (SessionInUseError, "is open in another tui-gru"),
    "SQLITE_PROTOCOL": (SessionInUseError, "is open in another tui-gru"),
    "SQLITE_CORRUPT": (DamagedSessionError, "is damaged .*; go back to a copy of the file"),
    "SQLITE_ERROR": (DamagedSessionError, "is damaged"),
    "SQLITE_NOTADB": (NotASessionError, "is not a tui-gru session; name another file"),
}


@pytest.mark.parametrize("name", READING)
def test_reading_tells_the_machine_from_the_file(path, monkeypatch, name):
    kind, words = READING[name]
    failing(monkeypatch, SessionFile, "fact", fault(name))
    with untouched(path), pytest.raises(kind, match=rf"math\.tui-gru {words}") as raised:
        Session.open(path)
    assert type(raised.value) is kind


WRITING = {
    "SQLITE_FULL": (UnwritableSessionError, "cannot be written: database or disk is full; save it elsewhere"),
    "SQLITE_IOERR": (UnwritableSessionError, "cannot be written: it said SQLITE_IOERR; save it elsewhere"),
    "SQLITE_NOMEM": (UnwritableSessionError, "cannot be written: not enough memory; save it elsewhere"),
    "SQLITE_READONLY": (UnwritableSessionError, "cannot be written"),
    "SQLITE_BUSY": (SessionInUseError, "is open in another tui-gru"),
    "SQLITE_CORRUPT": (DamagedSessionError, "is damaged"),
}


@pytest.mark.parametrize("name", WRITING)
@pytest.mark.parametrize("step", ["claiming", "writing"])
def test_writing_tells_the_machine_from_the_file(path, monkeypatch, name, step):
    kind, words = WRITING[name]
    owner, method = (session_file, "leave_wal_mode") if step == "claiming" else (StateWriter, "write_place")
    failing(monkeypatch, owner, method, fault(name))
    for use in (Session().save, Session().record_to, lambda path: Session.open(path, record=True)):
        with untouched(path), pytest.raises(kind, match=rf"math\.tui-gru {words}") as raised:
            use(path)
        assert type(raised.value) is kind


@pytest.mark.parametrize("name", ["SQLITE_FULL", "SQLITE_IOERR", "SQLITE_NOMEM"])
def test_a_session_opens_in_memory_where_the_disk_does_not_take_it(path, monkeypatch, name):
    failing(monkeypatch, session_file, "leave_wal_mode", fault(name))
    with untouched(path):
        session = opening.reopen_session(path)
        assert_same(session, Session.open(path))
        assert session.notice.startswith("not recorded; the session continues in memory only: ")
        assert session.recording is None
        session.step("batch", 3)
    assert session.position.number == 4


@pytest.mark.parametrize("name", ["SQLITE_FULL", "SQLITE_IOERR", "SQLITE_NOMEM"])
def test_a_recording_that_fails_leaves_the_session_and_what_was_written(path, monkeypatch, name):
    with closing(Session.open(path, record=True)) as session:
        session.step("batch")
        with monkeypatch.context() as patched:
            failing(patched, StateWriter, "write_place", fault(name))
            session.step("batch")
        assert session.notice.startswith(f"no longer recorded to {path}: ")
        assert session.recording is None
    assert session.position.number == Session.open(path).position.number + 1


def test_what_is_recorded_is_flushed_to_the_disk_soon(path, monkeypatch):
    due = []
    monkeypatch.setattr("tui_gru.disk.Flusher.soon", lambda self, path: due.append(path))
    with closing(Session.open(path, record=True)) as session:
        session.step("batch")
    assert set(due) == {path.with_name(f"{path.name}-wal")}


def test_a_log_that_does_not_reach_the_disk_ends_the_recording(path, monkeypatch):
    def fail(self, path):
        self.failure = OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("tui_gru.disk.Flusher.soon", fail)
    with closing(Session.open(path, record=True)) as session:
        session.step("batch")
        session.step("batch")
        assert session.notice.startswith(f"no longer recorded to {path}: Input/output error")


# Locks


@pytest.fixture(params=[("SQLITE_BUSY", errno.ENOLCK), ("SQLITE_IOERR_LOCK", errno.EOPNOTSUPP)], ids=["busy", "failing"])
def no_locks(monkeypatch, request):
    """A file system without locks: SQLite reports busy or an error, and the system's error names the cause."""
    connect, (said, code) = session_file.connect, request.param

    def connected(path, mode):
        if "nolock" in mode or "immutable" in mode:
            return connect(path, mode)
        raise fault(said)

    def refuse(*_):
        raise OSError(code, "No locks available")

    monkeypatch.setattr(session_file, "connect", connected)
    monkeypatch.setattr(fcntl, "lockf", refuse)


def test_no_locks_are_said_to_be_none(path, no_locks):
    words = r"has no file locks, so another tui-gru could have math\.tui-gru open unnoticed; save it on another disk"
    for use in (Session().save, Session().record_to, lambda path: Session.open(path, record=True)):
        with untouched(path), pytest.raises(UnwritableSessionError, match=words):
            use(path)
    with untouched(path), pytest.raises(UnwritableSessionError, match="has no file locks"):
        Session().record_to(path.with_name("new.tui-gru"))


def test_where_there_are_no_locks_a_session_is_read_and_goes_on_in_memory(path, no_locks):
    with untouched(path):
        session = opening.reopen_session(path)
        session.step("batch")
    assert session.position.number == 2
    assert "has no file locks" in opening.reopen_session(path).notice


def test_where_there_are_no_locks_a_session_is_saved_under_a_name_that_is_free(path, no_locks):
    session = Session.open(path)
    session.save(path.with_name("other.tui-gru"))
    assert_same(session, Session.open(path.with_name("other.tui-gru")))


# Windows: a file that is open cannot be replaced or deleted, folders cannot be opened, and only a writable file can be flushed


@pytest.fixture
def windows(monkeypatch):
    """The rules of Windows for files. Returns a list of the open files by path, to which a test can add those of others."""
    connect, opened, others = session_file.connect, os.open, []
    connections: list[tuple[str, sqlite3.Connection]] = []

    def is_open(path):
        with suppress(sqlite3.ProgrammingError):
            for at, connection in connections:
                if at == os.path.realpath(path) and connection.execute("SELECT 1"):
                    return True
        return os.path.realpath(path) in others

    def connected(path, mode):
        connections.append((os.path.realpath(path), connect(path, mode)))
        return connections[-1][1]

    def unless_open(function, at):
        def checked(*paths, **options):
            if is_open(paths[at]):
                raise PermissionError(
                    errno.EACCES, "The process cannot access the file because it is being used by another process"
                )
            return function(*paths, **options)

        return checked

    def open_(path, flags, *rest, **options):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, flags, *rest, **options)

    def fsync(handle):
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(session_file, "connect", connected)
    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", unless_open(os.replace, 1))
    monkeypatch.setattr(os, "unlink", unless_open(os.unlink, 0))
    monkeypatch.setattr(session_file, "PAUSES", (0, 0, 0))
    return others


def test_a_session_is_saved_recorded_and_deleted_under_the_rules_of_windows(tmp_path, windows):
    path = tmp_path / "new.tui-gru"
    for _ in range(2):
        session = Session()
        session.step("batch", 2)
        session.save(path)
        assert_same(session, Session.open(path))
    for _ in range(2):
        with closing(Session.open(path, record=True)) as session:
            session.step("batch")
        assert_same(session, Session.open(path))
    assert [each.name for each in tmp_path.iterdir()] == ["new.tui-gru"]
    session_file.remove(path)
    assert not list(tmp_path.iterdir())


def test_a_file_that_another_program_has_open_is_said_to_be(path, windows):
    windows.append(os.path.realpath(path))
    words = r"math\.tui-gru cannot be replaced: another program has it open; close it there, or save it elsewhere"
    for use in (Session().save, Session().record_to, lambda path: Session.open(path, record=True)):
        with untouched(path), pytest.raises(UnwritableSessionError, match=words):
            use(path)


def test_a_program_that_has_the_file_open_for_a_moment_is_waited_for(path, windows, monkeypatch):
    windows.append(os.path.realpath(path))
    monkeypatch.setattr(time, "sleep", lambda seconds: windows.clear())
    session = Session()
    session.save(path)
    assert_same(session, Session.open(path))
