"""Sessions that survive: what is opened again is the session that was saved, bit for bit, or a named error."""

import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.debugger.acting import TEXT, act, acted, assert_same, portrait
from tui_gru import Session, TuiGruError
from tui_gru.debugger import recorder, session_file, state_writer
from tui_gru.debugger.encoding import pack, unpack
from tui_gru.debugger.segment import DivergedError
from tui_gru.debugger.session_file import (
    DamagedSessionError,
    NewerSessionError,
    NotASessionError,
    SessionFileError,
    SessionInUseError,
    SessionMissingError,
    UnwritableSessionError,
)
from tui_gru.engine.trainer import Trainer

ROOT = Path(__file__).parents[2]

OPTIONS = st.fixed_dictionaries(
    {
        "carry": st.sampled_from(["detach", "reset", "notebook"]),
        "dtype": st.sampled_from(["float32", "float64"]),
        "reset": st.sampled_from(["before", "after"]),
        "text": st.sampled_from([None, TEXT]),
        "epochs": st.sampled_from([None, 4]),
        "history_memory": st.sampled_from([1, 4000, 2**28]),
    }
)

often = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), database=None)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "math.tui-gru"


@contextmanager
def untouched(path):
    """The file, and what lies beside it, is the same afterwards."""
    before = {each.name: each.read_bytes() for each in path.parent.iterdir() if each.is_file()}
    yield
    assert {each.name: each.read_bytes() for each in path.parent.iterdir() if each.is_file()} == before


# What is opened is what was saved


@often
@given(OPTIONS, st.integers(0, 2**32), st.integers(0, 25))
def test_what_is_opened_is_what_was_saved_and_goes_on_alike(tmp_path_factory, options, seed, count):
    path = tmp_path_factory.mktemp("saved") / "a.tui-gru"
    session = acted(seed, count, **options)
    session.save(path)
    again = Session.open(path)
    assert_same(session, again)
    rng, twin = random.Random(seed + 1), random.Random(seed + 1)
    for _ in range(8):
        act(session, rng)
        act(again, twin)
    assert_same(session, again)
    for name in session.branches:
        session.switch(name)
        again.switch(name)
        assert_same(session, again)


@often
@given(OPTIONS, st.integers(0, 2**32), st.integers(1, 20))
def test_what_is_recorded_is_there_after_every_verb(tmp_path_factory, options, seed, count):
    path = tmp_path_factory.mktemp("recorded") / "a.tui-gru"
    session, rng = Session(**options), random.Random(seed)
    with closing(session):
        session.record_to(path)
        for _ in range(count):
            act(session, rng)
        assert_same(session, Session.open(path))
    with closing(Session.open(path, record=True)) as again:
        assert_same(session, again)
        act(again, rng)
        assert_same(again, Session.open(path))
    assert_same(again, Session.open(path))


def test_every_edit_can_be_undone_and_redone_after_reopening(path):
    session = acted(7, 0, text=TEXT)
    states = [portrait(session)]
    for i in range(4):
        session.edit("Wz", (0, 0), i)
        states.append(portrait(session))
    session.undo()
    session.save(path)
    again = Session.open(path)
    again.redo()
    for at in (4, 3, 2, 1, 0):
        assert portrait(again)["values"] == states[at]["values"]
        assert again.undo() == (at > 0)
    assert [again.redo() for _ in range(5)] == [True] * 4 + [False]
    assert portrait(again)["values"] == states[4]["values"]


def test_a_step_back_leads_to_where_it_began_after_reopening(path):
    session = Session()
    session.step("op", 4)
    session.step("timestep", 3)
    session.save(path)
    assert Session.open(path).step("timestep", -3).tick == 4


def test_numbers_that_are_not_finite_survive(path):
    session = Session(learning_rate=1e38, epochs=30)
    session.learning = True
    session.step("batch", 40)
    session.edit("Wz", (0, 0), -0.0)
    assert not np.isfinite(session.snapshot().losses).all()
    session.save(path)
    assert_same(session, Session.open(path))


def test_samples_survive_though_only_the_newest_are_kept(path):
    session = Session()
    with closing(session):
        session.record_to(path)
        for seed in range(70):
            session.sample("Ma", seed % 4, seed=seed)
        again = Session.open(path)
        assert_same(session, again)
        assert len(again.samples) == 64


def test_what_a_screen_keeps_survives(path):
    session = Session()
    session.keep("breakpoints", [{"line": "z", "condition": "any(z > 0.9)"}])
    with closing(session):
        session.record_to(path)
        session.keep("layout", {"zoomed": "gates"})
        session.step()
    again = Session.open(path)
    assert again.kept("breakpoints") == [{"line": "z", "condition": "any(z > 0.9)"}]
    assert again.kept("layout") == {"zoomed": "gates"}
    assert again.kept("watches", []) == []
    with pytest.raises(TuiGruError, match="cannot be kept"):
        again.keep("layout", object())


