"""Trials on copies: each equals a run that was started with the option, and the run itself does not change."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.analysis.test_findings import LEARNED, SGD, run
from tui_gru import Session, TuiGruError
from tui_gru.analysis.trials import RATES, Cure, loss_after, tried_options


def losses(session: Session, count: int) -> list[float]:
    return [float(loss) for loss in session.snapshot().losses[:count]]


def test_a_rate_is_tried_as_if_the_run_had_gone_on_with_it():
    session = run(7, **LEARNED)
    session.step("timestep", 3)  # in the middle of batch 8
    before, weights = session.position, session.parameter("Wz").copy()
    found = dict(session.rates())
    assert sorted(found) == list(found)
    assert found.keys() == {*RATES, 0.01}
    assert session.position == before
    assert np.array_equal(session.parameter("Wz"), weights)
    assert not session.notice
    for rate in (0.001, 0.1):
        other = run(7, **LEARNED)
        other.learning_rate = rate
        other.step("batch", 60)
        assert found[rate] == loss_after(losses(other, 67)[7:])


def test_rates_are_tried_from_the_end_of_a_complete_batch_on():
    session = run(7, **LEARNED, carry="notebook")
    found = dict(session.rates())
    other = run(7, **LEARNED, carry="notebook")
    other.step("batch", 60)
    assert found[0.01] == loss_after(losses(other, 67)[7:])


def test_a_rate_that_is_far_too_large_has_an_infinite_loss():
    assert dict(run(5, **LEARNED, optimizer="sgd", clip=0.0, learning_rate=3e37).rates())[3e37] == math.inf


def test_rates_come_one_after_the_other():
    seen = []
    session = run(2)
    assert session.rates(progress=seen.append) == tuple(seen)


def test_a_trial_can_be_interrupted():
    session = run(2)
    session.interrupt()
    with pytest.raises(TuiGruError, match="stopped before all rates were tried"):
        session.rates()


def test_a_cure_is_tried_as_if_the_run_had_been_started_with_it():
    options = {**LEARNED, "learning_rate": 3.0, **SGD}
    session = run(120, **{**options, "learning_rate": 100.0})
    (found,) = [each for each in session.findings() if each.name == "rate-too-large"]
    tried = session.try_cures(found)
    assert [trial.loss for trial in tried] == sorted(trial.loss for trial in tried)
    assert {trial.without for trial in tried} == {loss_after(losses(session, 120))}
    assert tried[0].loss < tried[0].without
    for option, changed in (("--learning-rate 10", {"learning_rate": 10.0}), ("--clip 1", {"clip": 1.0})):
        (trial,) = [trial for trial in tried if trial.option == option]
        other = run(120, **{**options, "learning_rate": 100.0, **changed})
        assert trial.loss == pytest.approx(loss_after(losses(other, 120)), rel=1e-6)


def test_an_option_that_the_run_has_is_not_tried():
    session = run(60, **{**LEARNED, "init": "tutorial", "hidden_size": 64})
    (found,) = [each for each in session.findings() if each.name == "initial-loss"]
    (trial,) = session.try_cures(found)
    assert trial.option == "--init torch"
    other = run(100, **{**LEARNED, "hidden_size": 64})
    assert trial.loss == loss_after(losses(other, 100))
    same = run(60, **LEARNED)
    assert session.program is not same.program
    assert not same.try_cures(found)


OPTIONS = {
    "clip": 0.05, "learning_rate": 0.1, "optimizer": "sgd", "init": "tutorial", "carry": "reset", "layout": "tutorial",
    "seq_length": 4, "hidden_size": 5, "cell": "lstm", "dtype": "float64", "seed": 7, "batch_size": 2, "layers": 2,
    "bidirectional": True,
}  # fmt: skip


def test_each_option_is_tried_as_if_the_run_had_been_started_with_it():
    session = run(20, **LEARNED)
    cures = [Cure(name, value) for name, value in OPTIONS.items()]
    as_it_is, *tried = tried_options(session.state.timeline, session.snapshot().moment, cures)
    assert as_it_is.cure is None
    assert list(as_it_is.losses) == losses(run(100, **LEARNED), 100)
    assert [each.cure for each in tried] == cures
    for each in tried:
        assert not each.refused
        other = run(100, **{**LEARNED, each.cure.name: each.cure.value})
        assert list(each.losses) == losses(other, 100), each.option
        assert each.losses != as_it_is.losses, each.option


def test_what_cannot_be_tried_says_why():
    session = run(20, **LEARNED)
    session.edit("learning_rate", 0.5)
    moment, timeline = session.snapshot().moment, session.state.timeline
    cures = [Cure("learning_rate", 0.5), Cure("learning_rate", 0.01), Cure("init", "torch"), Cure("seq_length", 10**6)]
    _, *tried = tried_options(timeline, moment, cures)
    assert [each.refused for each in tried[:3]] == ["the run has it", "", "the run has it"]
    assert list(tried[1].losses) == losses(run(100, **LEARNED), 100)
    assert "seq_length" in tried[3].refused or "timesteps" in tried[3].refused
    assert not tried[3].losses


def test_how_an_option_is_typed():
    cures = [("clip", 1.0), ("cell", "gru"), ("bidirectional", False), ("learning_rate", 1e-5), ("seq_length", 8)]
    typed = [Cure(name, value).typed for name, value in cures]
    assert typed == ["--clip 1", "--cell gru", "--no-bidirectional", "--learning-rate 1e-05", "--seq-length 8"]


# The course of an expression


@pytest.mark.parametrize("expression", ["loss", "max(abs(dUh))", "Wz[0, 1]", "norm(h)", "loss - prev(loss)"])
def test_a_course_has_the_values_at_the_ends_of_batches(expression):
    session = run(50, **LEARNED)
    batches, values = session.history(expression, 12)
    assert batches[0] == 0
    assert batches[-1] == 49
    assert len(batches) <= 12
    assert (np.diff(batches) > 0).all()
    session.watch(expression)
    session.seek(0)
    at_the_ends = []
    for _ in range(50):
        session.step("batch")
        (watched,) = session.snapshot().watched
        at_the_ends.append(math.nan if watched.value is None else watched.value)
    assert np.array_equal(values, np.array(at_the_ends)[batches], equal_nan=True)


def test_a_course_has_no_value_where_nothing_is_computed():
    session = run(5, learning=False, **LEARNED)
    session.learning = True
    session.step("batch", 5)
    batches, values = session.history("max(abs(dUh))")
    assert np.isnan(values[batches < 4]).all()  # the fifth has learned, since learning was on before it ended
    assert np.isfinite(values[batches >= 4]).all()


def test_a_course_needs_one_number():
    with pytest.raises(TuiGruError, match=r"Wz is 32 numbers; a curve needs one number, as in max\(abs\(Wz\)\)"):
        run(3, text="abcdabcdabcdabcd" * 8, hidden_size=8, batch_size=4, seq_length=8).history("Wz")
    with pytest.raises(TuiGruError, match="column 1"):
        run(3).history("lss")
    with pytest.raises(TuiGruError, match="points"):
        run(3).history("loss", 0)


def test_a_run_without_a_batch_has_no_course():
    batches, values = Session().history("loss")
    assert len(batches) == len(values) == 0


@pytest.mark.parametrize("options", [SGD | {"learning_rate": 100.0}, {"init": "tutorial", "hidden_size": 64, "learning_rate": 3.0}])
def test_no_option_is_offered_that_the_run_has(options):
    session = run(120, **{**LEARNED, **options})
    has = {f"--init {session.config.init}", f"--clip {session.config.clip:g}", f"--layout {session.config.layout}"}
    found = session.findings()
    assert found
    assert not [each.cure for each in found if any(option in each.cure for option in has)]


def test_only_options_that_lower_the_loss_are_returned():
    session = run(120, **{**LEARNED, **SGD, "learning_rate": 100.0})
    for found in session.findings():
        assert all(trial.loss < trial.without for trial in session.try_cures(found))
