"""A run stops once, at the first number that becomes infinite or NaN."""

import numpy as np
import pytest

from tui_gru import Session


def heading_for_trouble(**edits):
    session = Session(learning_rate=3e38)
    session.stop_on_nan = session.learning = True
    for name, value in edits.items():
        session.edit(name, (0, 0), value)
    return session


@pytest.mark.parametrize("level", ["op", "timestep", "phase", "batch", "epoch"])
@pytest.mark.parametrize("again", [False, True], ids=["computed for the first time", "computed before"])
@pytest.mark.parametrize(("edits", "phase"), [({}, "loss"), ({"Wy": 1e3}, "update")], ids=["the loss", "a weight"])
def test_a_run_stops_where_a_number_ceases_to_be_finite(level, again, edits, phase):
    session = heading_for_trouble(**edits)
    if again:
        session.stop_on_nan = False
        session.step("epoch", 2)
        session.seek(0)
        session.stop_on_nan = True
    for _ in range(400):
        session.step(level)
        if "not finite" in session.notice:  # before that, it stops where a weight grows
            break
    stopped = session.position
    finite = all(np.isfinite(session.parameter(name)).all() for name in session.program.parameters)
    assert session.notice == "stopped here: the loss or a weight is not finite (NaN or infinite)"
    assert not session.snapshot().finite
    assert stopped.phase == phase
    assert finite == (phase == "loss")
    if phase == "update":
        assert (stopped.number, stopped.offset) == (0, session.program.ticks)
    session.step("batch", 3)
    assert not session.notice
    assert session.position.number > stopped.number


def test_a_search_stops_there_too():
    session = heading_for_trouble(Wy=1e3)
    assert not session.run_until("batch == 3")
    assert (session.position.number, session.position.phase) == (0, "update")
    assert session.notice


def test_the_way_back_is_free():
    session = heading_for_trouble(Wy=1e3)
    session.step("epoch")
    session.step("epoch")
    session.seek(1)
    assert session.position.tick == 1
    assert not session.notice