def test_what_is_kept_is_the_sessions_own():
    session, marks = Session(), [1]
    session.keep("marks", marks)
    marks.append(2)
    assert session.kept("marks") == [1]


def test_the_person_is_told_where_the_session_was_left(path):
    session = Session()
    session.step("batch", 2)
    session.edit("by", 0, 1.5)
    session.save(path)
    again = Session.open(path)
    assert again.notice == "reopened where it was left: epoch 1 · batch 2 · t 3 on main, 1 branch, 1 change"
    again.step()
    assert not again.notice


# Quickly, and by the same machine


def test_a_long_run_is_reopened_without_running_it_again(path, monkeypatch):
    monkeypatch.setattr(state_writer, "MOST_CHECKPOINTS", 64)
    session = Session(text="ab" * 8, batch_size=1)
    session.learning = True
    session.step("batch", 6000)
    session.save(path)
    runs = []
    run = Trainer.run
    monkeypatch.setattr(Trainer, "run", lambda *args, **options: (runs.append(args[2]), run(*args, **options)))
    again = Session.open(path)
    assert len(runs) <= 1 + 128
    assert_same(session, again)
    runs.clear()
    again.seek(3000 * again.program.ticks)
    assert 0 < len(runs) <= 128


def test_recording_adds_little_for_a_step_of_a_long_run(path):
    session = Session()
    session.learning = True
    session.step("batch", 3000)
    with closing(session):
        session.record_to(path)
        log = path.with_name(path.name + "-wal")
        session.step("op", -1)
        before = log.stat().st_size
        session.step("batch")
        assert log.stat().st_size - before < 64 * 2**10
        assert_same(session, Session.open(path))


def test_checkpoints_thin_out_in_the_file_as_the_run_grows(path, monkeypatch):
    monkeypatch.setattr(state_writer, "MOST_CHECKPOINTS", 8)
    session = Session()
    session.learning = True
    with closing(session):
        session.record_to(path)
        for count in (5, 1, 1, 1, 1, 1, 30, 1, 400, 7):
            session.step("batch", count)
            again = Session.open(path)
            batches, rows = again._branches.timeline.segments[-1].history.checkpoints()
            assert len(rows) <= 8
            for batch, row in zip(batches, rows, strict=True):
                record = session._branches.timeline.record(batch)
                assert row.tobytes() == record.parameters.flat.tobytes() + record.activations.states[0].tobytes()
            assert_same(session, again)


def test_a_machine_that_computes_differently_is_named(path, monkeypatch):
    session = Session()
    session.learning = True
    session.step("batch", 20)
    session.step("batch", -1)
    monkeypatch.setattr(state_writer, "this_machine", lambda: "NumPy 9.9 on Mars")
    session.save(path)
    again = Session.open(path)
    run = Trainer.run

    def otherwise(self, record, batch, *args, **options):
        run(self, record, batch, *args, **options)
        record.loss = np.nextafter(record.loss, 9)
        record.activations.term3[0] = 9

    monkeypatch.setattr(Trainer, "run", otherwise)
    with pytest.raises(DivergedError, match=r"recorded with NumPy 9\.9 on Mars"):
        again.seek("e3 b2")
    with untouched(path), pytest.raises(DivergedError, match=r"was recorded with NumPy 9\.9 on Mars; this machine, NumPy"):
        Session.open(path)


# What can be wrong with a file


def damage(data, rng):
    """The bytes cut off somewhere, or with some bits turned over."""
    data = bytearray(data)
    if rng.random() < 0.3:
        return bytes(data[: rng.randrange(len(data))])
    for _ in range(rng.choice([1, 1, 5])):
        at = rng.randrange(rng.choice([100, len(data)]))
        data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


def opened(path):
    """What there is in a file, or that an error names it."""
    try:
        return portrait(Session.open(path))
    except SessionFileError as error:
        message = str(error)
    return "a named error" if str(path) in message and message.isprintable() else message


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(OPTIONS, st.integers(0, 2**32))
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
    with closing(session_file._connect(path, "rw")) as connection:
        session_file.SessionFile(path, connection).put_fact(key, json)
    with untouched(path), pytest.raises(TuiGruError):
        Session.open(path)


