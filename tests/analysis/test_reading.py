"""A text read with the weights of a moment: the values equal those of a session that reads the text as one row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.debugger.models import MODELS, parametrize
from tui_gru import Session, TuiGruError
from tui_gru.analysis import units as reading
from tui_gru.analysis.units import StoppedError, values_after_characters
from tui_gru.engine.data import Corpus
from tui_gru.engine.training import Trainer

WORDS = "the cat sat on the mat and saw a rat; then the cat ran "
LONG = "".join(np.random.default_rng(4).permuted(list(WORDS * 80)))


def trained(text=LONG, epochs=1, **options):
    options = {"hidden_size": 5, "batch_size": 8, "seq_length": 11} | options
    session = Session(text=text, **options)
    session.learning = True
    session.step("epoch", epochs)
    return session, session.snapshot().moment.weights


def as_one_row(session, weights, names, length):
    """Return the values of a run on the same text, with one row and without learning."""
    carry = "reset" if session.config.bidirectional else "detach"
    one = replace(session.config, batch_size=1, seq_length=length, carry=carry)
    trainer = Trainer(one, Corpus(one))
    found, states = {name: [] for name in names}, trainer.initial_state()
    for batch in range(one.num_batches):
        record = trainer.new_record()
        trainer.run(record, batch, weights, trainer.carried(batch, states), learn=False, settings={})
        states = record.states(end=True)
        for name in names:
            found[name] += list(record.array(name)[:, 0].copy())
    return {name: np.array(values) for name, values in found.items()}


def read_in_one_piece(*arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PIECES", 1)
        return values_after_characters(*arguments)


def same(ours, theirs, dtype="float32"):
    for name, values in theirs.items():
        assert np.allclose(ours[name][: len(values)], values, atol=2e-5 if dtype == "float32" else 1e-12), name


@parametrize()
def test_every_model_is_read_as_it_reads_a_row_itself(model):
    session = Session(**MODELS["gru"] | model)
    session.learning = True
    session.step("batch", 2)
    weights, T = session.snapshot().moment.weights, session.config.seq_length
    names = [name for name, axes in session.config.model.axes.items() if axes[:2] == ("T", "B") and name != "y"]
    same(
        values_after_characters(session.config, weights, session.config.text, names),
        as_one_row(session, weights, names, T),
        session.config.dtype,
    )


@pytest.mark.parametrize("options", [{}, {"cell": "lstm", "layers": 2, "dtype": "float64"}, {"cell": "rnn", "embedding": 3}])
def test_pieces_side_by_side_are_the_one_row(options):
    session, weights = trained(**options)
    names = [*session.program.model.page.states, "term2"]
    by_row = read_in_one_piece(session.config, weights, LONG, names)
    same(
        values_after_characters(session.config, weights, LONG, names), {n: v[:-1] for n, v in by_row.items()}, session.config.dtype
    )
    same(by_row, as_one_row(session, weights, names, 97), session.config.dtype)


def slow(weights, chars=slice(None)):
    """Return weights of a network that keeps nearly all of its state when it reads these characters, and forgets it otherwise."""
    weights = weights.copy()
    for name in ("Wz", "Uz"):
        weights[name][...] = 0
    weights["Wz"][chars] = 5  # z is .993: of h, half is left after a hundred characters
    return weights


def test_a_network_that_does_not_forget_is_read_as_one_row():
    session, weights = trained()
    done = []
    found = values_after_characters(session.config, slow(weights), LONG, ["h"], progress=lambda *at: done.append(at))
    same(found, read_in_one_piece(session.config, slow(weights), LONG, ["h"]))
    assert done[-1] == (len(LONG), len(LONG))


def test_a_network_that_ceases_to_forget_is_read_as_one_row_after_all():
    text = LONG[:600] + "z" * (len(LONG) - 600)
    session, weights = trained(text)
    weights = slow(weights, session.config.vocabulary.index("z"))
    done = []
    found = values_after_characters(session.config, weights, text, ["h"], progress=lambda *at: done.append(at))
    same(found, read_in_one_piece(session.config, weights, text, ["h"]))
    assert done[-1] == (2 * len(text), 2 * len(text))


def test_the_loss_is_of_the_character_after_it_and_nothing_comes_after_the_last():
    session, weights = trained()
    found = values_after_characters(session.config, weights, LONG, ["term2", "y_hat", "term1"])
    ids = np.array([session.config.vocabulary.index(char) for char in LONG])
    expected = np.log(found["y_hat"][np.arange(len(ids) - 1), ids[1:]])
    assert np.allclose(found["term2"][:-1], expected, atol=1e-5)
    assert np.isnan(found["term2"][-1])
    assert np.isnan(found["term1"][-1]).all()
    assert np.isfinite(found["y_hat"]).all()


def test_windows_of_a_model_that_reads_both_ways_leave_nothing_out():
    session, weights = trained(text=WORDS * 9, bidirectional=True, batch_size=2)
    names = list(session.program.model.page.states)
    found = values_after_characters(session.config, weights, WORDS[:25], names)
    assert {values.shape for values in found.values()} == {(25, 5)}
    alone = values_after_characters(session.config, weights, WORDS[22:25], names)
    same({name: values[22:] for name, values in found.items()}, alone)


def test_progress_ends_at_the_end_and_a_stop_is_heeded():
    session, weights = trained()
    done = []
    values_after_characters(session.config, weights, LONG, ["h"], progress=lambda *at: done.append(at))
    assert done == sorted(done)
    assert done[-1] == (len(LONG), len(LONG))
    with pytest.raises(StoppedError, match=r"stopped after [\d,]+ of 4,400 characters"):
        values_after_characters(session.config, weights, LONG, ["h"], stop=lambda: True)


def test_the_run_is_not_touched():
    session, weights = trained()
    before, flat = session.snapshot(), weights.flat.copy()
    values = {name: before.record.array(name).copy() for name in ("h", "z", "dh")}
    values_after_characters(session.config, weights, LONG, ["h", "z"])
    assert (weights.flat == flat).all()
    for name, value in values.items():
        assert (before.record.array(name) == value).all()


def test_weights_that_are_not_numbers():
    session, weights = trained()
    weights = weights.copy()
    weights.flat[...] = np.nan
    found = values_after_characters(session.config, weights, LONG, ["h", "term2"])
    assert np.isnan(found["h"]).all()


@pytest.mark.parametrize(
    ("text", "names", "message"),
    [
        ("", ["h"], "the text is empty"),
        ("the Cat", ["h"], "character 'C' at position 5 of the text is not in the vocabulary"),
        ("the cat", ["h_tilda"], "'h_tilda' is not a value of every character; did you mean h_tilde"),
        ("the cat", ["Wz"], "'Wz' is not a value"),
    ],
)
def test_what_cannot_be_read_is_refused(text, names, message):
    session, weights = trained()
    with pytest.raises(TuiGruError, match=message):
        values_after_characters(session.config, weights, text, names)


def test_more_than_the_memory_holds_is_refused(monkeypatch):
    session, weights = trained()
    monkeypatch.setattr(reading, "machine_memory", lambda: 2**16)
    with pytest.raises(TuiGruError, match=r"h, z after each of 4,400 characters would take 0\.0 GiB; give a part of the text"):
        values_after_characters(session.config, weights, LONG, ["h", "z"])


#: A mean over the rows, and one over the timesteps: a text read in parallel, or in longer pieces, would give other values.
OF_OTHERS = {
    "rows": "h = tanh(x W + h_prev U + mean h_prev over rows)",
    "timesteps": "m = mean x over timesteps\nh = tanh(x W + h_prev U + m P)",
}


@pytest.mark.parametrize("of", OF_OTHERS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_window_of_a_text_does_not_change_another(of, bidirectional):
    lines, axes = OF_OTHERS[of], "P" if of == "timesteps" else ""
    cell = f"state h : H\nparameters W U {axes}\n{lines}\n"
    session, weights = trained(LONG[:1700], cell="own.cell", cell_text=cell, bidirectional=bidirectional, dtype="float64")
    name = session.program.main_state
    T = session.config.seq_length
    expected = as_one_row(session, weights, [name, "term2"], T)
    found = {name: session.units(name).values, "term2": -session.losses(text=LONG[:1700]).values}
    assert len(expected[name]) > 1600
    same(found, expected, "float64")
