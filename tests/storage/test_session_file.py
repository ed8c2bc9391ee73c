"""Damaged session files: every kind of damage has an error that names it, and the file is not changed."""

import os
import random
import shutil
import sqlite3
import stat
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.extent import examples
from tests.session.acting import OPTIONS, TEXT, acted, assert_same, portrait, read_only, untouched
from tui_gru import Session, TuiGruError
from tui_gru.storage import file as session_file
from tui_gru.storage.file import (
    DamagedSessionError,
    NewerSessionError,
    NotASessionError,
    OlderSessionError,
    SessionFileError,
    SessionMissingError,
    UnwritableSessionError,
    pack,
    unpack,
)

options = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in OPTIONS.items()})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "math.tui-gru"


# Damaged files


def damage(data, rng):
    """Return the bytes cut off at a random place, or with some bits flipped."""
    data = bytearray(data)
    if rng.random() < 0.3:
        return bytes(data[: rng.randrange(len(data))])
    for _ in range(rng.choice([1, 1, 5])):
        at = rng.randrange(rng.choice([100, len(data)]))
        data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


def opened(path):
    """Return the session in a file, or the error that names the damage."""
    try:
        return portrait(Session.open(path))
    except SessionFileError as error:
        message = str(error)
    return "a named error" if str(path) in message and message.isprintable() else message


@settings(max_examples=examples(3, soak=50), suppress_health_check=list(HealthCheck), database=None)
@given(options, st.integers(0, 2**32))
def test_a_damaged_file_is_a_named_error_or_the_same_session(tmp_path_factory, options, seed):
    path = tmp_path_factory.mktemp("damaged") / "a.tui-gru"
    session, rng = acted(seed, 10, **options), random.Random(seed)
    session.save(path)
    good, whole = path.read_bytes(), portrait(session)
    for _ in range(100):
        path.write_bytes(damage(good, rng))
        with untouched(path):
            assert opened(path) in (whole, "a named error")


def test_an_entry_that_is_missing_or_in_the_wrong_place_is_noticed(path):
    session = acted(3, 12, text=TEXT)
    session.sample("th", 2)
    session.keep("marks", 1)
    session.save(path)
    good = path.read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        facts = [key for (key,) in connection.execute("SELECT key FROM facts")]
        arrays = list(connection.execute("SELECT key, at FROM arrays"))
    changes = [("DELETE FROM facts WHERE key = ?", (key,)) for key in facts]
    changes += [("DELETE FROM arrays WHERE key = ? AND at = ?", place) for place in arrays]
    changes += [("UPDATE arrays SET at = at + 1000000 WHERE key = ? AND at = ?", place) for place in arrays]
    changes += [("UPDATE facts SET json = 7 WHERE key = ?", (key,)) for key in facts]
    changes += [("CREATE VIEW more AS SELECT 1", ())]
    for statement, values in changes:
        path.write_bytes(good)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(statement, values)
        with pytest.raises(DamagedSessionError, match="damaged at"):
            Session.open(path)


@pytest.mark.parametrize(
    ("key", "json"),
    [
        ("run", "[]"),
        ("run", '{"config":{"text":""},"epochs":null,"machine":"","history_memory":1}'),
        ("here", "{}"),
        ("branches", '[["main",0,0],7]'),
        ("branches", '[["other",0,0]]'),
        ("segment/1", '{"parent":1}'),
        ("history/0", '{"length":-1,"spacing":0,"checkpoints":0}'),
        ("samples", '[{"at":0}]'),
        ("kept", "{"),
    ],
)
def test_contents_that_make_no_sense_are_an_error_with_a_name(path, key, json):
    session = Session()
    session.edit("Wz", (0, 0), 1)
    session.save(path)
    with closing(session_file.connect(path, "rw")) as connection:
        session_file.SessionFile(path, connection).put_fact(key, json)
    with untouched(path), pytest.raises(TuiGruError):
        Session.open(path)


