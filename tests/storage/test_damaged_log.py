"""The log of a crashed session that was damaged later: what is lost is said, and the files are kept before anything is written."""

import os
import random
import shutil
import struct
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.extent import examples
from tests.session.acting import acted, portrait, untouched
from tui_gru import Session, TuiGruError
from tui_gru.session import opening
from tui_gru.session.session import EARLIER, REOPENED
from tui_gru.storage import file as session_file
from tui_gru.storage import file as sqlite_files
from tui_gru.storage import store
from tui_gru.storage import store as library
from tui_gru.storage.log_damage import INDEX_HEADER, frames_indexed

HEADER, FRAME, PAGE = 32, 24 + 4096, 4096  # bytes of SQLite's log: its header, a frame with its header, and a page
DAMAGED = "math.tui-gru-wal is damaged: "


@pytest.fixture(scope="module", params=[1000, 9], ids=["the first log", "a log begun anew"])
def crashed(request, tmp_path_factory):
    """The files of a session whose process has been killed, and what could be read from it. SQLite begins a log anew after some
    pages; the old ones then follow the new ones."""
    folder, patched, connect = tmp_path_factory.mktemp("crashed"), pytest.MonkeyPatch(), session_file.connect

    def connected(path, mode):
        connection = connect(path, mode)
        connection.execute(f"PRAGMA wal_autocheckpoint = {request.param}")
        return connection

    patched.setattr(session_file, "connect", connected)
    with patched.context(), closing(Session()) as session:
        session.learning = True
        session.record_to(folder / "math.tui-gru")
        for i in range(8):
            session.step("batch", 3)
            session.edit("Wz", (0, 0), i)
        files = {each.name: each.read_bytes() for each in folder.iterdir()}
        shown = portrait(session)
    patched.undo()
    assert int.from_bytes(files["math.tui-gru-wal"][12:16], "big") > 0 or request.param > 9
    return files, shown


@pytest.fixture(params=[True, False], ids=["with its index", "without"])
def left(crashed, tmp_path, request):
    """Return a function that writes the files of the crash, with another log, and returns the path of the session."""

    def leave(log):
        for name, data in crashed[0].items():
            if request.param or not name.endswith("-shm"):
                (tmp_path / name).write_bytes(log if name.endswith("-wal") else data)
        return tmp_path / "math.tui-gru"

    leave.has_index = request.param
    return leave


def frames_of(log):
    """Return the positions of the frames that were written since the log was begun, up to the last end of a change."""
    found, ends = [], 0
    for at in range(HEADER, len(log) - FRAME + 1, FRAME):
        if log[at + 8 : at + 16] != log[16:24]:
            break
        found.append(at)
        if log[at + 4 : at + 8] != bytes(4):
            ends = len(found)
    return found[:ends]


def flipped(log, at, bit=0):
    return log[:at] + bytes([log[at] ^ 1 << bit]) + log[at + 1 :]


def notice_of(path):
    """Return what is said of a session when it is opened, or why it is not."""
    with untouched(path):
        try:
            return Session.open(path).notice
        except TuiGruError as error:
            return str(error)


def assert_noticed(path, damage):
    notice = notice_of(path)
    assert (notice.startswith(EARLIER) and DAMAGED in notice) or f"{path} is damaged" in notice, (damage, notice)


def test_a_log_that_is_whole_is_said_to_be_whole(crashed, left):
    path = left(crashed[0]["math.tui-gru-wal"])
    with untouched(path):
        again = Session.open(path)
    assert portrait(again) == crashed[1]
    assert again.notice.startswith(REOPENED)
    assert "damaged" not in again.notice


def test_an_index_with_a_wrong_sum_says_nothing(crashed, tmp_path):
    """Both copies of its header are alike, as SQLite wrote them, and a number in them is not that of their checksum."""
    index, size = crashed[0]["math.tui-gru-shm"], INDEX_HEADER.size
    path = tmp_path / "index"
    path.write_bytes(index)
    assert frames_indexed(path) is not None
    for at in range(16, size):  # after the version and the sign that it is begun
        header = bytearray(index[:size])
        header[at] ^= 1
        path.write_bytes(bytes(header) * 2 + index[2 * size :])
        assert frames_indexed(path) is None


