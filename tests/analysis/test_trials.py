"""Trials on copies: each equals a run that was started with the option, and the run itself does not change."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.analysis.test_findings import LEARNED, SGD, run
from tui_gru import Session, TuiGruError
from tui_gru.analysis.trials import RATES, Cure, changed_line, changes, loss_after, repairs, tried_options, undo_of
from tui_gru.engine.config import Config


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


def undone(session: Session) -> Cure:
    """The cure that takes the last changes of a run back."""
    timeline = session.state.timeline
    return undo_of(timeline, next(changes(timeline, session.position.tick)))


CHANGES = {
    "a weight": (lambda s: s.edit("Wy", (3, 2), 60.0), "put Wy[unit 4, “;”] back to"),
    "two weights": (lambda s: (s.edit("Wy", (3, 2), 60.0), s.edit("by", (1,), -9.0)), "take 2 changes back at"),
    "a state": (lambda s: (s.step("timestep", 3), s.edit("h", (0, 1), 50.0)), "put h[row 1, unit 2] back to"),
    "the rate": (lambda s: setattr(s, "learning_rate", 0.0), "put learning_rate back to 0.01 at"),
    "the text": (lambda s: s.edit("text", (70,), "m"), "put character 71 of the text back to"),
    "learning": (lambda s: setattr(s, "learning", False), "turn learning on again at"),
}


@pytest.mark.parametrize(("change", "words"), CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("batches", [0, 9])
def test_changes_are_taken_back_as_if_they_had_not_been_made(change, words, batches):
    session, other = run(batches, **LEARNED), run(batches + 100, **LEARNED)
    change(session)
    session.step("batch", 30)
    cure = undone(session)
    assert cure.typed.startswith(words)
    epoch, batch = divmod(batches, session.program.num_batches)
    assert f" at epoch {epoch + 1}, batch {batch + 1}" in cure.typed
    own = losses(session, batches + 30)
    as_it_is, tried = tried_options(session.state.timeline, session.snapshot().moment, [cure])
    assert as_it_is.since == tried.since == batches
    assert list(tried.losses) == losses(other, batches + 100)[batches:]
    assert list(as_it_is.losses[: len(own) - batches]) == own[batches:]
    session.step("batch", 100)
    assert list(as_it_is.losses) == losses(session, batches + 100)[batches:]


def test_changes_that_are_far_from_each_other_are_taken_back_apart():
    session = run(5, **LEARNED)
    session.edit("Wy", (0, 0), 1.0)
    session.step("batch", 3)
    session.edit("Wy", (0, 1), 1.0)
    session.step("batch", 30)
    session.learning_rate = 0.5
    session.step("batch", 2)
    timeline = session.state.timeline
    found = [undo_of(timeline, together).typed for together in changes(timeline, session.position.tick)]
    assert [words.split(" at ")[0] for words in found] == ["put learning_rate back to 0.01", "take 2 changes back"]
    untouched = run(3, **LEARNED)
    assert list(changes(untouched.state.timeline, untouched.position.tick)) == []


def test_each_place_of_a_cell_that_may_be_a_mistake_is_changed():
    cell = """\
# my cell
reads x
state h : H
parameters Wz Wh Uh bh

z = σ(x Wz + 9)
u = σ(tanh(x Wz)) / 0.01
h = (k: 3 ⊙ h_prev) + (1 + z) ⊙ tanh(x Wh + 0.5 ⊙ (h_prev Uh) + bh) ⊙ u  # the state
"""
    config = Config.of(**LEARNED, cell="mine.cell", cell_text=cell)
    assert {cure.words: changed_line(config, cure) for cure in repairs(config)} == {
        "the line z with 0 in the place of 9": "z = σ(x Wz + 0)",
        "the line u with 1 in the place of 0.01": "u = σ(tanh(x Wz)) / 1",
        "the line u without the outer σ": "u = (tanh(x Wz)) / 0.01",
        "the line h with 1 in the place of 3": cell.splitlines()[-1].replace("3 ⊙", "1 ⊙"),
        "the line h with (1 − z) in the place of (1 + z)": cell.splitlines()[-1].replace("1 + z", "1 − z"),
        "the line h with 1 in the place of 0.5": cell.splitlines()[-1].replace("0.5 ⊙", "1 ⊙"),
        "the line h that keeps half of h_prev": (
            "h = 0.5 ⊙ h_prev + 0.5 ⊙ ((k: 3 ⊙ h_prev) + (1 + z) ⊙ tanh(x Wh + 0.5 ⊙ (h_prev Uh) + bh) ⊙ u)  # the state"
        ),
        "the line u within tanh": "u = tanh(σ(tanh(x Wz)) / 0.01)",
        "the line u within σ": "u = σ(σ(tanh(x Wz)) / 0.01)",
        "the line h within tanh": "h = tanh((k: 3 ⊙ h_prev) + (1 + z) ⊙ tanh(x Wh + 0.5 ⊙ (h_prev Uh) + bh) ⊙ u)  # the state",
        "the line h within σ": "h = σ((k: 3 ⊙ h_prev) + (1 + z) ⊙ tanh(x Wh + 0.5 ⊙ (h_prev Uh) + bh) ⊙ u)  # the state",
    }
    assert list(repairs(Config.of(**LEARNED))) == []


def test_another_line_of_a_cell_is_tried_as_if_the_run_had_been_started_with_it():
    cell = "reads x\nstate h : H\nparameters Wh Uh bh\nh = tanh(x Wh + 0.01 ⊙ (h_prev Uh) + bh)"
    session = run(100, **LEARNED, cell="mine.cell", cell_text=cell)
    cure = next(repairs(session.config))
    _, tried = tried_options(session.state.timeline, session.snapshot().moment, [cure])
    other = run(100, **LEARNED, cell="mine.cell", cell_text=cell.replace("0.01", "1"))
    assert list(tried.losses) == losses(other, 100)


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
