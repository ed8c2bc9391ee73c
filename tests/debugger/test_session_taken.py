"""Two programs with one session: only one can write to it, also while its file is replaced."""

import os
import sqlite3
from contextlib import closing

import pytest

from tests.debugger.acting import acted, portrait, untouched
from tui_gru import Session
from tui_gru.debugger.storage import session_file
from tui_gru.debugger.storage.session_errors import DamagedSessionError, SessionInUseError


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
