"""Comparison of two branches: the differences stay exact whatever happens to the branches."""

import numpy as np
import pytest

from tests.debugger import models
from tests.debugger.deriving import UNEXPLAINED
from tests.session.acting import altered
from tui_gru.debugger.program import ValueKind
from tui_gru.errors import TuiGruError
from tui_gru.session.session import Session
from tui_gru.session.snapshot import Differences, difference, differences


def forked(at=5, batches=9, change=lambda weight: weight + 0.25, name="Wz", **options):
    """Return a session with two branches that separate after `at` batches by a changed weight; it is on the new one."""
    session = Session(**options)
    session.learning = True
    session.step("batch", batches)
    session.seek(at * session.program.ticks)
    session.edit(name, (0, 1), change(session.parameter(name)[0, 1]))
    session.step("batch", batches - at)
    return session


def on(session, branch, tick):
    """Return everything that can be read on a branch at a tick."""
    was, left = session.branch, session.position.tick
    session.switch(branch)
    session.seek(tick)
    snapshot = session.snapshot()
    session.switch(was)
    session.seek(left)
    return snapshot


@models.parametrize("gru", "gru after, notebook, adam", "lstm", "both ways")
def test_differences_are_exactly_the_differences(model):
    session = forked(name="Wy", **model)
    session.compare("main")
    ticks, program, seen = session.program.ticks, session.program, set()
    for tick in (*range(6 * ticks, 7 * ticks, ticks // 9), 7 * ticks):
        session.seek(tick)
        here, there = session.snapshot(), on(session, "main", tick)
        shown = differences(here)
        for name in set(program.readable) - set(UNEXPLAINED):
            mine, theirs, d = here.value(name), there.value(name), shown.value(name)
            assert (d is None) == (mine is None)
            if d is not None:
                assert np.array_equal(d, np.asarray(mine, np.float64) - np.asarray(theirs, np.float64))
                assert np.array_equal(np.asarray(d) == 0, np.asarray(mine) == np.asarray(theirs))
                seen |= {name} if np.any(np.asarray(d)) else set()
        for name in program.parameters:
            assert np.array_equal(shown.parameter(name), here.parameter(name).astype(float) - there.parameter(name))
            for read in (lambda s: s.gradient(name), lambda s: s.gradient_before(name), lambda s: s.last_step(name)):  # noqa: B023
                mine, d = read(here), read(shown)
                assert (d is None) == (mine is None)
                assert d is None or np.array_equal(d, mine.astype(float) - read(there))
    of_states = [name for state in program.model.page.states for name in (state, f"d{state}")]
    kept = program.names_of(ValueKind.OPTIMIZER_STATE, ValueKind.UPDATE_VALUE)
    assert {*of_states, *kept, "y_hat", "dlogits", "loss", "grad_norm", "Wy", "dWy"} <= seen


def test_a_single_changed_bit_is_seen_and_nothing_else_is():
    session = forked(change=lambda weight: np.nextafter(weight, np.float32(9)))
    session.compare("main")
    session.seek(5 * session.program.ticks)
    shown = differences(session.snapshot()).parameter("Wz")
    assert np.argwhere(shown).tolist() == [[0, 1]]
    assert 0 < shown[0, 1] < 1e-7


def test_what_is_no_number_is_this_branch_s_own():
    session = forked()
    session.compare()
    here = session.snapshot()
    shown = differences(here)
    assert (shown.minus, here.minus) == ("main", "")
    for name in ("char", "target", "epoch", "batch", "t"):
        assert np.array_equal(shown.value(name), here.value(name))
    assert shown.tutorial_term1 is None


def test_only_what_differs_is_not_zero():
    nan, inf = float("nan"), float("inf")
    mine, theirs = np.array([1, nan, nan, inf, inf, 5e-324, 1e308]), np.array([1, nan, 2, inf, -inf, 0, -1e308])
    d = difference(mine, theirs)
    assert np.array_equal(d == 0, [True, True, False, True, False, False, False])
    assert d[5] == 5e-324
    assert difference(np.float32(1), np.float32(1)) == 0.0
    assert difference(None, 1.0) is None
    assert difference(mine, None) is None


def test_comparing_computes_nothing_else():
    one, other = forked(), forked()
    other.compare("main")
    for session in (one, other):
        session.seek(6 * session.program.ticks + 30)
        differences(session.snapshot()).value("dz")
        session.step("batch", 12)
    assert np.array_equal(one.parameter("Uh"), other.parameter("Uh"))
    assert [*one.snapshot().losses] == [*other.snapshot().losses]


def test_where_the_other_has_not_come_so_far_there_is_nothing():
    session = forked()
    session.compare("main")
    session.step("batch", 3)
    other = session.snapshot().other
    assert other.moment is None
    assert len(other.losses) == 9
    shown = differences(session.snapshot())
    assert shown.value("z") is None
    assert shown.parameter("Wz") is None
    assert shown.last_step("Wz") is None
    session.step("batch", -3)
    assert session.snapshot().other.moment is not None


def test_where_the_other_does_not_learn_there_are_no_gradients():
    session = forked()
    session.seek(7 * session.program.ticks)
    session.learning = False
    session.step("batch", 2)
    session.switch("main~1")
    session.compare("main~2")
    session.seek(8 * session.program.ticks - 1)
    shown = differences(session.snapshot())
    assert session.value("dz") is not None
    assert shown.value("dz") is None
    assert shown.gradient("Wz") is None
    assert shown.value("z") is not None


def test_it_is_off_at_first_and_can_be_turned_off():
    session = forked()
    assert session.state.comparing is None
    assert session.snapshot().other is None
    assert differences(session.snapshot()).__class__ is not Differences
    assert session.compare("main") == "main" == session.state.comparing
    assert session.compare(None) is None
    assert session.state.comparing is None


def test_unnamed_it_is_the_branch_that_this_one_has_left_or_the_last_that_has_left_it():
    session = forked()
    session.seek(2 * session.program.ticks)
    session.edit("Wz", (0, 0), 0.5)
    session.step("batch", 2)
    session.step("batch", -1)
    session.edit("Wz", (0, 0), 0.25)
    assert session.branches == ("main", "main~1", "main~2", "main~3")
    assert session.compare() == "main~2"
    session.switch("main~1")
    assert session.compare() == "main"
    session.switch("main")
    assert session.compare() in ("main~1", "main~2")


def test_switching_turns_it_round():
    session = forked()
    session.seek(3)
    session.learning_rate = 0.5
    session.compare("main")
    assert session.branch == "main~2"
    session.switch("main")
    assert session.state.comparing == "main~2"
    session.switch("main~1")
    assert session.state.comparing == "main"
    session.switch("main~2")
    assert session.state.comparing == "main"


def test_a_branch_that_goes_is_compared_with_no_more():
    session = forked()
    session.switch("main")
    session.compare("main~1")
    session.delete_branch("main~1")
    assert session.state.comparing is None
    assert session.snapshot().other is None
    session = forked()
    session.compare("main")
    session.undo()
    assert session.state.comparing is None
    session.redo()
    assert session.state.comparing == "main"


def test_a_branch_keeps_being_compared_with_under_another_name():
    session = forked()
    session.compare("main")
    session.rename_branch("main", "first")
    assert session.state.comparing == "first"
    assert session.snapshot().other.name == "first"


@pytest.mark.parametrize("name", ["main~1", "nowhere", "off"])
def test_what_cannot_be_compared_is_said_in_a_line(name):
    session = forked()
    session.compare("main")
    with pytest.raises(TuiGruError, match="main") as raised:
        session.compare(name)
    assert "\n" not in str(raised.value)
    assert session.state.comparing == "main"


def test_one_branch_alone_cannot_be_compared():
    with pytest.raises(TuiGruError, match="change made in the past"):
        Session().compare()


def test_it_is_kept_with_the_session(tmp_path):
    session = forked()
    session.compare("main")
    session.save(tmp_path / "walk")
    assert Session.open(tmp_path / "walk").state.comparing == "main"
    altered(tmp_path / "walk", "kept", lambda kept: {**kept, "compared": {"what": "is this"}})
    reopened = Session.open(tmp_path / "walk")
    assert reopened.state.comparing is None
    assert "compared" in reopened.notice


def test_losses_that_are_put_together_grow_with_the_run():
    session = forked()
    before = session.snapshot().losses
    was = [*before]
    session.step("batch", 2)
    after = session.snapshot().losses
    assert len(after) == len(before) + 2
    assert [*before] == was == after[: len(before)].tolist()
    assert after[-1] == [*after][-1] == session.snapshot().moment.record.loss
    session.seek(0)
    assert np.array_equal(session.snapshot().losses, after)
