"""Influence on a prediction: by gradient compared with autograd, by occlusion compared with the model without that input."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from tests.analysis.test_loss_places import timestep
from tests.analysis.torch_model import TorchModel
from tests.debugger.models import MODELS, parametrize
from tui_gru import Session, TuiGruError
from tui_gru.analysis.influence import (
    ContextMemory,
    Differentiable,
    Jacobian,
    Reach,
    influence,
    influence_of_rows,
    memory,
    prediction,
    reach,
)
from tui_gru.analysis.units import StoppedError
from tui_gru.engine.model import Model
from tui_gru.equations.syntax import split

#: Rows that depend on each other, which no layer of a network should do.
MIXING_CELL = """\
# every row reads the mean of all
reads x
state h : H
parameters Wh Uh bh

shared = mean h_prev over the rows
carry: h = tanh(x Wh + h_prev Uh + shared + bh)
"""


def stopped_at(batches=3, **options):
    session = Session(**options)
    session.learning = True
    session.step("batch", batches)
    return session


def of(session, t, row, **options):
    return influence(session.state.timeline, session.snapshot().moment, t, row, **options)


def in_torch(session, read, states):
    """Return the model of a session in PyTorch, on inputs (S, 1, I) of its first layer, with its weights at the beginning of the
    batch."""
    model = Model(replace(session.config.structure, input="dense", loss=""))
    x = torch.tensor(read, dtype=torch.float64, requires_grad=True)
    return TorchModel(model, session.snapshot().record.before, x, states)


@pytest.mark.parametrize(("learning", "back"), [(True, 0), (False, 64)])
def test_the_prediction_is_the_one_that_the_run_has(learning, back):
    """Within a batch, and further back as long as the weights were the same."""
    session = Session(text="the cat sat on the mat; the rat ran", hidden_size=5, batch_size=2, seq_length=4, epochs=9)
    session.learning = learning
    session.step("batch", 3)
    for t in range(4):
        for row in range(2):
            found = of(session, t, row, back=back)
            y_hat = session.value("y_hat", t=t)[row]
            assert found.character == int(np.argmax(y_hat))
            assert np.exp(found.value) == pytest.approx(float(y_hat[found.character]), rel=1e-5)
            assert found.text[found.at] == session.value("char", t=t)[row]
            assert of(session, t, row, back=back, character=3).value == pytest.approx(np.log(y_hat[3]), rel=1e-5)


def test_as_many_inputs_as_are_asked_for_and_no_more_than_the_state_has_seen():
    text = "the cat sat on the mat; the rat ran. " * 4
    session = stopped_at(6, text=text, hidden_size=3, batch_size=2, seq_length=4)
    assert session.position.batch == 5
    corpus = session.snapshot().corpus
    lengths = {back: len(of(session, 2, 1, back=back, occlusion=False).text) for back in (0, 2, 3, 7, 11, 10**6)}
    assert lengths == {0: 4, 2: 4, 3: 8, 7: 12, 11: 16, 10**6: 24}
    found = of(session, 2, 1, back=9)
    at = corpus.position_in_text(5, 3, 1)
    assert found.text == text[at - len(found.text) + 1 : at + 1]
    assert found.batch.tolist() == [3] * 4 + [4] * 4 + [5] * 4
    assert found.t.tolist() == [0, 1, 2, 3] * 3
    assert found.at == 10
    for options in ({"carry": "reset"}, {"bidirectional": True}):
        other = stopped_at(6, text=text, hidden_size=3, batch_size=2, seq_length=4, **options)
        assert len(of(other, 2, 1, back=99, occlusion=False).text) == 4


@parametrize("gru notebook", "two layers", "both ways", "layer norm")
def test_no_row_has_to_do_with_another(model):
    session = stopped_at(**model)
    for row in range(session.config.batch_size):
        found = influence_of_rows(session.snapshot().moment, session.config.seq_length - 1, row)
        assert found.others == 0
        assert found.gradient.shape == found.occlusion.shape == (session.config.batch_size,)
        one = of(session, session.config.seq_length - 1, row, back=0)
        assert found.gradient[row] == pytest.approx(np.sqrt(np.square(one.gradient).sum()), abs=1e-12)


def test_rows_that_know_of_each_other_are_found_out():
    session = stopped_at(cell="mixing.cell", cell_text=MIXING_CELL, batch_size=3, seq_length=4)
    found = influence_of_rows(session.snapshot().moment, 3, 1)
    assert (found.gradient > 1e-3).all()
    assert (np.abs(found.occlusion) > 1e-4).all()
    each = np.delete(found.gradient, 1).max(), np.delete(np.abs(found.occlusion), 1).max()
    assert found.others == max(*each, abs(found.together))
    together = session.influence_of_rows(1, 3)
    assert (together.together, together.gradient.tolist()) == (found.together, found.gradient.tolist())
    assert np.isnan(together.occlusion).all()


@pytest.mark.parametrize(
    ("values", "at", "way", "expected"),
    [
        ([0, 0, 0, 0, 0, 0.05, 0.5, 1.0, 0], 7, -1, Reach(1, True, 0.5)),
        ([0, 0.2, 0, 0, 0, 0, 0.5, 1.0], 7, -1, Reach(6, True, 0.2)),
        ([0.5, 0, 0, 0, 0.5, 1.0], 5, -1, Reach(5, False, 0.5)),
        ([1.0, 1.0, 1.0], 2, -1, Reach(2, False)),
        ([0, 1.0, 0.4, 0.05, 0.01], 1, 1, Reach(1, True, 0.4)),
        ([1.0], 0, -1, Reach(0, False)),
        ([0.0, 0.0], 1, -1, Reach(0, True, 0.0)),
        ([0.05, 1.0], 1, -1, Reach(0, True)),
        ([0.05, 0.5, 1.0], 2, -1, Reach(1, True, 0.5)),
        ([0.2, 0, 0, 0, 0, 0.5, 1.0], 6, -1, Reach(6, False, 0.2)),
        ([0, 0, 2.0, 0.1, 0.1], 4, -1, Reach(2, True)),
    ],
)
def test_how_far_back_it_reaches(values, at, way, expected):
    assert reach(np.array(values, float), at, way) == expected


def test_reach_by_gradient_occlusion_layer_and_direction():
    session = stopped_at(**MODELS["rnn both ways"])
    found = of(session, 1, 0)
    assert found.reach() == reach(found.gradient, found.at)
    assert found.reach("occlusion") == reach(np.abs(found.occlusion), found.at)
    assert set(found.states) == {"h_l0", "h_l0_reverse", "h_l1", "h_l1_reverse"}
    assert found.backwards == {"h_l0_reverse", "h_l1_reverse"}
    assert found.reach("h_l0_reverse") == reach(found.states["h_l0_reverse"], found.at, direction=1)
    with pytest.raises(TuiGruError, match="'c' is neither gradient, nor occlusion, nor a state; the states are h_l0, h_l0_reverse"):
        found.reach("c")


def test_the_run_is_not_touched():
    session = stopped_at()
    values = {name: session.value(name).copy() for name in ("h", "dh", "Wz", "dWz")}
    of(session, 2, 1)
    influence_of_rows(session.snapshot().moment, 2, 1)
    for name, value in values.items():
        assert (session.value(name) == value).all()


@pytest.mark.parametrize(
    ("t", "row", "options", "message"),
    [
        (3, 0, {}, "timestep t must be from 0 to 2"),
        (0, 2, {}, "row must be from 0 to 1"),
        (0, 0, {"character": 4}, "character must be from 0 to 3"),
        (0, 0, {"back": -1}, "how far back must be 0 or more"),
    ],
)
def test_what_is_refused(t, row, options, message):
    with pytest.raises(TuiGruError, match=message):
        of(stopped_at(), t, row, **options)


def test_it_can_be_stopped():
    session = stopped_at()
    with pytest.raises(StoppedError):
        of(session, 2, 1, stop=lambda: True)
    with pytest.raises(StoppedError):
        influence_of_rows(session.snapshot().moment, 2, 1, stop=lambda: True)


def test_the_influence_on_a_row_that_reads_the_others_is_that_in_the_batch():
    session = stopped_at(cell="mixing.cell", cell_text=MIXING_CELL, batch_size=3, seq_length=4, dtype="float64")
    record, moment = session.snapshot().record, session.snapshot().moment
    whole, found = influence_of_rows(moment, 3, 1), of(session, 3, 1, back=0)
    assert found.value == pytest.approx(np.log(record.array("y_hat")[3, 1].max()), rel=1e-12)
    assert np.sqrt(np.square(found.gradient).sum()) == pytest.approx(whole.gradient[1], rel=1e-12)
    reader = Differentiable(session.program, record.before, 4, 3, session.config.vocab_size)
    states = {"h": record.border("h", end=False)}
    for t in range(4):
        x = record.array("x").copy()
        x[t, 1] = 0
        without = prediction(session.program, reader.forward(x, states)[3, 1], found.character)[0]
        assert found.occlusion[t] == pytest.approx(found.value - without, rel=1e-9, abs=1e-12)


# How far back a model remembers

TEXT = "the cat sat on the mat; the rat ran. " * 4


def log_chances(session, x):
    """The log-probabilities of the next character after inputs x (k, V), read from a zero state: (V)."""
    weights = {name: np.array(session.parameter(name), float) for name in session.parameter_names}
    ones = {"h": np.ones(session.config.hidden_size), "z": np.ones(session.config.hidden_size)}
    state = {"h": np.zeros(session.config.hidden_size), "c": np.zeros(session.config.hidden_size)}
    for each in x:
        state = timestep(weights, "", each, state, ones)
    y = state["h"] @ weights["Wy"] + weights["by"]
    return y - np.log(np.exp(y).sum())


def test_the_loss_by_context_is_that_of_runs_from_a_zero_state():
    session = stopped_at(20, text=TEXT, hidden_size=4, batch_size=2, seq_length=6, cell="lstm", dtype="float64")
    found = session.memory()
    one_hot = np.eye(session.config.vocab_size)[[session.config.vocabulary.index(char) for char in TEXT]]
    assert found.contexts == (1, 2, 4, 8, 16, 32)
    last = range(31, len(TEXT) - 1)  # the same predictions with each context
    whole = np.array([-log_chances(session, one_hot[: i + 1]) @ one_hot[i + 1] for i in last])
    assert found.whole == pytest.approx(whole.mean(), abs=1e-9)
    for context, loss, error in zip(found.contexts, found.losses, found.errors, strict=True):
        alone = np.array([-log_chances(session, one_hot[i + 1 - context : i + 1]) @ one_hot[i + 1] for i in last])
        assert loss == pytest.approx(alone.mean(), abs=1e-12)
        assert error == pytest.approx((alone - whole).std() / np.sqrt(len(last)), abs=1e-9)
    counted = Counter(pairwise(TEXT))
    before = Counter(TEXT[:-1])
    assert found.bigram == pytest.approx(-sum(n * np.log(n / before[a]) for (a, _), n in counted.items()) / (len(TEXT) - 1))


def test_a_model_that_copies_the_seventh_character_before_remembers_seven():
    """Its units hold the last seven characters, and the head reads the oldest."""
    text = "abcdefg" * 30
    session = Session(text=text, cell="rnn", hidden_size=49, batch_size=2, seq_length=7, dtype="float64")
    weights = session.snapshot().moment.weights.copy()
    weights.flat[...] = 0
    for v in range(7):
        weights["Wh"][v, v], weights["Wy"][42 + v, v] = 0.1, 500
    weights["Uh"][np.arange(42), np.arange(42) + 7] = 1
    found = memory(session.program, weights, text)
    assert found.losses[:3] == pytest.approx([np.log(7)] * 3)
    assert found.losses[3:] == pytest.approx([0] * 3, abs=1e-6)
    assert (found.characters, found.ends) == (8, True)
    assert (found.reach("gradient").steps, found.reach("occlusion").steps) == (6, 6)
    assert found.agree


@pytest.mark.parametrize(
    ("gradient", "occlusion", "losses", "expected"),
    [
        (22, 6, [2.0, 2.0, 1.5, 0.5, 0.5, 0.5], (8, True, "occlusion", False)),
        (6, 22, [2.0, 2.0, 1.5, 0.5, 0.5, 0.5], (8, True, "gradient", False)),
        (7, 5, [2.0, 2.0, 1.5, 0.5, 0.5, 0.5], (8, True, "gradient", True)),
        (22, 3, [2.0, 2.0, 1.5, 1.0, 0.9, 0.8], (32, False, "gradient", False)),
        (3, 3, [0.5, 0.5, 0.5, 0.5, 0.5, 0.5], (1, True, "occlusion", True)),
        (3, 3, [0.505, 0.55, 0.501, 0.5, 0.5, 0.5], (4, True, "occlusion", True)),
    ],
)
def test_the_measure_that_agrees_with_the_loss_is_believed(gradient, occlusion, losses, expected):
    by_distance = [np.where(np.arange(32) <= steps, 1.0, 0.01) for steps in (gradient, occlusion)]
    found = ContextMemory((1, 2, 4, 8, 16, 32), np.array(losses), np.zeros(6), 0.5, 1.0, *by_distance)
    assert (found.characters, found.ends, found.believed, found.agree) == expected


@pytest.mark.parametrize("options", [{"bidirectional": True}, {"cell": "mixing.cell", "cell_text": MIXING_CELL}])
def test_a_model_without_a_memory_of_characters_is_refused(options):
    with pytest.raises(TuiGruError, match="only a model that reads each row forwards"):
        Session(**options).memory()


def autograds(session, found, row, t):
    """Return the derivative of `found.states` of a row after timestep `t` by those before it, by PyTorch's autograd."""
    record, page, config = session.snapshot().record, session.program.model.page, session.config
    table = record.before["E"] if config.embedding else np.eye(config.vocab_size)
    read = np.asarray(table[record.ids(session.program.input)[t, row]], np.float64)[None, None]
    begin = {state: record.array(page.before(state))[t, row : row + 1] for state in page.states}
    model = in_torch(session, read, begin)
    for state in found.states:
        model.states[state].requires_grad_()
    before = [model.states[state] for state in found.states]
    after = torch.cat([model.value(state, 0)[0] for state in found.states])
    rows = [torch.autograd.grad(entry, before, retain_graph=True, allow_unused=True, materialize_grads=True) for entry in after]
    return np.array([np.concatenate([part[0].numpy() for part in parts]) for parts in rows])


