"""Reading ahead gives the same items as reading, and errors are raised when the item is requested."""

import threading

import pytest

from tests.interop.recording.runs import trained
from tui_gru import Session, TuiGruError
from tui_gru.interop.opening.read_ahead import ReadAhead


def test_what_was_read_ahead_is_taken_once():
    read = []
    ahead = ReadAhead(lambda at: read.append((at, threading.current_thread().name)) or f"item {at}")
    assert ahead.take(3) is None
    ahead.begin(3)
    assert ahead.take(2) is None
    assert ahead.take(3) == "item 3"
    assert ahead.take(3) is None
    assert read == [(3, "tui-gru-reads-ahead")]


def test_one_is_read_at_a_time():
    go_on, read = threading.Event(), []
    ahead = ReadAhead(lambda at: read.append(at) or (go_on.wait(10) and at))
    ahead.begin(3)
    ahead.begin(4)
    go_on.set()
    assert ahead.take(3) == 3
    assert read == [3]


def test_an_error_is_left_to_whoever_reads_it_again():
    def read(at):
        raise ValueError(at)

    ahead = ReadAhead(read)
    ahead.begin(3)
    assert ahead.take(3) is None


def test_the_next_step_of_a_recording_is_read_ahead(tmp_path, monkeypatch):
    trained(tmp_path / "run", steps=12, every=1)
    begun = []
    monkeypatch.setattr(ReadAhead, "begin", lambda ahead, at: begun.append(at))
    s = Session.open(tmp_path / "run")
    s.step("batch", 3)
    assert begun[-1] == s.position.batch + 1
    s.seek("e1 b9 t1")
    s.step("batch", 2)
    assert begun[-1] == s.position.batch + 1
    s.seek(s.end)
    assert max(begun) < 12


def test_a_step_that_cannot_be_read_ahead_is_refused_when_it_is_reached(tmp_path):
    trained(tmp_path / "run", steps=4, every=1)
    shards = sorted((tmp_path / "run").glob("step-*"))
    s = Session.open(tmp_path / "run")
    shards[2].write_bytes(shards[2].read_bytes()[:-4])
    s.step("batch")
    s.step("batch")
    here = s.position
    with pytest.raises(TuiGruError, match="cut off"):
        s.step("batch")
    assert s.position == here
