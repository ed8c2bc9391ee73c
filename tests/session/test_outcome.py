"""The reason why a run stopped is a value; no decision depends on the text of a message."""

import pytest

from tui_gru import Session, TuiGruError
from tui_gru.debugger.state import Notice, State, joined_notices


def learning(**options):
    session = Session(**options)
    session.learning = True
    return session


def cause(session):
    event = session.outcome.stopped_by
    return None if event is None else event.cause


def test_a_breakpoint_and_a_watch_stop_a_run_where_the_outcome_says():
    session = learning()
    session.break_at("h")
    assert session.continue_()
    outcome = session.outcome
    assert (outcome.position, outcome.stopped_by.cause) == (session.position, "breakpoint")
    assert outcome.stopped_by.tick == session.position.tick
    assert outcome.notice == Notice(session.notice)
    session.delete_stop(1)
    session.watch("Wz[0, 0]", stops=True)
    session.step("batch", 2)
    assert cause(session) == "breakpoint"


def test_a_condition_stops_a_search_and_says_nothing():
    session = learning()
    assert session.run_until("t == 2")
    assert (cause(session), session.outcome.notice, session.notice) == ("condition", None, "")
    assert session.run_back_until("t == 1")
    assert cause(session) == "condition"
    assert not session.run_back_until("loss < 0")
    assert session.outcome.stopped_by is None


def test_a_run_that_ends_or_is_interrupted_is_stopped_by_nothing():
    session = learning(epochs=2)
    session.break_at(condition="loss < 0")
    assert not session.continue_()
    assert session.position == session.end
    assert session.outcome.stopped_by is None
    session.step("batch", -1)
    assert session.outcome.stopped_by is None
    endless = learning()
    assert not endless.run_until("loss < 0", progress=lambda at: endless.interrupt())
    assert endless.outcome.stopped_by is None


def test_growth_and_numbers_that_are_not_finite_stop_a_run_with_a_warning():
    session = learning(learning_rate=3e38)
    session.stop_on_nan = True
    causes = []
    for _ in range(4):
        session.step("batch", 2)
        causes.append(cause(session))
        if causes[-1] is not None:
            assert session.outcome.notice.warning
            assert session.outcome.stopped_by.tick == session.position.tick == session.snapshot().hits[-1]
    assert list(dict.fromkeys(causes)) == ["growth", "not finite", None]
    assert not session.snapshot().finite


def test_an_sgd_step_ends_where_something_stops_it():
    session = learning(learning_rate=3e38)
    session.stop_on_nan = True
    session.sgd(9)
    assert cause(session) in ("growth", "not finite")
    assert session.position.number < 8


def test_an_error_in_a_condition_is_a_warning():
    session = learning()
    session.break_at("h", condition="any(z[epoch - 1] > 9)")
    with pytest.raises(TuiGruError):
        session.continue_()
    assert (cause(session), session.outcome.notice.warning) == ("breakpoint", True)


def test_what_a_front_end_says_is_no_stop():
    session = learning()
    session.notice = "saved"
    session.add_notice("not recorded", warning=True)
    session.add_notice("first", first=True)
    session.add_notice("")
    assert session.notice == "first; saved; not recorded"
    assert session.outcome.notice.warning
    assert session.outcome.stopped_by is None
    session.step()
    assert session.outcome.notice is None


def test_notices_are_joined():
    assert joined_notices() is joined_notices(None, Notice("")) is None
    assert joined_notices(Notice("a"), None, Notice("b", warning=True)) == Notice("a; b", warning=True)


def test_a_verb_leads_to_another_state_and_leaves_the_one_before():
    session = learning()
    before = session.state
    tick, stops, names = before.tick, before.stops, before.branches.names
    session.step("batch", 3)
    session.break_at("h")
    session.step("batch", -1)
    session.edit("Wz", (0, 0), 1.0)
    assert (before.tick, before.stops, before.branches.names) == (tick, stops, names)
    assert session.state.branches.names == ("main", "main~1")
    again = Session(state=before)
    assert (again.position.tick, again.stops, again.branches) == (tick, stops, names)
    with pytest.raises(TuiGruError, match="takes its options from it"):
        Session(state=before, hidden_size=3)


def test_a_field_that_a_state_does_not_have_is_refused():
    state = Session().state
    assert isinstance(state, State)
    with pytest.raises(TypeError, match="a state has no ticks"):
        state.replaced(ticks=3)


@pytest.mark.parametrize("name", ["stops", "marked", "left", "hits", "log", "compared", "last_condition"])
def test_a_front_end_cannot_keep_a_value_under_a_name_of_the_session(name):
    with pytest.raises(TuiGruError, match=f"{name} is a reserved name"):
        Session().keep(name, 1)


@pytest.mark.parametrize("epochs", [0, -1, 1.5, "2"])
def test_a_run_ends_after_a_whole_number_of_epochs(epochs):
    session = Session()
    with pytest.raises(TuiGruError, match="epochs"):
        session.epochs = epochs
    session.epochs = 3
    assert session.end == session.seek("e9 b1 t1")