@parametrize()
def test_the_derivative_of_the_state_is_autograds(model):
    session = stopped_at(**model)
    page, T, B = session.program.model.page, session.config.seq_length, session.config.batch_size
    of_layers = {split(state)[1]: state for state in page.states}
    for suffix, state in of_layers.items():
        for t, row in {(0, B - 1), (T - 1, 0)}:
            found = session.jacobian(state, row=row, t=t)
            assert found.states == tuple(each for each in page.states if split(each)[1] == suffix)
            assert found.matrix == pytest.approx(autograds(session, found, row, t), abs=1e-12)


def test_the_derivative_of_a_state_with_a_unit_held_at_0_is_that_without_the_unit():
    session = stopped_at(30, hidden_size=4, cell="lstm")
    whole = session.jacobian(t=2).matrix
    session.silence("h", 1)
    found = session.jacobian(t=2)
    expected = autograds(session, found, 0, 2)  # of the same states, in which the unit is 0, as if it went on from there
    expected[1] = 0
    assert found.matrix == pytest.approx(expected, abs=1e-12)
    assert np.abs(found.matrix - whole).max() > 1e-3


ROTATION = np.array([[0.6, 0.8], [-0.8, 0.6]])


@pytest.mark.parametrize(
    ("matrix", "timesteps", "words"),
    [
        (np.diag([0.5, 0.93]), [13.78, 1.4427], "the slowest direction keeps 36 % after 14 timesteps"),
        (0.5 * ROTATION, [1.4427] * 2, "the slowest direction keeps 50 % after one timestep"),
        (np.diag([0.1, 0.2]), [0.621, 0.434], "the slowest direction keeps 20 % after one timestep; 2 of 2 fade within a timestep"),
        (np.zeros((2, 2)), [0, 0], "nothing of the state before is left after a timestep"),
        (np.array([[0.0, 5.0], [0.0, 0.0]]), [0, 0], "nothing of the state before is left after a timestep"),
        (
            np.diag([1.0, 0.0]),
            [np.inf, 0],
            "the slowest direction keeps all: it does not fade; 1 of 2 fades within a timestep",
        ),
        (ROTATION, [np.inf] * 2, "the slowest direction keeps all: it does not fade; 2 of 2 do not fade"),
        (
            np.diag([-1.25, 0.9]),
            [np.inf, 9.491],
            "the slowest direction does not fade: it grows to 125 % in a timestep",
        ),
    ],
)
def test_eigenvalues_are_time_scales(matrix, timesteps, words):
    found = Jacobian(("h",), matrix)
    assert found.timesteps == pytest.approx(timesteps, rel=1e-3)
    assert np.abs(found.eigenvalues) == pytest.approx(sorted(np.abs(np.linalg.eigvals(matrix)), reverse=True))
    assert found.words == words


def test_a_state_whose_derivative_is_not_of_one_row_of_one_timestep_is_refused():
    with pytest.raises(TuiGruError, match="depends on other rows or timesteps"):
        stopped_at(cell="mixing.cell", cell_text=MIXING_CELL).jacobian()
    session = stopped_at(1)
    with pytest.raises(TuiGruError, match="no layer with a state computes nothing; those of h have one"):
        session.jacobian("nothing")
    session.step("timestep")
    with pytest.raises(TuiGruError, match="timestep 3 of this batch has not been computed yet"):
        session.jacobian(t=2)
    session = Session(learning_rate=3e38)
    session.learning = True
    session.step("epoch", 4)
    with pytest.raises(TuiGruError, match="the derivative of the state is not finite"):
        session.jacobian()


def test_weights_that_are_not_finite_remember_nothing():
    session = Session(learning_rate=3e38)
    session.learning = True
    session.step("epoch", 4)
    with pytest.raises(TuiGruError, match="the weights are not finite"):
        session.memory()
