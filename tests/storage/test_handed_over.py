"""A shared session file is not changed by opening it; changes go to the file that the user chooses."""

from contextlib import closing

import pytest

from tests.session.acting import assert_same, untouched
from tui_gru import Session
from tui_gru.session import opening
from tui_gru.storage.file import SessionInUseError, UnwritableSessionError
from tui_gru.storage.store import session_path

ALONE = "not recorded; the session continues in memory only: {} is not changed; save the session to keep your changes"


@pytest.fixture
def path(tmp_path):
    session = Session()
    session.learning = True
    session.step("batch", 6)
    session.step("batch", -2)
    session.edit("Wz", (0, 0), 0.5)
    session.break_at("h", condition="any(h > 0.9)")
    session.mark("a")
    session.save(tmp_path / "math.tui-gru")
    return tmp_path / "math.tui-gru"


LOOKING = {
    "step": lambda s: s.step("op", -3),
    "seek": lambda s: s.seek("e1 b1 t2"),
    "search": lambda s: s.run_back_until("loss > 1.2"),
    "reverse": lambda s: s.reverse_continue(),
    "jump": lambda s: s.jump("a"),
    "switch": lambda s: s.switch("main"),
    "explain": lambda s: s.explain("h", (0, 0)),
    "what if": lambda s: (s.seek("e1 b2 t2"), s.what_if("h", (0, 0), 1.0)),
    "compare": lambda s: s.compare(),
    "layout": lambda s: s.keep("layout", {"page": 2}, begin=False),
}
CHANGING = {
    "edit": lambda s: s.edit("Wz", (0, 0), 9.0),
    "train on": lambda s: s.step("batch", 20),
    "sample": lambda s: s.sample("Ma", 3),
    "mark": lambda s: s.mark("b"),
    "break": lambda s: s.break_at("z"),
    "rename": lambda s: s.rename_branch("main", "old"),
    "undo": lambda s: s.undo(),
    "keep": lambda s: s.keep("note", "mine"),
}


@pytest.mark.parametrize("verb", LOOKING)
def test_looking_decides_nothing(path, verb):
    session = opening.open_session(path)
    session.seek("e1 b2 t2")
    with untouched(path):
        LOOKING[verb](session)
        assert not session.recorder.undecided
        assert session.recording is None
    with closing(Session.open(path)) as alone:
        LOOKING[verb](alone)
        assert "not recorded" not in alone.notice
        assert not alone.recorder.unrecorded


@pytest.mark.parametrize("verb", CHANGING)
def test_the_first_change_asks_where_to_go_on(path, verb):
    session = opening.open_session(path)
    with untouched(path):
        CHANGING[verb](session)
        assert session.recorder.undecided
        assert session.snapshot().unrecorded
        assert session.recorder.opened_from == path
        session.step("op", -1)
        assert session.recorder.undecided


@pytest.mark.parametrize("verb", CHANGING)
def test_where_nobody_is_asked_the_first_change_says_that_it_is_in_memory_only(path, verb):
    session = Session.open(path)
    with untouched(path):
        session.notice = ""
        CHANGING[verb](session)
        assert session.notice.endswith(ALONE.format(path))
        assert session.snapshot().unrecorded
        session.step("op", -1)
        assert ALONE.format(path) not in session.notice


def test_it_goes_on_in_the_same_file_if_one_says_so(path):
    session = opening.open_session(path)
    session.edit("Wz", (0, 0), 9.0)
    with closing(session):
        session.record_to(path)
        assert not session.recorder.undecided
        assert not session.snapshot().unrecorded
        session.step()
        assert_same(session, Session.open(path))


def test_it_goes_on_in_memory_if_one_says_so(path):
    session = opening.open_session(path)
    session.edit("Wz", (0, 0), 9.0)
    with untouched(path):
        session.notice = ""
        session.recorder.stay_in_memory()
        assert session.notice == "not recorded; the session continues in memory only"
        session.edit("Wz", (0, 0), 8.0)
        assert not session.recorder.undecided
        assert session.snapshot().unrecorded


@pytest.mark.parametrize("use", [Session.record_to, Session.save], ids=["record", "save"])
def test_what_another_wrote_meanwhile_is_not_overwritten(path, use):
    session = opening.open_session(path)
    session.edit("Wz", (0, 0), 9.0)
    with closing(Session.open(path, record=True)) as other:
        with pytest.raises(SessionInUseError):
            use(session, path)
        other.edit("Wz", (0, 0), 7.0)
    with untouched(path), pytest.raises(UnwritableSessionError, match="was written to since it was opened here; save it elsewhere"):
        use(session, path)
    assert session.recorder.undecided
    with closing(session):
        session.record_to(path.with_name("copy.tui-gru"))
        assert_same(session, Session.open(path.with_name("copy.tui-gru")))


def test_it_can_be_saved_to_its_file_again_and_again(path):
    session = Session.open(path)
    for i in range(3):
        session.edit("Wz", (0, 0), i)
        session.save(path)
        assert_same(session, Session.open(path))


def test_ones_own_sessions_go_on_where_they_are():
    session = Session()
    session.save(session_path("math"))
    with closing(opening.open_session(session_path("math"))) as again:
        again.step()
        assert again.recording == session_path("math")
        assert_same(again, Session.open(session_path("math")))
