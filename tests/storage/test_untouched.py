"""A session file that is only read is not changed, nor are the files beside it, also after a crash."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from tests.session.acting import ROOT, assert_same, portrait, read_only, untouched
from tui_gru import Session
from tui_gru.storage import file as session_file
from tui_gru.storage import file as sqlite_files
from tui_gru.storage import store as library
from tui_gru.storage.file import SessionInUseError
from tui_gru.storage.store import session_path

LOST = "later changes are in math.tui-gru-wal, which is missing: copy both files"


@pytest.fixture
def live(tmp_path):
    """A session that is being recorded, with its log and its index beside the file."""
    session = Session()
    with closing(session):
        (tmp_path / "live").mkdir()
        session.record_to(tmp_path / "live" / "math.tui-gru")
        for i in range(5):
            session.edit("Wz", (0, 0), i)
        yield session


@pytest.fixture
def left(live, tmp_path):
    """Return a function that copies the files of a crash: `left("-wal")` is the file with its log, and without its index."""

    def leave(*ends):
        folder = tmp_path / f"left{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for end in ("", *ends):
            shutil.copy(f"{live.recording}{end}", folder)
        return folder / live.recording.name

    return leave


@pytest.mark.parametrize("ends", [("-wal", "-shm"), ("-wal",)], ids=["with its index", "without"])
def test_what_a_crash_has_left_is_read_whole_and_stays(live, left, ends):
    path, before = left(*ends), portrait(live)
    with untouched(path):
        again = Session.open(path)
    assert portrait(again) == before
    assert LOST not in again.notice


@pytest.mark.parametrize("ends", [("-wal", "-shm"), ("-wal",), ()], ids=["with its index", "with its log", "alone"])
def test_what_a_crash_has_left_in_a_folder_that_is_read_only_is_read_whole(live, left, ends):
    path, before = left(*ends), portrait(live)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for each in path.parent.iterdir():
            shutil.copy(each, folder)
        with read_only(folder), untouched(folder / path.name):
            again = Session.open(folder / path.name)
    assert (portrait(again) == before) is bool(ends)


def test_a_file_copied_without_its_log_says_that_newer_work_is_missing(live, left):
    path = left()
    with untouched(path):
        again = Session.open(path)
    assert again.parameter("Wz")[0, 0] != live.parameter("Wz")[0, 0]
    assert again.notice == f"reopened where it was left: {again.left_at}; {LOST}"
    with closing(Session.open(path, record=True)) as recorded:
        assert recorded.notice.endswith(LOST)
    assert LOST not in Session.open(path).notice


def test_a_log_that_is_empty_is_as_one_that_is_missing(left):
    path = left()
    path.with_name("math.tui-gru-wal").touch()
    with untouched(path):
        assert LOST in Session.open(path).notice


def test_a_process_that_is_killed_before_the_first_change_has_lost_nothing(tmp_path):
    session = Session()
    (tmp_path / "left").mkdir()
    with closing(session):
        session.record_to(tmp_path / "math.tui-gru")
        for each in tmp_path.glob("math*"):
            shutil.copy(each, tmp_path / "left")
    with untouched(tmp_path / "left" / "math.tui-gru"):
        again = Session.open(tmp_path / "left" / "math.tui-gru")
    assert_same(session, again)
    assert LOST not in again.notice


def test_a_session_at_rest_leaves_no_trace_and_says_nothing(tmp_path):
    session = Session()
    session.save(tmp_path / "math.tui-gru")
    with untouched(tmp_path / "math.tui-gru"):
        assert LOST not in Session.open(tmp_path / "math.tui-gru").notice


def test_the_list_leaves_no_trace(left):
    path = session_path("math")
    path.parent.mkdir(parents=True)
    for each in left("-wal").parent.iterdir():
        shutil.copy(each, path.parent)
    with untouched(path):
        (math,) = library.all_sessions()
    assert math.branches == ("main",)


def test_a_log_of_another_file_is_not_taken_into_one_that_was_put_in_its_place(left, tmp_path):
    """A good copy has been put over a crashed session, whose log still exists."""
    path, session = left("-wal"), Session()
    session.step("batch", 7)
    session.save(tmp_path / "good")
    shutil.copy(tmp_path / "good", path)
    with untouched(path):
        assert_same(session, Session.open(path))
    with closing(Session.open(path, record=True)) as again:
        assert_same(session, again)
    names = [each.name for each in path.parent.iterdir()]
    assert len(names) == 2
    assert any(name.startswith("math.tui-gru-wal-") for name in names)


OTHER = """
import sys
from tui_gru import Session
session = Session()
session.record_to({path!r})
for line in sys.stdin:
    session.edit("Wz", (0, 0), float(line))
    print(session.branch, flush=True)
"""


def test_a_session_open_in_another_process_is_read_as_it_is_now_and_stays_its_own(tmp_path):
    path = tmp_path / "math.tui-gru"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", OTHER.format(path=str(path))], cwd=ROOT, **pipes) as other:
        for value in range(3):
            other.stdin.write(f"{value}\n")
            other.stdin.flush()
            other.stdout.readline()
            assert sqlite_files.is_recorded(path)
            assert Session.open(path).parameter("Wz")[0, 0] == value
        with pytest.raises(SessionInUseError):
            Session.open(path, record=True)
        other.stdin.close()
    assert not sqlite_files.is_recorded(path)
    assert [each.name for each in tmp_path.iterdir()] == ["math.tui-gru"]


def test_reading_the_session_that_this_process_records_keeps_its_lock(live):
    for _ in range(3):
        Session.open(live.recording)
        with session_file.glancing(live.recording):
            pass
    code = f"from tui_gru import Session; Session.open({str(live.recording)!r}, record=True)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "is open in another tui-gru" in done.stderr


def test_a_foreign_database_is_refused_without_a_trace(tmp_path):
    path = tmp_path / "theirs.tui-gru"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE facts (key)")
        connection.commit()
        other = Path(tmp_path, "copy")
        other.mkdir()
        for end in ("", "-wal"):
            shutil.copy(f"{path}{end}", other)
    with untouched(other / path.name), pytest.raises(ValueError, match=r"not a tui-gru session|database of another program"):
        Session.open(other / path.name)
    assert os.path.exists(path)
