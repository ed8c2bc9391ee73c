"""Sources of the loss: every loss belongs to the right position in the text, and the parts add up to the total."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from tests.debugger.models import parametrize
from tui_gru import Session, TuiGruError
from tui_gru.analysis import losses as loss_places
from tui_gru.analysis.losses import TextLosses, estimate_without_units, loss_of_rows, of_batch, without_each_unit
from tui_gru.analysis.units import feature_of, read_silenced, values_after_characters

TEXT = "the cat sat on the mat; the rat ran. " * 6


def trained(**options):
    session = Session(**{"text": TEXT, "hidden_size": 4, "batch_size": 3, "seq_length": 7} | options)
    session.learning = True
    session.step("batch", 4)
    return session


@parametrize()
def test_a_batch_adds_up_to_its_loss_and_every_place_has_the_character_that_was_predicted(model):
    session = trained(**{"text": "MathMathMathMathMath", "batch_size": 2, "seq_length": 3} | model)
    shot = session.snapshot()
    found = of_batch(shot.moment, shot.corpus)
    assert found.mean == pytest.approx(session.loss, rel=1e-5)
    assert len(found.values) == session.config.batch_size * session.config.seq_length
    for t, row, place, value in zip(found.t, found.row, found.places, found.values, strict=True):
        char = session.value("target", t=int(t))[row]
        assert found.text[place] == char
        y_hat = session.value("y_hat", t=int(t))[row, session.config.vocabulary.index(char)]
        assert value == pytest.approx(-np.log(y_hat), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("layout", ["tutorial", "contiguous"])
def test_a_batch_by_timestep_and_by_row(layout):
    session = trained(layout=layout)
    shot = session.snapshot()
    found, values = of_batch(shot.moment, shot.corpus), -shot.record.array("term2")
    assert [share.mean for share in found.by_timestep()] == pytest.approx(values.mean(axis=1), rel=1e-5)
    assert [share.mean for share in found.by_row()] == pytest.approx(values.mean(axis=0), rel=1e-5)
    assert sum(share.share for share in found.by_row()) == pytest.approx(1)


def test_only_what_has_been_computed():
    session = trained()
    session.seek("e1 b3 t4")
    shot = session.snapshot()
    assert len(of_batch(shot.moment, shot.corpus).values) == 4 * 3
    assert of_batch(shot.moment, shot.corpus).t.max() == 3
    session.seek("e1 b3")
    shot = session.snapshot()
    found = of_batch(shot.moment, shot.corpus)  # the end of batch 2: whole
    assert found.mean == pytest.approx(session.loss, rel=1e-5)


def test_a_whole_text_by_class():
    session = trained()
    read = values_after_characters(session.config, session.snapshot().moment.weights, TEXT, ["term2"])
    found = loss_places.losses_of_text(read, session.program, TEXT)
    assert found.mean == pytest.approx(-read["term2"][:-1].mean(), rel=1e-6)
    shares = {share.name: share for share in found.by_class()}
    for each in (feature_of("vowels"), feature_of("spaces")):
        share, chosen = shares[each.name], -read["term2"][:-1][each.values(TEXT)[1:]]
        assert share.count == len(chosen)
        assert share.mean == pytest.approx(chosen.mean(), rel=1e-6)
        assert share.share == pytest.approx(chosen.sum() / -read["term2"][:-1].sum(), rel=1e-6)
    with pytest.raises(TuiGruError, match="has no batches"):
        found.by_timestep()


def test_the_squared_error_of_a_text_is_that_of_its_characters():
    session, text = trained(loss="squared-error", dtype="float64"), "the mat sat."
    config = session.config
    wanted = np.eye(config.vocab_size)[[config.vocabulary.index(char) for char in text[1:]]]
    errors = session.units("logits", text=text).values[:-1] - wanted
    np.testing.assert_allclose(session.losses(text=text).values, np.square(errors).mean(axis=1), rtol=1e-12)
    weights = session.snapshot().moment.weights
    estimate = estimate_without_units(session.program, weights, text[:2], "h")
    slope = weights["Wy"] @ errors[0] * 2 / config.vocab_size
    np.testing.assert_allclose(estimate, -slope * session.units(text=text).values[0], rtol=1e-12)


def test_the_hardest_places():
    losses = TextLosses(np.array([1.0, 5, 4, np.nan, 4]), np.array([1, 2, 3, 7, 8]), "abcdefghi")
    assert [place.at for place in losses.hardest()] == [7, 2, 3, 8, 1]
    assert [place.at for place in losses.hardest(3, apart=2)] == [7, 2]
    assert [place.at for place in losses.hardest(1)] == [7]
    many = TextLosses(np.arange(12.0), np.arange(1, 13), "a" * 13)
    assert [place.at for place in many.hardest()] == list(range(12, 2, -1))


def test_a_class_without_characters():
    found = TextLosses(np.array([1.0, 2.0]), np.array([1, 2]), "abc").by_class()
    (found,) = [share for share in found if share.name == "digits"]
    assert (found.count, found.share) == (0, 0)
    assert np.isnan(found.mean)


def test_the_sign_is_that_of_the_equations():
    program = trained().program
    assert loss_of_rows(program, np.array([[-2.0]])).tolist() == [[2.0]]


# The loss without a unit

CELLS = {
    "gru": {},
    "two layers": {"layers": 2},
    "gru, reset after": {"reset": "after"},
    "lstm": {"cell": "lstm"},
    "rnn, embedding": {"cell": "rnn", "embedding": 3},
}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def timestep(weights, suffix, x, before, keep):
    """One timestep of the cell with these weights, written for one row; `keep` multiplies the units of h and z."""

    def w(name):
        return weights[name + suffix]

    h = before["h"]
    if f"Wf{suffix}" in weights:
        i, f, o = (sigmoid(x @ w(f"W{gate}") + h @ w(f"U{gate}") + w(f"b{gate}")) for gate in "ifo")
        c = f * before["c"] + i * np.tanh(x @ w("Wg") + h @ w("Ug") + w("bg"))
        return {"c": c, "h": keep["h"] * o * np.tanh(c)}
    if f"Wz{suffix}" not in weights:
        return {"h": keep["h"] * np.tanh(x @ w("Wh") + h @ w("Uh") + w("bh"))}
    after = f"bhz{suffix}" in weights
    bz, br = (w(f"b{gate}") + (w(f"bh{gate}") if after else 0) for gate in "zr")
    z = keep["z"] * sigmoid(x @ w("Wz") + h @ w("Uz") + bz)
    r = sigmoid(x @ w("Wr") + h @ w("Ur") + br)
    held = r * (h @ w("Uh") + w("bhn")) if after else (r * h) @ w("Uh")
    return {"h": keep["h"] * (z * h + (1 - z) * np.tanh(x @ w("Wh") + w("bh") + held))}


def mean_loss(session, text, keep):
    """The mean loss of a text read from a zero state; `keep` has factors for the units of `h_l0`, `z`, …, by name."""
    weights = {name: np.array(session.parameter(name), float) for name in session.parameter_names}
    config, vocabulary = session.config, session.config.vocabulary
    H, ones = config.hidden_size, np.ones(config.hidden_size)
    suffixes = [f"_l{i}" for i in range(config.layers)] if config.layers > 1 else [""]
    states = [{"h": np.zeros(H), "c": np.zeros(H)} for _ in suffixes]
    losses = []
    for char, following in pairwise(text):
        x = np.eye(len(vocabulary))[vocabulary.index(char)]
        x = x @ weights["E"] if "E" in weights else x
        for i, suffix in enumerate(suffixes):
            factors = {name: keep.get(name + suffix, ones) for name in "hz"}
            states[i] = timestep(weights, suffix, x, states[i], factors)
            x = states[i]["h"]
        y = x @ weights["Wy"] + weights["by"]
        losses.append(np.log(np.exp(y).sum()) - y[vocabulary.index(following)])
    return np.mean(losses)


@pytest.mark.parametrize("options", CELLS.values(), ids=CELLS)
def test_the_loss_without_a_unit_is_that_of_a_run_in_which_it_is_0(options):
    session = trained(**options, dtype="float64")
    weights, text = session.snapshot().moment.weights, TEXT[:90]
    names = [*session.program.model.page.states, *(name for name in ("z",) if name in session.program.names)]
    for name in (each for each in names if not each.startswith("c")):
        told = []
        loss, without = without_each_unit(session.program, weights, text, name, progress=lambda *each, told=told: told.append(each))
        assert loss == pytest.approx(mean_loss(session, text, {}), abs=1e-12)
        for unit, found in enumerate(without):
            assert found == pytest.approx(mean_loss(session, text, {name: 1 - np.eye(4)[unit]}), abs=1e-12), (name, unit)
        assert told[-1][0] == loss
        assert (told[-1][1] == without).all()


@parametrize()
def test_a_unit_that_is_held_is_0_after_every_character_and_nothing_else_is_changed_by_holding_none(model):
    session = trained(**{"text": "MathMathMathMathMath", "batch_size": 2, "seq_length": 3, "hidden_size": 2} | model)
    weights, text, row = session.snapshot().moment.weights, session.config.text[:7], session.program.loss_names.row
    for name in session.program.model.page.states:
        names, units = [name, row], session.config.hidden_size
        held = np.concatenate([np.zeros((1, units), bool), np.eye(units, dtype=bool)])
        found = read_silenced(session.config, weights, text, names, name, held)
        plain = values_after_characters(session.config, weights, text, names)
        for each in names:
            assert np.allclose(found[each][0], plain[each], atol=2e-5, equal_nan=True)
        assert (found[name][held[:, None].repeat(len(text), 1)] == 0).all()


def test_the_estimate_without_a_unit_is_the_derivative():
    session = trained(dtype="float64")
    weights, text, small = session.snapshot().moment.weights, TEXT[:60], 1e-6
    found = estimate_without_units(session.program, weights, text, "h")
    for unit in range(4):
        less, more = (mean_loss(session, text, {"h": 1 + sign * small * np.eye(4)[unit]}) for sign in (-1, 1))
        assert found[unit] == pytest.approx((less - more) / (2 * small), rel=1e-5, abs=1e-9)


def test_an_estimate_over_a_long_text_weights_every_character_alike():
    session = trained(dtype="float64", cell="lstm")
    weights = session.snapshot().moment.weights
    found = estimate_without_units(session.program, weights, TEXT, "h")
    for unit in range(4):
        less, more = (mean_loss(session, TEXT, {"h": 1 + sign * 1e-6 * np.eye(4)[unit]}) for sign in (-1, 1))
        assert found[unit] == pytest.approx((less - more) / 2e-6, abs=3e-4)  # gradients end after 64 timesteps


def test_units_of_a_session_with_the_losses_without_them():
    session = trained()
    found = session.units(without=True)
    loss, without = without_each_unit(session.program, session.snapshot().moment.weights, TEXT, "h")
    assert (found.loss, found.without.tolist()) == (loss, without.tolist())
    assert found.loss == pytest.approx(session.losses(text=TEXT).mean, rel=1e-5)
    assert session.units().without is None


def test_what_cannot_be_held_is_refused():
    session = trained()
    weights = session.snapshot().moment.weights
    for name, why in (("az", "has no units of the network"), ("Wz", "'Wz' is not a value of every character")):
        with pytest.raises(TuiGruError, match=why):
            without_each_unit(session.program, weights, TEXT, name)
    with pytest.raises(TuiGruError, match="no character after the first one to predict"):
        without_each_unit(session.program, weights, "t", "h")
    with pytest.raises(TuiGruError, match="stopped"):
        without_each_unit(session.program, weights, TEXT, "h", stop=lambda: True)


def test_the_loss_of_a_row_has_the_sign_that_its_mean_has():
    """Squared errors are means as they are; the log-probabilities of cross-entropy are negated."""
    for loss, sign in (("squared-error", 1), ("cross-entropy", -1)):
        session = trained(loss=loss, dtype="float64")
        rows = np.stack([session.value(session.program.loss_names.row, t) for t in range(session.config.seq_length)])
        found = loss_of_rows(session.program, rows)
        np.testing.assert_array_equal(found, sign * rows)
        assert found.mean() == pytest.approx(session.loss)
