"""The cost of a step depends on what can be hit and what is shown; it is counted in function calls, so that no clock matters."""

import gc
import sys

import pytest

from tui_gru import Session
from tui_gru.debugger.stops import Breakpoint, HitCounts


def calls(work):
    """Return the number of function calls, in Python and C, without those of a garbage collection."""
    count = 0

    def see(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    gc.disable()
    sys.setprofile(see)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def learning():
    session = Session()
    session.learning = True
    session.step("batch", 20)
    return session


def more(few, many, work):
    """Return the additional cost of `work` for each additional item; `few` and `many` are (session, number of items)."""
    costs = []
    for session, _ in (few, many):
        work(session)  # objects that are created only once
        costs.append(calls(lambda session=session: work(session)))
    return (costs[1] - costs[0]) / (many[1] - few[1])


# Branches


def forked(count):
    session = learning()
    for i in range(count):
        session.seek("e2 b1 t1")
        session.edit("Wz", (0, 1), i)
        session.step("batch")
    return session, count


def step_and_look(session):
    session.step("op")
    session.snapshot()


def run_and_look(session):
    session.step("batch")
    session.snapshot()


def edit_and_look(session):
    session.edit("Wz", (0, 0), 1)
    session.snapshot()


@pytest.mark.parametrize(("work", "most"), [(step_and_look, 4), (run_and_look, 5), (edit_and_look, 12)])
def test_branches_cost_next_to_nothing(work, most):
    assert more(forked(5), forked(85), work) <= most


def test_branches_are_compared_with_those_that_have_changed_only():
    """The cost of a new branch grows with the number of branches, not with its square."""
    few, many = (forked(count)[0] for count in (20, 80))
    assert calls(lambda: edit_and_look(many)) < 3 * calls(lambda: edit_and_look(few))


# Breakpoints and watches that stop


def stopping(count, make):
    session = learning()
    for i in range(count):
        stop = make(i)
        session.break_at(stop.line, condition=stop.condition, hits=stop.hits)
        session.change_stop(stop.id, enabled=stop.enabled)
    return session, count


def on_line(i):
    return Breakpoint(i + 1, "dWz", f"any(dWz > {i + 9})")


def on_number(i):
    return Breakpoint(i + 1, "loss", f"loss < -{i}")


def on_array(i):
    return Breakpoint(i + 1, "h", f"any(h > {i + 2})")


def fifth_hit(i):
    return Breakpoint(i + 1, "h", "", str(10**6 + i))


def off(i):
    return Breakpoint(i + 1, "h", enabled=False)


MAKERS = [on_line, on_number, on_array, fifth_hit, off]


@pytest.mark.parametrize("make", MAKERS)
def test_what_cannot_be_hit_on_the_way_is_passed_over(make):
    def step(session):
        session.seek("e3 b1")
        session.step("op")

    assert more(stopping(10, make), stopping(110, make), step) <= 8


@pytest.mark.parametrize(("make", "most"), list(zip(MAKERS, (500, 120, 190, 65, 2), strict=True)))
def test_what_can_be_hit_is_tested_once_a_batch(make, most):
    assert more(stopping(10, make), stopping(110, make), lambda session: session.step("batch")) <= most


@pytest.mark.parametrize(("make", "most"), [(on_number, 7), (fifth_hit, 4), (off, 0)])
def test_in_a_long_run_batches_are_counted_together(make, most):
    assert more(stopping(10, make), stopping(60, make), lambda session: session.step("batch", 128)) <= most * 128


def test_hits_that_have_been_counted_are_not_counted_again(monkeypatch):
    """A breakpoint with a hit count does not test all batches before at every step."""
    session, _ = stopping(1, fifth_hit)
    session.step("batch", 300)
    looked, counts = [], HitCounts.counts
    monkeypatch.setattr(HitCounts, "counts", lambda self, first, last: looked.append(last + 1 - first) or counts(self, first, last))
    session.step("batch")
    assert max(looked) < 100


def test_another_stop_costs_what_there_are():
    assert more(stopping(10, on_number), stopping(110, on_number), lambda session: session.break_at("loss")) <= 100


# Watches


def watching(count):
    session = learning()
    for i in range(count):
        session.watch(f"Wz[0, 0] + {i}")
    return session, count


def test_a_watch_that_is_not_looked_at_costs_nothing():
    assert more(watching(10), watching(210), step_and_look) == 0


def test_watches_are_evaluated_as_of_the_snapshot_whenever_they_are_looked_at():
    session, _ = watching(3)
    shown, weight = session.snapshot(), session.parameter("Wz")[0, 0]
    session.step("batch", 3)
    assert [each.value for each in shown.watched] == [weight + i for i in range(3)]
    assert shown.watched[1] is shown.watched[1]
