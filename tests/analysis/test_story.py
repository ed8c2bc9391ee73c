"""The story of a run: each number equals the one at its moment."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.analysis.test_findings import LEARNED, run
from tests.session.test_imported_derivations import of_a_recording
from tui_gru import Session, TuiGruError
from tui_gru.analysis.story import LimitShare, matrices_of
from tui_gru.engine.sampling import sample_text

MODELS = {
    "gru": {},
    "lstm": {"cell": "lstm"},
    "two layers": {"layers": 2, "optimizer": "sgd"},
    "both ways": {"bidirectional": True},
}


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_each_number_of_a_story_is_that_of_its_moment(options):
    session = run(30, **{**LEARNED, **options})
    story, state = session.story(5), session.program.main_state
    assert [moment.batch for moment in story.moments] == story.batches.tolist()
    assert story.batches[0] == 0
    assert story.batches[-1] == 29
    last = session.program.seq_length - 1
    for moment in story.moments:
        session.seek(session.state.timeline.end_of(moment.batch))
        before = {name: session.snapshot().record.before[name].astype(float) for name in session.parameter_names}
        values = {name: np.array([session.value(name, t) for t in range(last + 1)]) for name in {s.name for s in story.shares}}
        for share, found in zip(story.shares, moment.shares, strict=True):
            entries = values[share.name]
            low = np.zeros(entries.shape, bool) if share.below is None else entries < share.below
            high = np.zeros(entries.shape, bool) if share.above is None else entries > share.above
            assert found == (low | high).mean()
        after = {name: session.parameter(name).astype(float) for name in session.parameter_names}
        for name in matrices_of(session.program):
            assert moment.norms[name] == pytest.approx(math.sqrt((after[name] ** 2).sum()), rel=1e-12)
        for name, ratio in moment.steps.items():
            change = np.linalg.norm(after[name] - before[name])
            assert ratio == pytest.approx(change / np.linalg.norm(before[name]), rel=1e-9)
        total = [math.sqrt(sum((each**2).sum() for each in arrays)) for arrays in (
            [after[name] - before[name] for name in after], before.values())]  # fmt: skip
        assert moment.step == pytest.approx(total[0] / total[1], rel=1e-9)
        norms = [np.linalg.norm(session.value(f"d{state}", t).astype(float)) for t in range(last + 1)]
        assert moment.deltas == pytest.approx(norms, rel=1e-12)
        assert story.columns["loss"][moment.batch] == session.loss
        assert story.columns["grad_norm"][moment.batch] == session.value("grad_norm")
        assert story.columns["max_weight"][moment.batch] == session.value("max_weight")


def test_how_far_the_gradient_reaches_equals_that_of_the_last_loss_alone():
    """Against finite differences of the loss of the last timestep, by the state one timestep before."""
    session = run(12, **LEARNED, dtype="float64")
    (moment,) = [each for each in session.story(1).moments if each.batch == 11]
    session.seek(session.state.timeline.end_of(11))
    T, B = session.program.seq_length, session.config.batch_size
    found = np.linalg.norm(
        [_slope_at(session, t, row, unit) for t in (T - 2,) for row in range(B) for unit in range(_units(session))]
    )
    assert moment.reach[1] == pytest.approx(found, rel=1e-5)


def _units(session: Session) -> int:
    return session.value("h").shape[-1]


def _slope_at(session: Session, t: int, row: int, unit: int, by: float = 1e-5) -> float:
    """Return the slope of the last timestep's mean loss by a number of the state after timestep t."""
    T, losses = session.program.seq_length, []
    h = float(session.value("h", t)[row, unit])
    for value in (h + by, h - by):
        now = session.what_if("h", (row, unit), value, t).then
        losses.append(float(now.value(session.program.loss_names.timestep, T - 1)))
    return (losses[0] - losses[1]) / (2 * by)


def test_the_means_of_epochs_are_those_of_their_batches():
    session = Session()
    session.learning = True
    session.step("batch", 8)
    ends, means = session.story().epoch_means
    losses = session.snapshot().losses[:8]
    assert ends.tolist() == [2, 5, 7]
    assert means == pytest.approx([losses[:3].mean(), losses[3:6].mean(), losses[6:].mean()])


def test_the_loss_of_a_held_out_text_and_the_sample_are_those_of_the_weights_of_the_moment():
    session = run(20, **LEARNED)
    unseen = LEARNED["text"][::-1][:200]
    story = session.story(3, held_out=unseen)
    for moment in story.moments:
        session.seek(session.state.timeline.end_of(moment.batch))
        assert moment.held_out == pytest.approx(session.losses(text=unseen).mean, rel=1e-9)
        primer = session.config.as_string(session.config.text[:2])
        drawn = sample_text(session.config, session.snapshot().moment.weights, primer, len(moment.sample))
        assert drawn.text == primer + moment.sample
    assert math.isnan(session.story(3).moments[0].held_out)


