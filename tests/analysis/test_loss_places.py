"""Sources of the loss: every loss belongs to the right position in the text, and the parts add up to the total."""

from __future__ import annotations

import numpy as np
import pytest

from tests.debugger.models import parametrize
from tui_gru import Session, TuiGruError
from tui_gru.analysis import losses as loss_places
from tui_gru.analysis.losses import TextLosses, loss_of_rows, of_batch
from tui_gru.analysis.units import class_of, read_text

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
    read = read_text(session.config, session.snapshot().moment.weights, TEXT, ["term2"])
    found = loss_places.of_text(read, session.program, TEXT)
    assert found.mean == pytest.approx(-read["term2"][:-1].mean(), rel=1e-6)
    shares = {share.name: share for share in found.by_class()}
    for each in (class_of("vowels"), class_of("spaces")):
        share, chosen = shares[each.name], -read["term2"][:-1][each.mask(TEXT)[1:]]
        assert share.count == len(chosen)
        assert share.mean == pytest.approx(chosen.mean(), rel=1e-6)
        assert share.share == pytest.approx(chosen.sum() / -read["term2"][:-1].sum(), rel=1e-6)
    with pytest.raises(TuiGruError, match="has no batches"):
        found.by_timestep()


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
