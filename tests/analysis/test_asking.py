"""The questions of a session about units, influence, losses and arrays: the answers are those of the analysis, and the run is
unchanged."""

from __future__ import annotations

import numpy as np
import pytest

from tests.debugger.models import parametrize
from tui_gru import Session, TuiGruError
from tui_gru.analysis.units import values_after_characters


def trained(batches=3, **options):
    session = Session(**options)
    session.learning = True
    session.step("batch", batches)
    return session


@parametrize()
def test_units_of_a_row_and_of_the_text(model):
    session = trained(**model)
    state = session.program.main_state
    row = session.units(row=0)
    for t in range(session.config.seq_length):
        assert (row.values[t] == session.value(state, t=t)[0]).all()
    text = session.config.text
    expected = values_after_characters(session.config, session.snapshot().moment.weights, text, [state])[state]
    assert (session.units().values == expected).all()
    assert session.units(text=text[:3]).values.shape == (3, session.config.hidden_size)
    assert session.units(text=text[:3]).text == text[:3]


def test_units_have_their_values_before_training_with_them():
    session = trained(text="the cat sat on the mat; " * 9, hidden_size=4)
    first = Session(text="the cat sat on the mat; " * 9, hidden_size=4)
    assert (session.units().before.values == first.units().values).all()
    assert first.units().before is None
    session.seek(0)
    assert session.units().before is None


def test_units_of_another_value_as_far_as_it_is_computed():
    session = Session()
    session.step("timestep", 2)
    values = session.units("z", row=1).values
    assert (values[:2] == [session.value("z", t=t)[1] for t in (0, 1)]).all()
    assert np.isnan(values[2]).all()


def test_influence_is_on_a_prediction_of_this_batch():
    session = trained()
    found = session.influence(1, 1)
    assert (found.row, found.t[found.at]) == (1, 1)
    assert session.influence(1).t[session.influence(1).at] == session.position.t
    assert session.influence(character="M").character == session.config.vocabulary.index("M")
    assert np.isnan(session.influence(occlusion=False).occlusion).all()
    assert len(session.influence(back=0).text) == 3


def test_losses_of_the_batch_and_of_a_text():
    session = trained()
    assert session.losses().mean == pytest.approx(session.loss, rel=1e-6)
    assert session.losses(text="MathMath").values.shape == (7,)


def test_a_summary_of_an_array():
    session = trained()
    found = session.summary("Wz")
    assert found.largest == session.parameter("Wz").max()
    assert session.summary("z", t=0).entries == 4
    session.seek(0)
    assert session.summary("z") is None


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s: s.units("Wz", row=0), "no value of every timestep and row named 'Wz'"),
        (lambda s: s.units("nothing"), "'nothing' is not a value of every character"),
        (lambda s: s.units(text="xyz"), "'x' at position 1 of the text is not in the vocabulary"),
        (lambda s: s.units(7), "a name must be a text"),
        (lambda s: s.influence(5), "the row must be from 0 to 1"),
        (lambda s: s.influence(character="x"), "'x' is not in the vocabulary 'hatM'"),
        (lambda s: s.influence(character="Ma"), "'Ma' is not in the vocabulary 'hatM'"),
        (lambda s: s.losses(text=""), "the text is empty"),
        (lambda s: s.summary("loss"), "loss has no entries to summarise"),
        (lambda s: s.findings(held_out="x"), "the text that was held out has 'x'"),
    ],
)
def test_what_is_refused(ask, message):
    with pytest.raises(TuiGruError, match=message):
        ask(trained())


def test_nothing_is_touched():
    session, plain = trained(), trained()
    session.units(), session.influence(), session.losses(text="Math"), session.summary("h"), session.findings(), session.report()
    for each in (session, plain):
        each.step("epoch", 3)
    assert (session.snapshot().moment.weights.flat == plain.snapshot().moment.weights.flat).all()


@pytest.mark.parametrize("ask", [Session.findings, Session.report, Session.units, Session.influence], ids=lambda ask: ask.__name__)
def test_what_takes_long_can_be_stopped(ask):
    session = trained()
    session.interrupt()
    with pytest.raises(TuiGruError, match="stopped"):
        ask(session)
    session.interrupts.forget()
    ask(session)