def foreign_database(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE facts (key TEXT)")


FOREIGN = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("MathMathMathMathMath" * 100),
    "noise": lambda path: path.write_bytes(random.Random(1).randbytes(9000)),
    "a little": lambda path: path.write_bytes(b"SQLite format 3\0"),
    "database": foreign_database,
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


# What can go wrong with writing


def test_a_save_that_fails_leaves_what_was_there(path, monkeypatch):
    Session().save(path)

    def fail(*args):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(state_writer.StateWriter, "_write_place", fail)
    with untouched(path):
        with pytest.raises(UnwritableSessionError, match="disk is full; save it elsewhere"):
            acted(1, 5).save(path)
        with pytest.raises(UnwritableSessionError, match="disk is full"):
            acted(1, 5).record_to(path.with_name("another.tui-gru"))


def test_an_interrupted_save_leaves_what_was_there(path, monkeypatch):
    Session().save(path)

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(state_writer.StateWriter, "_write_place", interrupt)
    with untouched(path), pytest.raises(KeyboardInterrupt):
        acted(1, 5).save(path)


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
    connect = session_file._connect
    monkeypatch.setattr(session_file, "_connect", lambda path, mode: connect(path, "ro" if mode == "rwc" else mode))
    with untouched(path), pytest.raises(UnwritableSessionError, match="cannot be written to; save it elsewhere"):
        session.save(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only_can_be_read_from(path):
    session = acted(4, 8)
    session.save(path)
    path.parent.chmod(0o500)
    try:
        assert_same(session, Session.open(path))
        with pytest.raises(UnwritableSessionError):
            session.save(path)
    finally:
        path.parent.chmod(0o700)


def test_a_full_disk_ends_the_recording_and_not_the_session(path):
    session = Session()
    session.record_to(path)
    session.step("batch", 2)
    acknowledged = portrait(session)
    session._recorder._file._connection.execute("PRAGMA max_page_count = 1")  # no page more than there are
    for i in range(40):
        session.edit("Wz", (0, 0), i)
        if session.recording is None:
            break
        acknowledged = portrait(session)
    assert session.notice.startswith(f"no longer recorded to {path}: database or disk is full; it goes on in memory")
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


# Two at once


def test_a_session_is_recorded_to_by_one_only(path):
    first = Session()
    with closing(first):
        first.record_to(path)
        first.step("batch", 2)
        for use in (lambda: Session.open(path, record=True), lambda: Session().save(path), lambda: Session().record_to(path)):
            with pytest.raises(SessionInUseError, match=r"open in another tui-gru; .*work on a copy"):
                use()
        copy = Session.open(path)
        assert_same(first, copy)
        copy.save(path.with_name("copy.tui-gru"))
        first.step()
        assert_same(first, Session.open(path))
    with closing(Session.open(path, record=True)) as second:
        assert_same(first, second)


def test_one_that_comes_between_putting_the_file_and_opening_it_wins(path, monkeypatch):
    recording = session_file.recording

    def late(at, inode):
        monkeypatch.undo()
        Session().save(path)
        return recording(at, inode)

    monkeypatch.setattr(session_file, "recording", late)
    with pytest.raises(SessionInUseError):
        Session().record_to(path)


def test_saving_to_the_file_that_is_recorded_to_is_no_second_use(path):
    session = Session()
    with closing(session):
        session.record_to(path)
        session.step()
        session.save(path)
        session.record_to(path)
        assert session.recording == path
        elsewhere = path.with_name("elsewhere.tui-gru")
        session.record_to(elsewhere)
        session.step()
        assert_same(session, Session.open(elsewhere))
        assert Session.open(path).position.tick < session.position.tick
    assert {each.name for each in path.parent.iterdir()} == {path.name, elsewhere.name}


def test_a_recorded_session_may_run_in_one_thread_and_keep_things_in_another(path):
    session = Session()
    with closing(session):
        session.record_to(path)
        thread = threading.Thread(target=lambda: [session.step("batch", 20) for _ in range(30)])
        thread.start()
        count = 0
        while thread.is_alive():
            count += 1
            session.keep("layout", count)
        thread.join()
        assert not session.notice
        again = Session.open(path)
        assert again.kept("layout") == count
        assert_same(session, again)


@pytest.mark.parametrize("seed", range(15))
def test_what_was_acknowledged_survives_a_kill(path, seed):
    code = f"from tests.debugger.acting import act_for_ever; act_for_ever({str(path)!r}, {seed})"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        first = process.stdout.readline()
        with pytest.raises(SessionInUseError):
            Session.open(path, record=True)
        threading.Event().wait(random.Random(seed).random() * 0.15)
        process.send_signal(signal.SIGKILL)
        acknowledged = int((first + process.stdout.read()).splitlines()[-1])
    again = portrait(Session.open(path))
    assert again in (portrait(acted(seed, count, text=TEXT)) for count in (acknowledged, acknowledged + 1))
    with closing(Session.open(path, record=True)) as session:
        assert portrait(session) == again
    assert [each.name for each in path.parent.iterdir()] == [path.name]


# Names, and bytes


def test_a_bare_name_is_a_session_of_the_persons_own(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "user_state_path", lambda name, appauthor: tmp_path / "state" / name)
    path = recorder.session_path("math")
    assert path == tmp_path / "state" / "tui-gru" / "sessions" / "math.tui-gru"
    with pytest.raises(SessionMissingError):
        Session.open(path)
    assert not list(tmp_path.iterdir())
    Session().save(path)
    assert Session.open(path).position.tick == 0
    assert recorder.session_path("math.tui-gru") == Path("math.tui-gru")
    assert recorder.session_path("here/math") == Path("here/math")


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
