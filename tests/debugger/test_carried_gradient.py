"""Carry `notebook`: the contributions of earlier batches to a gradient, followed down to the numbers of each timestep."""

import random

import numpy as np
import pytest

from tests.debugger import models
from tests.debugger.deriving import assert_adds_up, learning, walk
from tests.debugger.models import TEXT
from tests.debugger.plain import Plain
from tests.extent import examples
from tests.session.acting import timeline_of

MODELS = {
    "gru": {"carry": "notebook"},
    "gru, own text": {"carry": "notebook", "text": TEXT, "hidden_size": 3, "seq_length": 2, "seed": 3},
    "gru after": {"carry": "notebook", "text": TEXT, "hidden_size": 3, "seq_length": 3, "reset": "after", "seed": 5, **models.SGD},
    "lstm": {"carry": "notebook", "text": TEXT, "cell": "lstm", "hidden_size": 2, "seq_length": 3, "dtype": "float64", "seed": 7},
    "two layers": {"carry": "notebook", "text": TEXT, "layers": 2, "embedding": 3, "seq_length": 2, "dtype": "float64"},
}
every_model = pytest.mark.parametrize("options", MODELS.values(), ids=tuple(MODELS))


def earlier(session, name, index):
    """Return the term of a gradient for the earlier batches; None if there is none."""
    return next((term for term in session.explain(name, index).terms if term.label == "earlier batches"), None)


@every_model
def test_every_earlier_batch_is_a_term_that_adds_up_down_to_its_deltas(options):
    session = learning(**options)
    in_epoch = session.program.num_batches
    session.step("batch", 2 * in_epoch)  # the last batch of the second epoch
    chance = random.Random(3)
    for parameter in session.program.parameters:
        name, every = f"d{parameter}", list(np.ndindex(*session.gradient(parameter).shape))
        for index in chance.sample(every, min(examples(1, soak=20), len(every))):
            node = earlier(session, name, index)
            if parameter in ("Wy", "by"):
                assert node is None
                continue
            expected = [f"epoch 2 · batch {b}" for b in range(in_epoch - 1, 0, -1)]
            assert [term.label for term in node.terms] == expected
            assert [share.label for share in node.terms[0].terms] == [f"t {t}" for t in range(session.config.seq_length, 0, -1)]
            assert assert_adds_up(session.explain(name, index), 1, session.config.dtype)
            assert assert_adds_up(node, 5, session.config.dtype)


@every_model
def test_the_earlier_batches_add_what_their_own_timesteps_do_not(options):
    session = learning(**options)
    session.step("batch", session.program.num_batches)
    record = session.snapshot().record
    own = Plain(session.config, record).gradients()
    eps = np.finfo(session.config.dtype).eps
    for name in session.program.parameters[:-2]:
        index = (1,) * record.gradients[name].ndim
        node = earlier(session, f"d{name}", index)
        assert node.value == pytest.approx(float(record.gradients[name][index]) - float(own[f"d{name}"][index]), abs=64 * eps)
    assert any(earlier(session, f"d{name}", (1,) * record.gradients[name].ndim).value for name in session.program.parameters[:-2])


def find(node, label):
    return next(term for term in node.terms if term.label.startswith(label))


def test_the_gradient_is_followed_back_into_the_batch_that_it_came_from():
    session = learning(carry="notebook")
    session.step("batch", 3)
    end = session.position
    last = find(find(earlier(session, "dUz", (0, 1)), "epoch 1 · batch 1"), "t 3")
    product = last.terms[0]
    state, delta = product.terms
    assert (state.number.name, state.number.t, timeline_of(session).position(state.number.tick).number) == ("h_prev", 2, 0)
    assert state.value == timeline_of(session).record(0).array("h_prev")[2][state.number.index]
    assert delta.number is None  # a delta that no stored batch has
    dh = find(find(delta, "dz["), "dh[")
    assert find(dh, "dh_output").derivation.note == "the loss of an earlier batch is not counted again"
    handed = find(find(dh, "dh←"), "dhₜ₋₁")
    assert find(dh, "dh←").derivation.note == "what t 1 of the batch after it hands back"
    weights = [node for node in walk(handed, 3) if node.number is not None and node.number.name[0] == "U"]
    assert weights
    for node in weights:
        assert timeline_of(session).position(node.number.tick).number == end.number  # the current weights
    while handed.number is None:  # through batch 2 of the epoch, into the current batch
        dh = find(handed.terms[0], "dh[")
        handed = find(dh, "dh←").terms[0]
    assert (handed.number.name, handed.number.t) == ("dh_prev", 0)
    assert timeline_of(session).position(handed.number.tick).number == end.number
    assert handed.value == timeline_of(session).record(end.number).array("dh_prev")[0][handed.number.index]


def test_weights_changed_in_the_middle_of_the_batch_are_those_that_it_runs_on_with():
    session = learning(carry="notebook")
    session.seek("e1 b3 t2")
    session.edit("Uz", (0, 0), 1.5)
    session.step("phase", 2)
    session.edit("Uh", (1, 0), -2.0)  # the update has begun; the gradient was computed with the earlier weights
    session.step("batch")
    for name in ("dUz", "dUh", "dWr"):
        for index in ((0, 0), (1, 1)):
            assert_adds_up(earlier(session, name, index), 5, session.config.dtype)


def test_a_term_that_is_0_in_an_earlier_batch_is_0():
    cell = "state h : H\nparameters W U\nv = h_prev U + x W\nh = tanh(v)\nov = σ(h) ⊙ v\n"
    session = learning(carry="notebook", text=TEXT, cell="own.cell", cell_text=cell, seq_length=3)
    session.step("batch", 3)
    terms = [node for node in walk(earlier(session, "dU", (0, 0)), 5) if node.label.startswith("dv_ov")]
    assert len(terms) > 5
    for node in terms:
        assert node.derivation.note == "the loss of an earlier batch is not counted again"
        assert node.value == 0
