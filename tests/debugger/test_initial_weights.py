"""Initial weights, as conditions and watches read them in the first batch."""

import pytest

from tests.debugger.deriving import learning


@pytest.mark.parametrize("condition", ["Wz[3, 0] != prev(Wz)[3, 0]", "Wz[3, 0] != prev(Wz[3, 0])"])
def test_the_first_update_is_found_by_what_a_weight_was_before_it(condition):
    session = learning()
    assert session.run_until(condition)
    assert (session.position.number, session.position.line.target) == (0, "Wz")
    session.seek("e2 b1 t1")
    assert session.run_back_until(f"{condition} and batch == 1")
    assert session.position.number == 0


def test_a_watch_shows_the_step_from_the_initial_weight():
    session = learning()
    first = float(session.parameter("Wz")[3, 0])
    session.watch("prev(Wz[3, 0])")
    session.watch("Wz[3, 0] - prev(Wz[3, 0])")
    session.watch("prev(h[0, 0])")
    session.step("op")
    assert [each.value for each in session.snapshot().watched] == [first, 0, None]
    session.step("batch")
    was, step, _ = (each.value for each in session.snapshot().watched)
    assert was == first
    assert step == float(session.parameter("Wz")[3, 0] - session.parameter("Wz")[3, 0].dtype.type(first)) != 0


def test_what_was_set_before_the_first_line_is_what_the_run_begins_with():
    session = learning()
    session.edit("Wz", (3, 0), 0.5)
    session.seek("e1 b1 t2")
    session.edit("Wz", (3, 0), 0.75)
    session.watch("prev(Wz[3, 0])")
    assert session.snapshot().watched[0].value == 0.5


def test_without_learning_no_weight_is_other_than_it_was():
    session = learning(epochs=2)
    session.learning = False
    assert not session.run_until("any(Wz != prev(Wz))")
