"""How the gradient flows back: the norms that NumPy takes of the deltas, as far as the backward pass has come."""

import math

import numpy as np
import pytest

from tui_gru import Session
from tui_gru.debugger.flow import PATHS

WAYS = [(reset, carry) for reset in ("before", "after") for carry in ("detach", "reset", "notebook")]


def in_backward(name, t, batch=1, **options):
    session = Session(text="the cat sat on the mat; the rat", hidden_size=3, batch_size=2, seq_length=4, **options)
    session.learning = True
    session.seek(batch * session.program.ticks + session.program.tick_of(name, t))
    return session.snapshot()


@pytest.mark.parametrize(("reset", "carry"), WAYS)
@pytest.mark.parametrize("row", [None, 0, 1])
def test_every_norm_is_numpys(reset, carry, row):
    snapshot = in_backward("by", None, reset=reset, carry=carry)
    deltas = snapshot.record.deltas
    for t, flow in enumerate(snapshot.flow(row)):
        chosen = {
            n: getattr(deltas, n)[t][slice(None) if row is None else row] for n in ("dh", "dh_output", "dh_future", "dh_prev")
        }
        norms = {n: np.sqrt((a.astype(float) ** 2).sum()) for n, a in chosen.items()}
        found = {"dh": flow.dh, "dh_output": flow.from_output, "dh_future": flow.from_future, "dh_prev": flow.handed_on}
        assert found == pytest.approx(norms, rel=1e-14)
        paths = [np.linalg.norm(getattr(deltas, n)[t][slice(None) if row is None else row].astype(float)) for n in PATHS]
        assert flow.paths == pytest.approx(paths, rel=1e-14)
        assert flow.shares == pytest.approx(np.array(paths) / np.sum(paths), rel=1e-14)
        assert math.fsum(flow.shares) == pytest.approx(1, abs=1e-15)
        assert flow.t == t


def test_a_path_that_cancels_another_keeps_its_share():
    snapshot = in_backward("by", None)
    deltas = snapshot.record.copy().deltas
    flow = snapshot.flow()[1]
    total = sum(np.linalg.norm(getattr(deltas, n)[1]) for n in PATHS)
    assert total > flow.handed_on  # the paths are not parallel
    assert flow.shares[0] == pytest.approx(np.linalg.norm(deltas.dh_carry[1]) / total, rel=1e-6)


def test_only_what_the_backward_pass_has_reached():
    assert in_backward("loss", None).flow() == (None,) * 4
    first, second, third, last = in_backward("dz", 2).flow()
    assert first is second is None
    assert third.dh > 0
    assert third.handed_on is third.paths is third.shares is None
    assert last.handed_on > 0
    assert len(last.paths) == 4
    assert in_backward("dlogits", 2).flow()[2] is None
    assert in_backward("dh_prev", 2).flow()[2].shares is not None


def test_a_batch_that_does_not_learn_has_none():
    session = Session()
    session.step("batch")
    assert session.snapshot().flow() == (None,) * 3


def test_a_gradient_of_zero_or_not_finite_has_no_shares():
    session = Session(learning_rate=1e38)
    session.learning = True
    session.step("batch", 4)
    assert all(flow.shares is None for flow in session.snapshot().flow())
    session = Session(text="aaaaaaa", batch_size=1, seq_length=3, hidden_size=2)
    session.learning = True
    session.step("batch")
    assert [(flow.dh, flow.shares) for flow in session.snapshot().flow()] == [(0, None)] * 3


def test_it_is_computed_once_a_snapshot():
    snapshot = in_backward("by", None)
    assert snapshot.flow() is snapshot.flow()
    assert snapshot.flow(0) is snapshot.flow(0) is not snapshot.flow(1)


@pytest.mark.parametrize(
    ("carry", "batch", "goes_on"), [("detach", 1, False), ("reset", 1, False), ("notebook", 0, False), ("notebook", 1, True)]
)
def test_where_it_goes_on_from_the_first_timestep(carry, batch, goes_on):
    assert in_backward("by", None, batch, carry=carry).goes_on == goes_on