def test_moments_are_even_and_stand_where_the_loss_jumps():
    session = run(90, **LEARNED)
    session.step("batch", 31)
    session.edit("Wy", (0, 0), 40.0)
    session.step("batch", 3)
    session.edit("Wy", (0, 0), 0.1)
    session.step("batch", 80)
    story, losses = session.story(20), session.snapshot().losses[:]
    jump = int(np.argmax(np.abs(np.diff(losses)[100:]))) + 101  # after the fast fall at the start
    highest = 100 + int(losses[100:].argmax())
    assert {jump - 1, highest} <= set(story.batches.tolist())
    assert np.diff(story.batches).max() <= 1.5 * story.count / 19
    assert story.batches[-1] == story.count - 1


def _diverge(session):
    """Make five batches with a learning rate after which no number is finite."""
    session.learning_rate = 3e38
    for _ in range(5):
        session.step("batch")


def test_the_first_loss_that_is_not_finite_has_a_moment():
    session = run(40, **LEARNED)
    _diverge(session)
    story = session.story(3)
    first = int(np.flatnonzero(~np.isfinite(story.columns["loss"]))[0])
    assert {first - 1, first} <= set(story.batches.tolist())


def test_a_recording_has_neither_updates_nor_the_largest_weight_of_every_step(tmp_path):
    session = of_a_recording(tmp_path)
    session.step("batch", 10)
    story = session.story()
    assert story.count > 1
    for moment in story.moments:
        assert math.isnan(moment.step)
        assert moment.steps == {}
        assert story.number("max_weight", moment.batch) is None
        assert story.number("loss", moment.batch) == story.columns["loss"][moment.batch]
        session.seek(session.state.timeline.end_of(moment.batch))
        assert moment.max_weight == max(np.abs(session.parameter(name)).max() for name in session.parameter_names)


def test_the_gradient_of_a_batch_that_does_not_learn_is_unknown_and_one_that_is_not_a_number_is_not():
    session = Session()
    session.step("batch", 2)
    session.learning = True
    session.step("batch", 2)
    _diverge(session)
    story = session.story()
    norms = [story.number("grad_norm", batch) for batch in range(story.count)]
    assert norms[0] is None
    assert norms[1:3] == story.columns["grad_norm"][1:3].tolist()
    assert math.isnan(norms[-1])


def test_a_share_of_what_is_not_a_number_is_unknown():
    assert math.isnan(LimitShare("z", below=0.1).of(np.array([0.05, np.nan])))


def test_a_story_told_before_is_computed_once_unless_the_run_has_changed(monkeypatch):
    from tui_gru.analysis import story as module

    session, told = run(20, **LEARNED), []
    computed = module.story_moment
    monkeypatch.setattr(module, "story_moment", lambda at, *more: told.append(at.position.number) or computed(at, *more))
    first = session.story(6)
    assert sorted(told) == first.batches.tolist()
    again = session.story(6, also=[3, 19, 500])
    assert told[len(first.moments) :] == [batch for batch in again.batches.tolist() if batch not in first.batches]
    assert 3 in again.batches
    told.clear()
    session.seek("e1 b10")
    session.edit(session.parameter_names[0], (0, 0), 0.5)
    session.step("batch", 10)
    changed = session.story(6)
    assert told
    assert all(batch >= 9 or batch not in again.batches for batch in told)
    assert changed.moments[0] is first.moments[0]


def test_a_story_comes_in_parts_and_can_be_interrupted():
    session, seen = run(10, **LEARNED), []
    session.story(4, progress=seen.append)
    assert [len(story.moments) for story in seen] == list(range(len(seen)))
    assert {story.planned for story in seen} == {len(seen) - 1}
    session = run(10, **LEARNED)
    session.interrupt()
    with pytest.raises(TuiGruError, match="stopped before the story was complete"):
        session.story()


def test_a_run_without_a_batch_has_no_story():
    story = Session().story()
    assert story.count == 0
    assert story.moments == ()
    assert story.epoch_means[1].tolist() == []


def test_a_batch_that_does_not_learn_has_values_but_no_gradients():
    session = Session()
    session.step("batch", 2)
    (first, *_) = session.story().moments
    assert math.isnan(first.step)
    assert first.steps == {}
    assert len(first.deltas) == 0
    assert first.norms


def test_weights_that_are_not_finite_end_no_story():
    session = run(8, **{**LEARNED, "optimizer": "sgd", "clip": 0.0, "learning_rate": 3e38})
    last = session.story().moments[-1]
    assert last.sample == ""
    assert len(last.reach) == 0
    assert not all(map(math.isfinite, last.norms.values()))


def test_shares_in_words():
    assert LimitShare("z", below=0.1).written("z") == "z below 0.1"
    assert LimitShare("h", -0.8, 0.8).written("h") == "|h| above 0.8"
    assert LimitShare("z", above=0.9).of(np.array([0.1, 0.95])) == 0.5


def test_an_expression_is_evaluated_at_given_batches():
    session = run(10, **LEARNED)
    batches, values = session.history("loss", at=[7, 2, 2, 50])
    assert batches.tolist() == [2, 7]
    assert values.tolist() == [session.snapshot().losses[batch] for batch in (2, 7)]
