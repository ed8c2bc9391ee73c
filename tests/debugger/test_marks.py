"""Marks, the way back from a jump, and the previous condition."""

import pytest

from tests.session.acting import altered
from tui_gru import Session, TuiGruError
from tui_gru.debugger.expressions import ConditionError
from tui_gru.debugger.state import Mark


def forked():
    """A session on a branch, with marks on it and on main."""
    session = Session()
    session.step("batch", 3)
    session.mark("m")
    session.seek("b2 t1")
    session.learning = True
    session.step("op", 3)
    session.mark("B")
    session.mark("a")
    return session


def test_a_mark_is_a_place_on_a_branch():
    session = forked()
    here, there = session.position, session.state.branches.named["main"].newest
    assert session.branch == "main~1"
    assert session.marks == (Mark("a", "main~1", here.tick), Mark("m", "main", there), Mark("B", "main~1", here.tick))
    assert session.snapshot().state.marks.sorted == session.marks
    assert session.jump("m").tick == there
    assert session.branch == "main"
    assert session.jump("B") == here
    assert session.branch == "main~1"
    session.mark("m")
    session.delete_mark("a")
    assert session.marks == (Mark("m", "main~1", here.tick), Mark("B", "main~1", here.tick))


def test_one_jumps_back_to_where_one_was_and_again():
    session = Session()
    with pytest.raises(TuiGruError, match="there is no place to jump back to yet"):
        session.jump("'")
    session.seek(50)
    session.learning = True
    jumps = (
        lambda: session.seek(300),
        lambda: session.run_until("t == 2"),
        lambda: session.run_back_until("t == 3"),
        session.next_match,
    )
    for jump in jumps:
        here = session.position
        jump()
        there = session.position
        assert there != here
        assert session.jump("'") == here
        assert session.jump("'") == there
    here = session.position
    session.seek(session.position)
    assert session.jump("'") != here
    session.step("batch", 2)
    session.seek(60)
    session.learning_rate = 0.5
    session.step("op", 2)
    here, branch = session.position, session.branch
    session.switch("main")
    assert session.jump("'") == here
    assert session.branch == branch
    session.jump("'")
    assert session.branch == "main"


@pytest.mark.parametrize("letter", ["", "1", "ab", "é", "ſ", "'", None, 3])
def test_a_mark_is_a_letter(letter):
    session = Session()
    with pytest.raises(TuiGruError, match="a mark is a letter, a to z or A to Z, not"):
        session.mark(letter)


def test_a_mark_that_there_is_not_is_said():
    session = Session()
    with pytest.raises(TuiGruError, match="there is no mark a; m and a letter sets one"):
        session.jump("a")
    session.mark("b")
    with pytest.raises(TuiGruError, match="there is no mark a; there are b"):
        session.delete_mark("a")


def test_a_mark_on_a_branch_that_was_undone_waits_for_it():
    session = forked()
    place = session.position
    session.undo()
    with pytest.raises(TuiGruError, match="mark B is on the branch main~1, which has been undone"):
        session.jump("B")
    session.redo()
    session.seek(0)
    assert session.jump("B") == place


def test_marks_and_the_last_condition_survive_the_process(tmp_path):
    session = forked()
    session.run_until("loss > 0")
    session.save(tmp_path / "it.tui-gru")
    other = Session.open(tmp_path / "it.tui-gru")
    assert (other.marks, other.state.last_condition) == (session.marks, "loss > 0")
    assert other.jump("m") == session.jump("m")
    assert other.next_match(False) == session.next_match(False)
    assert other.position == session.position


@pytest.mark.parametrize(
    "kept",
    [
        3, {}, [3], [{"letter": "a"}], [{"letter": "1", "branch": "main", "tick": 3}], [{"letter": "a", "branch": 1, "tick": 3}],
        [{"letter": "a", "branch": "main", "tick": -1}], [{"letter": "a", "branch": "main", "tick": True}],
        [{"letter": "a", "branch": "main", "tick": 3, "text": 3}], [{"letter": "a", "branch": "main", "tick": 3, "note": ""}],
    ],
)  # fmt: skip
def test_kept_marks_that_make_no_sense_are_left_out(tmp_path, kept):
    session = Session()
    session.save(tmp_path / "it.tui-gru")
    altered(tmp_path / "it.tui-gru", "kept", lambda fact: {**fact, "marked": kept, "last_condition": ["loss"]})
    other = Session.open(tmp_path / "it.tui-gru")
    assert (other.marks, other.state.last_condition) == ((), "")
    assert "the entry marked cannot be read and is left out; the entry last_condition cannot be read" in other.notice


def test_the_text_of_a_mark_keeps_its_lines_and_is_saved(tmp_path):
    session = Session()
    session.step("timestep")
    mark = session.mark("a", "  z is near 1:\n it keeps h ")
    assert mark.text == "z is near 1:\nit keeps h"
    assert mark.on_one_line == "z is near 1: it keeps h"
    session.mark("b")
    session.save(tmp_path / "it.tui-gru")
    assert Session.open(tmp_path / "it.tui-gru").marks == session.marks == (mark, Mark("b", "main", mark.tick))
    with pytest.raises(TuiGruError, match="a text must be a text, not 3"):
        session.mark("a", 3)


def test_a_mark_of_an_older_file_has_no_text(tmp_path):
    session = Session()
    session.mark("a", "the beginning")
    session.save(tmp_path / "it.tui-gru")
    altered(tmp_path / "it.tui-gru", "kept", lambda fact: {**fact, "marked": [{"letter": "a", "branch": "main", "tick": 0}]})
    assert Session.open(tmp_path / "it.tui-gru").marks == (Mark("a", "main", 0),)


def test_marks_are_walked_in_time_and_then_by_branch():
    session = forked()  # a and B at one place of main~1, m at the newest of main
    session.mark("c")
    session.step("batch", 2)
    session.mark("d")
    end, branched = session.position, session.jump("a")
    main = session.jump("m")
    session.seek(0)
    assert [session.next_mark() for _ in range(3)] == [main, branched, end]
    with pytest.raises(TuiGruError, match=r"^this is the last mark$"):
        session.next_mark()
    session.step("op")
    with pytest.raises(TuiGruError, match=r"^there is no mark further on$"):
        session.next_mark()
    assert [session.next_mark(False) for _ in range(3)] == [end, branched, main]
    assert session.branch == "main"
    with pytest.raises(TuiGruError, match=r"^this is the first mark$"):
        session.next_mark(False)


def test_the_last_condition_is_searched_for_again():
    session = Session()
    with pytest.raises(TuiGruError, match="no condition has been searched for yet; t searches for one"):
        session.next_match()
    with pytest.raises(ConditionError):
        session.run_until("loss <")
    assert session.state.last_condition == ""
    places = []
    session.run_until("t == 2")
    for _ in range(3):
        places.append(session.position.tick)
        assert session.next_match()
    assert places == [10, 112, 214]
    assert session.state.last_condition == "t == 2"
    assert session.next_match(False)
    assert session.position.tick == 214
    session.run_back_until("loss > 0")
    assert session.state.last_condition == "loss > 0"
