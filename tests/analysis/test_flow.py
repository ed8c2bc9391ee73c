"""Gradient flow: the norms equal NumPy's norms of the deltas, up to the current point of the backward pass."""

import math

import numpy as np
import pytest

from tests.debugger import models
from tui_gru import Session
from tui_gru.analysis.influence import paths_of
from tui_gru.debugger.program import flow_names

PATHS = ("dh_carry", "dh_candidate", "dh_update", "dh_reset")
SIZES = {"text": "the cat sat on the mat; the rat", "hidden_size": 3, "batch_size": 2, "seq_length": 4, **models.SGD}


def in_backward(name, t, batch=1, **options):
    session = Session(**{**SIZES, **options})
    session.learning = True
    session.seek(batch * session.program.ticks + session.program.tick_of(name, t))
    return session.snapshot()


@models.parametrize(*(name for name in models.MODELS if name not in ("one of each", "nothing to learn")))
@pytest.mark.parametrize("row", [None, 0])
def test_every_norm_is_numpys(model, row):
    """For every state, under the names of its lines: its gradient, what it receives, and the terms that it passes on."""
    session = Session(**model)
    session.learning = True
    session.step("batch", 2)
    snapshot, page = session.snapshot(), session.program.model.page

    def norm(name, t):
        array = snapshot.record.array(name)[t].astype(float)
        return np.sqrt((array[slice(None) if row is None else row] ** 2).sum())

    for state in page.states:
        handed_on, received = f"d{page.before(state)}", page.received(state)
        terms = session.program.lines[handed_on].formula.terms
        paths = [term.label for term in terms] if all(term.label for term in terms) else [handed_on]
        for t, flow in enumerate(snapshot.flow(row, state)):
            assert flow.t == t
            assert flow.dh == pytest.approx(norm(f"d{state}", t), rel=1e-14)
            assert flow.from_future == pytest.approx(norm(received, t), rel=1e-14)
            assert flow.handed_on == pytest.approx(norm(handed_on, t), rel=1e-14)
            own = snapshot.record.array(f"d{state}")[t].astype(float) - snapshot.record.array(received)[t]
            assert flow.from_output == pytest.approx(np.linalg.norm(own[slice(None) if row is None else row]), rel=1e-5, abs=1e-9)
            norms = [norm(name, t) for name in paths]
            assert flow.paths == pytest.approx(norms, rel=1e-14)
            assert flow.shares == pytest.approx(np.array(norms) / np.sum(norms), rel=1e-14)
            assert math.fsum(flow.shares) == pytest.approx(1, abs=1e-15)


def test_the_paths_of_a_gru_are_named_after_the_lines_that_they_lead_through():
    program = in_backward("by", None).program
    names = flow_names(program, "h")
    assert (names.delta, names.local, names.received, names.handed_on) == ("dh", "dh_output", "dh_future", "dh_prev")
    assert set(names.paths) == set(PATHS)
    letters = {"dh_carry": "c", "dh_candidate": "h", "dh_update": "z", "dh_reset": "r"}
    assert paths_of(program, "h") == tuple((letters[name], name.removeprefix("dh_")) for name in names.paths)


def test_a_path_through_a_line_without_a_label_is_named_after_what_the_line_computes():
    cell = "state h : H\nparameters Wf Wg Uf\nf = σ(x Wf + h_prev Uf)\ng_tilde = tanh(x Wg)\nh = f ⊙ h_prev + (1 − f) ⊙ g_tilde\n"
    program = Session(cell="own.cell", cell_text=cell).program
    assert paths_of(program, "h") == (("h", "h"), ("f", "f"))


def test_the_gradient_of_a_direction_that_runs_backwards_flows_forwards():
    session = Session(**models.MODELS["both ways"])
    names = flow_names(session.program, "h_l0_reverse")
    assert (names.received, names.handed_on, names.direction) == ("dh_past_l0_reverse", "dh_next_l0_reverse", 1)
    session.learning = True
    session.step("batch")
    session.seek(session.program.tick_of("dh_l0_reverse", 1))
    first, second, third = session.snapshot().flow(None, "h_l0_reverse")
    assert first.handed_on is not None
    assert second.dh > 0
    assert second.handed_on is None
    assert third is None


def test_a_path_that_cancels_another_keeps_its_share():
    snapshot = in_backward("by", None)
    record, names = snapshot.record, flow_names(snapshot.program, "h").paths
    flow = snapshot.flow()[1]
    total = sum(np.linalg.norm(record.array(name)[1]) for name in PATHS)
    assert total > flow.handed_on  # the paths are not parallel
    share = flow.shares[names.index("dh_carry")]
    assert share == pytest.approx(np.linalg.norm(record.array("dh_carry")[1]) / total, rel=1e-6)


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
    assert in_backward("by", None, batch, carry=carry).flows_into_earlier == goes_on