def test_a_flipped_bit_is_noticed_wherever_it_is(crashed, left):
    log, rng = crashed[0]["math.tui-gru-wal"], random.Random(1)
    frames = frames_of(log)
    places = [(at, rng.randrange(8)) for at in range(HEADER)]
    for frame in (frames[0], frames[len(frames) // 2], frames[-2], frames[-1]):
        places += [(frame + at, rng.randrange(8)) for at in range(24)]
        places += [(frame + 24 + rng.randrange(PAGE), rng.randrange(8)) for _ in range(4)]
    places += [(frames[-1] + 4 + i, bit) for i in range(4) for bit in range(8)]
    for at, bit in rng.sample(places, examples(40, soak=len(places))):
        assert_noticed(left(flipped(log, at, bit)), (at, bit))


@pytest.mark.parametrize("bit", range(4))
def test_the_end_of_the_last_change_is_missed(crashed, left, bit):
    """A flip can make the size of the database 0, as in a frame that ends no change."""
    log = bytearray(crashed[0]["math.tui-gru-wal"])
    last = frames_of(log)[-1]
    size = int.from_bytes(log[last + 4 : last + 8], "big")
    log[last + 4 : last + 8] = bytes(4)
    if left.has_index or not size & (size - 1):
        assert_noticed(left(bytes(log)), size)


def test_zeros_in_the_place_of_the_end_are_noticed(crashed, left):
    log = crashed[0]["math.tui-gru-wal"]
    for frame in frames_of(log)[:-1:5]:
        for at in (frame, frame + 10, frame + 500):
            assert_noticed(left(log[:at] + bytes(len(log) - at)), at)


def test_a_log_that_is_cut_is_noticed(crashed, left):
    """A cut in the header of a frame, or between frames, looks like a crash, unless the index says what was there."""
    log = crashed[0]["math.tui-gru-wal"]
    for frame in frames_of(log)[1::4]:
        for at in (frame + 25, frame + 2000, frame + FRAME - 1, *([frame, frame + 11] if left.has_index else [])):
            assert_noticed(left(log[:at]), at)


def test_an_unfinished_change_is_no_damage(crashed, left):
    """A process that is killed leaves frames without the one that ends the change, or the header of one."""
    log = crashed[0]["math.tui-gru-wal"]
    frames = frames_of(log)
    end = frames[-1] + FRAME
    unfinished = log[frames[0] : frames[0] + 4] + bytes(4) + log[16:24] + bytes(8)
    rest = log[end:]
    broken_off = (unfinished + bytes(4096))[: -end % 4096]  # the system ends a write at one of its own pages
    for more in (unfinished, broken_off, unfinished + rest[24:], unfinished + log[frames[0] + 24 : frames[0] + FRAME] + unfinished):
        left(log)
        with untouched(path := left(log[:end] + more)):
            again = Session.open(path)
        assert portrait(again) == crashed[1]
        assert again.notice.startswith(REOPENED), again.notice
        assert "damaged" not in again.notice


def test_a_frame_that_was_being_written_over_an_old_one_is_no_damage(crashed, left):
    log = crashed[0]["math.tui-gru-wal"]
    end = frames_of(log)[-1] + FRAME
    if int.from_bytes(log[12:16], "big") and end + FRAME <= len(log):
        ending = struct.pack(">2I", 2, 9) + log[16:24] + bytes(8)
        notice = notice_of(left(log[:end] + ending + log[end + 24 :]))
        assert ("damaged" in notice) is not left.has_index


def test_what_is_lost_is_said_and_the_files_are_kept_before_anything_is_written(crashed, left):
    log = crashed[0]["math.tui-gru-wal"]
    frames = frames_of(log)
    at = frames[2] + 700 if int.from_bytes(log[12:16], "big") == 0 else frames[0] + 700
    path = left(flipped(log, at))
    before = {each.name: each.read_bytes() for each in path.parent.iterdir()}
    said = notice_of(path)
    assert "later changes are lost" in said or "is damaged" in said
    try:
        with closing(opening.reopen_session(path)) as session:
            assert "the damaged files are kept as math.tui-gru.damaged and math.tui-gru.damaged-wal" in session.notice
            session.step("batch")
            session.edit("Wz", (0, 0), 9)
            shown = portrait(session)
        assert portrait(Session.open(path)) == shown
        assert "damaged" not in Session.open(path).notice
    except TuiGruError as error:
        assert "is damaged" in str(error)  # noqa: PT017  # SQLite found the rest of it damaged as well
    kept = path.with_name("math.tui-gru.damaged")
    for end in ("", "-wal"):
        assert kept.with_name(kept.name + end).read_bytes() == before[f"math.tui-gru{end}"]
    shutil.copy(kept, Path(f"{path}-again"))
    assert "damaged" in notice_of(kept)


def test_what_was_lost_is_named_by_its_place(tmp_path):
    session = Session()
    with closing(session):
        session.record_to(tmp_path / "live.tui-gru")
        session.step("batch", 2)
        begun = len((tmp_path / "live.tui-gru-wal").read_bytes())
        session.step("batch", 5)
        session.edit("Wz", (0, 0), 1)
        session.seek("e9 b1 t2")
        for end in ("", "-wal"):
            shutil.copy(f"{session.recording}{end}", tmp_path / f"math.tui-gru{end}")
    log = tmp_path / "math.tui-gru-wal"
    log.write_bytes(flipped(log.read_bytes(), begun + 50))
    again = Session.open(tmp_path / "math.tui-gru")
    assert again.position.number == 1
    shutil.copytree(tmp_path, store.sessions_folder(), ignore=shutil.ignore_patterns("live*", "tui-gru"), dirs_exist_ok=True)
    (math,) = library.all_sessions()
    assert math.place == "epoch 1, batch 2, t 3, later changes lost in a damaged log"
    assert (
        f"{DAMAGED}3 later changes are lost, which reached epoch 9, batch 1, t 2 at least; the files are not changed"
        in again.notice
    )


def test_a_copy_is_kept_each_time_and_deleting_keeps_none(crashed, left):
    log = crashed[0]["math.tui-gru-wal"]
    bad = flipped(log, frames_of(log)[-1] + 99)
    for name in ("math.tui-gru.damaged", "math.tui-gru.damaged-2"):
        path = left(bad)
        Session().save(path)
        assert path.with_name(f"{name}-wal").read_bytes() == bad
    path = left(bad)
    session_file.remove(path)
    assert not path.exists()
    assert not path.with_name("math.tui-gru.damaged-3").exists()


def test_a_log_beside_a_closed_session_is_said_to_be_of_another(tmp_path):
    path = tmp_path / "math.tui-gru"
    acted(2, 5).save(path)
    path.with_name("math.tui-gru-wal").write_bytes(bytes(9000))
    assert "math.tui-gru-wal beside it belongs to another file and is not read" in notice_of(path)


@pytest.fixture
def undeletable(monkeypatch):
    """Return a function after which SQLite fails to delete a log, without a word, for some times."""
    connect = session_file.connect

    class Connection:
        def __init__(self, path, mode):
            self._connection, self._log = connect(path, mode), path.with_name(f"{path.name}-wal")

        def __getattr__(self, name):
            return getattr(self._connection, name)

        def execute(self, statement, *parameters):
            log = self._log.read_bytes() if self._log.exists() else b""
            result = self._connection.execute(statement, *parameters)
            if statement.endswith("journal_mode = DELETE") and log and failures:
                failures.pop()
                self._log.write_bytes(log)
            return result

    failures = []
    monkeypatch.setattr(session_file, "connect", Connection)
    return lambda times: failures.extend([None] * times)


@pytest.mark.parametrize("times", [1, 2])
def test_a_crashed_session_goes_on_if_its_log_is_not_deleted_at_once(crashed, left, undeletable, times):
    path = left(crashed[0]["math.tui-gru-wal"])
    undeletable(times)
    with closing(Session.open(path, record=True)) as session:
        assert portrait(session) == crashed[1]
        session.step("batch")
        shown = portrait(session)
    assert portrait(Session.open(path)) == shown
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_crashed_session_is_not_replaced_if_its_log_cannot_be_deleted(crashed, left, undeletable):
    path = left(crashed[0]["math.tui-gru-wal"])
    undeletable(1000)
    words = r"math\.tui-gru cannot be written: its log \(-wal\) cannot be deleted; save it elsewhere"
    with pytest.raises(session_file.UnwritableSessionError, match=words):
        Session.open(path, record=True)
    assert portrait(Session.open(path)) == crashed[1]


def test_a_closed_session_is_whole_if_its_log_is_not_deleted_at_once(tmp_path, undeletable):
    path = tmp_path / "math.tui-gru"
    session = acted(2, 5)
    with closing(session):
        session.record_to(path)
        session.step("batch", 3)
        undeletable(1)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert portrait(Session.open(path)) == portrait(session)
    assert "belongs to another file" not in notice_of(path)


@pytest.mark.parametrize("is_locked", [True, False])
def test_windows_tells_a_crash_from_a_session_in_use_by_the_lock_on_the_index(crashed, left, monkeypatch, is_locked):
    """The index stays after a crash; a program that has the session open keeps byte 128 of it locked."""
    asked = []

    def locking(handle, mode, count):
        asked.append((os.lseek(handle, 0, os.SEEK_CUR), mode, count))
        if is_locked:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2, LK_UNLCK=0))
    path = left(crashed[0]["math.tui-gru-wal"])
    assert sqlite_files.is_recorded(path) is (is_locked and left.has_index)
    assert asked == [(128, 2, 1), (128, 0, 1)][: 2 - is_locked] * left.has_index
