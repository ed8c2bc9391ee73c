"""A run stops if a norm or a weight grows a thousandfold within a batch, and names the timestep at which the growth began."""

import re

import numpy as np
import pytest

from tests.screenshots import TOPICS
from tui_gru import Session
from tui_gru.equations.page import names_of

RELU = "state h : H\nparameters Wh Uh bh\nh = relu(x Wh + h_prev Uh + bh)\n"
GROWS = {"cell": "relu.cell", "cell_text": RELU, "optimizer": "sgd", "clip": 0.0, "learning_rate": 1.0}
BEGAN = re.compile(r"it began at t (\d+), from where (.+) grows from (\S+) to (\S+) at t (\d+)$")


def session_with(**options):
    session = Session(**options)
    session.stop_on_nan = session.learning = True
    return session


def began_at(session):
    """Return the timesteps (1-based) that the notice names, the name that grew between them, and its sizes there."""
    first, name, small, large, last = BEGAN.search(session.notice).groups()
    return int(first), int(last), name, float(small.replace(",", "")), float(large.replace(",", ""))


def test_a_state_that_explodes_is_found_with_its_timestep():
    session = session_with(**(TOPICS | GROWS | {"seq_length": 64}))
    session.step("batch", 50)
    assert session.notice.startswith("stopped here: the loss grew from ")
    assert session.position.phase == "loss"
    first, last, name, small, large = began_at(session)
    assert name == "the size of h"
    sizes = [np.sqrt(np.mean(np.square(session.value("h", t=t).astype(float)))) for t in range(64)]
    assert sizes[last - 1] == max(sizes) == pytest.approx(large, rel=1e-2)
    assert sizes[first - 1] == pytest.approx(small, rel=1e-2)
    assert max(sizes) > 1000 * min(sizes[:last])
    assert sizes[first - 1] <= 2 * min(sizes[:last]) < min(sizes[first:last])


def test_a_gradient_that_explodes_in_the_first_batch_is_found_with_its_timestep():
    session = session_with(**TOPICS, optimizer="sgd", clip=0.0, init="tutorial")
    session.step("epoch")
    assert session.notice.startswith("stopped here: the gradient's norm is ")
    assert (session.position.number, session.position.phase) == (0, "update")
    first, last, name, small, large = began_at(session)
    norms = [np.linalg.norm(session.value("dh", t=t)) for t in range(16)]
    assert name == "‖dh‖"
    assert first > last
    assert (norms[first - 1], norms[last - 1]) == (pytest.approx(small, rel=1e-2), pytest.approx(large, rel=1e-2))
    assert max(norms) == norms[last - 1] > 1000 * norms[first - 1]


def test_a_gradient_that_explodes_later_is_compared_with_the_batch_before():
    session = session_with(cell="rnn", seq_length=6)
    session.step("batch", 2)
    assert not session.notice
    session.edit("Wy", (0, 0), 3e5)
    session.step("batch")
    assert session.notice.startswith("stopped here: the ")
    assert session.position.number == 2


@pytest.mark.parametrize(("fold", "stops"), [(900, False), (1100, True)])
@pytest.mark.parametrize("level", ["op", "batch", "epoch"])
@pytest.mark.parametrize("again", [False, True], ids=["computed for the first time", "computed before"])
def test_a_weight_may_grow_nine_hundredfold(fold, stops, level, again):
    probe = session_with()
    largest = max(np.abs(probe.parameter(name)).max() for name in probe.parameter_names)
    probe.step("batch")
    steepest = max(np.abs(probe.gradient(name)).max() for name in probe.parameter_names)
    session = session_with(learning_rate=float(fold * largest / steepest))
    if again:
        session.stop_on_nan = False
        session.step("epoch")
        session.seek(0)
        session.stop_on_nan = True
    while session.position.epoch == 0 and not session.notice and session.position.number == 0:
        session.step(level)
    stopped = session.notice.startswith(f"stopped here: the largest weight grew from {largest:.3g} to ")
    assert stopped == stops
    if stops:
        assert session.position.tick == session.program.ticks
        assert "in this batch; the cause is the update: the gradient's norm is" in session.notice
        session.step("op")
        assert not session.notice


def test_a_weight_that_is_set_does_not_count_as_grown():
    session = session_with()
    session.step("batch", 2)
    session.step("timestep")
    session.edit("bz", (0,), 1e5)
    session.step("epoch", 3)
    assert not session.notice


@pytest.mark.parametrize("cell", names_of("cell"))
@pytest.mark.parametrize(("options", "epochs"), [({}, 60), (TOPICS, 1)], ids=["tutorial", "a text"])
def test_a_healthy_run_goes_on(cell, options, epochs):
    session = session_with(**options, cell=cell)
    session.step("epoch", epochs)
    assert not session.notice
    assert session.position.epoch == epochs - 1


def test_a_search_stops_there_too():
    session = session_with(learning_rate=1e6)
    assert not session.run_until("batch == 3")
    assert (session.position.number, session.position.phase) == (0, "update")
    assert "the largest weight grew" in session.notice


def test_it_is_off_where_stops_are_off():
    session = session_with(learning_rate=1e6)
    session.stop_on_nan = False
    session.step("batch", 2)
    assert not session.notice
    assert session.position.number == 1
