"""Saved sessions: reopening gives the same session, bit for bit, or an error that says why not."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.extent import examples
from tests.session.acting import OPTIONS, TEXT, act, acted, assert_same, portrait
from tui_gru import Session, TuiGruError
from tui_gru.engine.training import Trainer
from tui_gru.storage import file as session_file
from tui_gru.storage import state as state_writer
from tui_gru.storage import store
from tui_gru.storage.file import SessionInUseError, SessionMissingError

ROOT = Path(__file__).parents[2]

often = settings(max_examples=examples(12, soak=200), suppress_health_check=list(HealthCheck), database=None)

options = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in OPTIONS.items()})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "math.tui-gru"


# A reopened session equals the saved one


@often
@given(options, st.integers(0, 2**32), st.integers(0, 25))
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
@given(options, st.integers(0, 2**32), st.integers(1, 20))
def test_what_is_recorded_is_there_after_every_verb(tmp_path_factory, options, seed, count):
    path = tmp_path_factory.mktemp("recorded") / "a.tui-gru"
    session, rng = acted(seed, 0, **options), random.Random(seed)
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


VERBS = {
    "step": lambda s: s.step("batch", 2),
    "seek": lambda s: s.seek("e1 b1 t2"),
    "run_until": lambda s: s.run_until("loss < 1.26"),
    "run_back_until": lambda s: s.run_back_until("loss > 1.25"),
    "next_match": lambda s: s.next_match(False),
    "run_to": lambda s: s.run_to("h"),
    "sgd": lambda s: s.sgd(2),
    "jump": lambda s: s.jump("a"),
    "jump back": lambda s: s.jump("'"),
    "adopt": lambda s: s.adopt(s.what_if("h", (0, 0), 0.5, t=1)),
    "edit": lambda s: s.edit("Wz", (0, 0), 1.5),
    "undo": lambda s: s.undo(),
    "redo": lambda s: s.redo(),
    "switch": lambda s: s.switch("main"),
    "rename": lambda s: s.rename_branch("main~1", "warm"),
    "delete": lambda s: s.delete_branch("warm"),
    "sample": lambda s: s.sample("Ma", 3),
    "mark": lambda s: s.mark("b"),
    "delete mark": lambda s: s.delete_mark("b"),
    "break": lambda s: s.break_at("h", hits="%2"),
    "log": lambda s: s.break_at("loss", log="{loss}"),
    "continue": lambda s: s.continue_(),
    "reverse": lambda s: s.reverse_continue(),
    "compare": lambda s: s.compare(),
    "compare no more": lambda s: s.compare(None),
}


def test_every_verb_is_one_transaction(path, monkeypatch):
    """If a command had two transactions, a kill between them would leave a state from neither before nor after it."""
    session = Session()
    session.learning = True
    session.step("batch", 4)
    session.step("batch", -2)
    session.edit("Wz", (0, 1), 1.0)
    session.mark("a")
    session.run_back_until("loss > 1")
    transaction, count = session_file.SessionFile.transaction, 0

    def counted(file):
        nonlocal count
        count += 1
        return transaction(file)

    with closing(session):
        session.record_to(path)
        monkeypatch.setattr(session_file.SessionFile, "transaction", counted)
        for name, verb in VERBS.items():
            before, count = portrait(session), 0
            verb(session)
            assert (name, count) == (name, 1)
            assert portrait(session) != before, name
            assert_same(session, Session.open(path))


def test_what_is_kept_during_a_verb_does_not_write_half_of_it(path):
    """A screen saves its layout while a run continues in another thread."""
    session, seen = Session(), []

    def keep(position):
        if not seen:
            thread = threading.Thread(target=lambda: session.keep("layout", 7))
            thread.start()
            thread.join()
            seen.append(Session.open(path))

    session.learning = True
    with closing(session):
        session.record_to(path)
        before = portrait(session)
        session.run_until("loss < 1", progress=keep)
        assert portrait(seen[0]) == before
        assert seen[0].kept("layout") == 7
        assert seen[0].state.last_condition == ""
        assert_same(session, Session.open(path))
    assert session.state.last_condition == "loss < 1"


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
            session.step("op")
        again = Session.open(path)
        assert_same(session, again)
        ticks = [sample.tick for sample in again.samples]
        assert ticks == sorted({sample.tick for sample in session.samples})
        assert len(ticks) == 64


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
    with pytest.raises(TuiGruError, match="cannot be saved with a session"):
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
    again.record_to(path)
    again.step()
    assert not again.notice
    again.close()


# Fast, on the same machine


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
    assert len(runs) <= 1 + 2 * 128  # a replay from the checkpoint before first verifies the one at which it begins
    assert_same(session, again)
    runs.clear()
    again.seek(3000 * again.program.ticks)
    assert 0 < len(runs) <= 2 * 128


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
            rows = [*again.state.branches.timeline.last.checkpoints.after(0)]
            assert len(rows) <= 8
            for batch, row in rows:
                record = session.state.branches.timeline.record(batch)
                assert row == record.before.tobytes() + record.states(end=False).tobytes()
            assert_same(session, again)


def test_no_checkpoint_is_written_that_is_removed_in_the_same_change(path, monkeypatch):
    """The end of a long run waits until it is written."""
    monkeypatch.setattr(state_writer, "MOST_CHECKPOINTS", 8)
    put, written = session_file.SessionFile.put_arrays, []

    def counted(file, key, arrays):
        arrays = list(arrays)
        if key.startswith("checkpoints/"):
            written.extend(arrays)
        put(file, key, arrays)

    monkeypatch.setattr(session_file.SessionFile, "put_arrays", counted)
    session = Session()
    session.learning = True
    with closing(session):
        session.record_to(path)
        for count in (100, 1, 300):
            written.clear()
            session.step("batch", count)
            assert len(written) <= 8
        assert_same(session, Session.open(path))


def test_a_run_writes_few_checkpoints_at_once_and_loses_no_batch(path, monkeypatch):
    """The end of a long run waits until it is written."""
    monkeypatch.setattr(state_writer, "AT_ONCE", 8)
    session = Session()
    session.learning = True

    def written(file):
        again = Session.open(file)
        assert_same(session, again)
        return [batch for batch, _ in again.state.branches.timeline.last.checkpoints.after(0)]

    with closing(session):
        session.record_to(path)
        session.step("batch", 100)
        assert written(path) == [*range(16, 100, 16)]
        session.step("batch", 4)
        assert written(path)[6:] == [*range(97, 104)]
        session.seek(50 * session.program.ticks)
        again = Session.open(path)
        again.seek(50 * again.program.ticks)
        assert_same(session, again)
        whole = path.with_name("whole.tui-gru")
        session.save(whole)
        assert written(whole) == [*range(1, 104)]


def test_a_file_is_not_larger_than_its_contents(path, monkeypatch):
    """Checkpoints that are written and then thinned out leave free pages in the file."""
    monkeypatch.setattr(state_writer, "MOST_CHECKPOINTS", 16)
    session = Session(hidden_size=16)
    session.learning = True
    session.step("batch", 400)
    session.save(path)
    recorded = path.with_name("recorded.tui-gru")
    session.record_to(recorded)
    for _ in range(10):
        session.step("batch", 80)
    session.close()
    for each in (path, recorded):
        with closing(sqlite3.connect(each)) as connection:
            contents = connection.execute("SELECT SUM(LENGTH(data)) FROM arrays").fetchone()[0]
            free, pages = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count"))
        assert free <= pages / 10
        assert each.stat().st_size < 1.2 * contents + 2**16
    assert_same(session, Session.open(recorded))


def test_free_pages_are_not_written_to_a_file(path):
    def fill(new, old):
        new.put_arrays("a", [(0, bytes(10**6))])
        new.drop_arrays("a")
        new.put_fact("a", "1")

    session_file.replace(path, fill)
    assert path.stat().st_size < 2**16
    assert [each.name for each in path.parent.iterdir()] == [path.name]


# Two programs at once


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


def test_a_kill_while_the_log_is_taken_into_the_file_loses_nothing(path):
    session, crashed = Session(), path.with_name("crashed.tui-gru")
    with closing(session):
        session.record_to(path)
        for i in range(20):
            session.edit("Wz", (0, 0), i)
        data, log = path.read_bytes(), path.with_name(path.name + "-wal").read_bytes()
    page = bytearray(path.read_bytes()[:4096])
    page[18:20] = b"\x02\x02"  # in WAL mode, as it was
    crashed.write_bytes(page + data[4096:])  # the first page is new; the pages that it refers to are in the log
    crashed.with_name(crashed.name + "-wal").write_bytes(log)
    assert_same(session, Session.open(crashed))


@pytest.fixture(scope="module")
def forking(tmp_path_factory):
    """A process that starts others, each recording a session driven at random, and the folder of their files."""
    folder = tmp_path_factory.mktemp("killed")
    code = f"from tests.session.acting import acts_for_ever; acts_for_ever({str(folder)!r})"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **pipes) as process:
        yield process, folder
        process.stdin.close()


@pytest.mark.parametrize("seed", range(examples(12, soak=50)))
def test_what_was_acknowledged_survives_a_kill(forking, seed):
    process, path = forking[0], forking[1] / f"{seed}.tui-gru"
    process.stdin.write(f"{seed}\n")
    process.stdin.flush()
    child, said = int(process.stdout.readline()), [process.stdout.readline()]
    with pytest.raises(SessionInUseError):
        Session.open(path, record=True)
    threading.Event().wait(random.Random(seed).random() * 0.15)
    os.kill(child, signal.SIGKILL)
    while said[-1] != "gone\n":
        said.append(process.stdout.readline())
        assert said[-1], "the process that begins the others has ended"
    acknowledged = int(said[-2])
    left = Session.open(path)
    assert "damaged" not in left.notice
    again = portrait(left)
    assert again in (portrait(acted(seed, count)) for count in (acknowledged, acknowledged + 1))
    copy = path.with_name(f"copy-{path.name}")
    for end in ("", "-wal"):
        shutil.copy(f"{path}{end}", f"{copy}{end}")
    copied = Session.open(copy)  # without its index, which knows best what was recorded
    assert portrait(copied) == again
    assert "damaged" not in copied.notice
    with closing(Session.open(path, record=True)) as session:
        assert portrait(session) == again
    assert [each.name for each in path.parent.iterdir() if each.name.startswith(path.stem + ".")] == [path.name]


# Names


def test_a_bare_name_is_a_session_of_the_persons_own(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "user_state_path", lambda name, appauthor: tmp_path / "state" / name)
    path = store.session_path("math")
    assert path == tmp_path / "state" / "tui-gru" / "sessions" / "math.tui-gru"
    with pytest.raises(SessionMissingError):
        Session.open(path)
    assert not list(tmp_path.iterdir())
    Session().save(path)
    assert Session.open(path).position.tick == 0
    assert store.session_path("math.tui-gru") == Path("math.tui-gru")
    assert store.session_path("here/math") == Path("here/math")