def foreign_database(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE facts (key TEXT)")


def foreign_database_after_a_crash(path):
    foreign_database(path.with_name("origin"))
    with closing(sqlite3.connect(path.with_name("origin"))) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("INSERT INTO facts VALUES ('in the log only')")
        connection.commit()
        for end in ("", "-wal"):
            shutil.copy(path.with_name("origin" + end), path.with_name(path.name + end))


FOREIGN = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("MathMathMathMathMath" * 100),
    "noise": lambda path: path.write_bytes(random.Random(1).randbytes(9000)),
    "a little": lambda path: path.write_bytes(b"SQLite format 3\0"),
    "database": foreign_database,
    "database in use": foreign_database_after_a_crash,
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_of_another_kind_is_refused_and_never_overwritten(path, kind):
    FOREIGN[kind](path)
    with untouched(path):
        for use in (Session.open, Session().save, Session().record_to):
            with pytest.raises(NotASessionError, match=r"math\.tui-gru.*; name another file$"):
                use(path)


def test_a_folder_is_refused(path):
    path.mkdir()
    for use in (Session.open, Session().save, Session().record_to):
        with pytest.raises(NotASessionError, match=r"is a folder, not a session; name a file"):
            use(path)


def test_a_file_that_is_not_there_is_said_to_be_missing(path):
    with pytest.raises(SessionMissingError, match=r"there is no file .*math\.tui-gru; check the name"):
        Session.open(path)
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("name", ["a\0b", 7, None, "x" * 300, "folder/that/is/not/there"])
def test_a_name_that_is_none_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for use in (Session.open, Session().save, Session().record_to):
        with pytest.raises(SessionFileError):
            use(name)
    assert not list(tmp_path.iterdir())


def test_a_session_of_a_later_version_is_left_alone(path):
    Session().save(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {session_file.VERSION + 1}")
    with untouched(path):
        for use in (Session.open, Session().save, Session().record_to):
            with pytest.raises(NewerSessionError, match=f"format version {session_file.VERSION + 1}"):
                use(path)


@pytest.mark.parametrize("version", [1, 2])
def test_a_session_of_an_earlier_version_is_refused(path, version):
    Session().save(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    with untouched(path):
        for use in (Session.open, Session().save, Session().record_to):
            with pytest.raises(OlderSessionError, match=f"format version {version}, from before tui-gru 0.1.0"):
                use(path)


# Faults in writing


def failing(monkeypatch, error):
    """Let the writing of a session's last fact fail."""
    put = session_file.SessionFile.put_fact

    def fail(file, key, json):
        if key == "here":
            raise error
        put(file, key, json)

    monkeypatch.setattr(session_file.SessionFile, "put_fact", fail)


def test_a_save_that_fails_leaves_what_was_there(path, monkeypatch):
    Session().save(path)
    failing(monkeypatch, sqlite3.OperationalError("database or disk is full"))
    with untouched(path):
        with pytest.raises(UnwritableSessionError, match="disk is full; save it elsewhere"):
            acted(1, 5).save(path)
        with pytest.raises(UnwritableSessionError, match="disk is full"):
            acted(1, 5).record_to(path.with_name("another.tui-gru"))


def test_an_interrupted_save_leaves_what_was_there(path, monkeypatch):
    Session().save(path)
    failing(monkeypatch, KeyboardInterrupt)
    with untouched(path), pytest.raises(KeyboardInterrupt):
        acted(1, 5).save(path)


def test_all_of_a_file_is_on_the_disk_before_it_has_its_name(path, monkeypatch):
    synchronised, replace = [], os.replace

    def put(new, old):
        assert synchronised == [new.stat().st_ino]
        replace(new, old)

    def synchronise(handle):
        synchronised.append(os.fstat(handle).st_ino)

    monkeypatch.setattr(os, "fsync", synchronise)
    monkeypatch.setattr(os, "replace", put)
    Session().save(path)
    assert synchronised == [path.stat().st_ino, path.parent.stat().st_ino]


def test_a_disk_that_does_not_take_the_file_fails_the_save(path, monkeypatch):
    def fail(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UnwritableSessionError, match="No space left on device; save it elsewhere"):
        Session().save(path)
    assert not list(path.parent.iterdir())


def test_saving_again_replaces_and_keeps_the_permissions(path):
    acted(1, 9).save(path)
    path.chmod(0o600)
    link = path.with_name("link.tui-gru")
    link.symlink_to(path)
    session = acted(2, 9)
    session.save(link)
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert_same(session, Session.open(path))
    assert {each.name for each in path.parent.iterdir()} == {path.name, link.name}


def test_a_folder_that_cannot_be_written_to_is_named(path, monkeypatch):
    session = Session()
    session.save(path)
    connect = session_file.connect
    monkeypatch.setattr(session_file, "connect", lambda path, mode: connect(path, "ro" if mode.startswith("rwc") else mode))
    with untouched(path), pytest.raises(UnwritableSessionError, match="cannot be written to; save it elsewhere"):
        session.save(path)


def test_a_folder_that_is_read_only_can_be_read_from():
    session = acted(4, 8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "math.tui-gru")
        session.save(path)
        with read_only(path.parent):
            assert_same(session, Session.open(path))
            for use in (session.save, session.record_to):
                for name in (path, path.with_name("new.tui-gru")):
                    with pytest.raises(UnwritableSessionError, match=r"cannot be written: .*; save it elsewhere"):
                        use(name)
            with pytest.raises(UnwritableSessionError):
                Session.open(path, record=True)
        assert_same(session, Session.open(path))


def test_a_full_disk_ends_the_recording_and_not_the_session(path, monkeypatch):
    session, connections, connect = Session(), [], sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *args, **options: connections.append(connect(*args, **options)) or connections[-1]
    )
    session.record_to(path)
    recorded = connections[-1]
    session.step("batch", 2)
    acknowledged = portrait(session)
    recorded.execute("PRAGMA max_page_count = 1")  # no page more than it has
    for i in range(40):
        session.edit("Wz", (0, 0), i)
        if session.recording is None:
            break
        acknowledged = portrait(session)
    assert session.notice.startswith(f"no longer recorded to {path}: database or disk is full; the session continues in memory")
    session.step("batch", 3)
    assert session.position.number == 4
    assert portrait(Session.open(path)) == acknowledged
    session.record_to(path.with_name("elsewhere.tui-gru"))
    assert_same(session, Session.open(session.recording))
    session.close()


def test_a_recording_whose_file_is_gone_goes_on_in_memory(path):
    session = Session()
    session.record_to(path)
    path.unlink()
    session.step()
    assert "no longer recorded" in session.notice
    assert session.recording is None


def test_a_recording_that_was_interrupted_writes_all_of_it_next_time(path, monkeypatch):
    session = Session()
    with closing(session):
        session.record_to(path)
        put = session_file.SessionFile.put_fact

        def interrupt(self, key, json):
            if key == "here":
                raise KeyboardInterrupt
            put(self, key, json)

        with monkeypatch.context() as patched:
            patched.setattr(session_file.SessionFile, "put_fact", interrupt)
            with pytest.raises(KeyboardInterrupt):
                session.edit("Wz", (0, 0), 3)
        session.step("batch", 2)
        assert_same(session, Session.open(path))


def test_arrays_are_packed_as_they_are():
    arrays = {
        "big": np.arange(6, dtype=">f8").reshape(2, 3),
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "none": np.zeros((0, 4), np.int64),
        "nan": np.array(np.nan),
    }
    back = unpack(pack(arrays))
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert back[name].shape == array.shape
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype.isnative
    for data in (b"", b"[]", b'[["a","O",[1]]]\n12345678', pack(arrays)[:-1], pack(arrays) + b"0"):
        with pytest.raises(ValueError):  # noqa: PT011  # NumPy's own words
            unpack(data)


def test_a_session_with_large_limits_is_opened_again(path):
    with pytest.raises(TuiGruError, match="epochs must be from 1 to 1000000000000000, not 10"):
        Session(epochs=10**30)
    session = Session(epochs=10**15, history_memory=2**70)
    session.step("batch")
    session.save(path)
    assert portrait(Session.open(path)) == portrait(session)
    assert Session.open(path).end == session.end
