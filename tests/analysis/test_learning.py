"""What was learned when: the loss of classes of characters over a run, and the sentences made from it."""

from __future__ import annotations

import numpy as np
import pytest

from tui_gru import Session, TuiGruError
from tui_gru.analysis.learning import HALF, LAST_EPOCHS

WORDS = "the cat sat on the mat; the rat ran to the hat. " * 12


@pytest.fixture(scope="module")
def session():
    session = Session(text=WORDS, hidden_size=16, batch_size=4, seq_length=12, learning_rate=0.01)
    session.learning = True
    session.step("epoch", 40)
    return session


def test_a_class_is_learned_where_its_loss_stays_below_half_of_guessing(session):
    learned = session.learned()
    assert learned.mean.shape == learned.batches.shape
    spaces = next(course for course in learned.classes if course.name == "spaces")
    share = WORDS.count(" ") / len(WORDS)
    assert spaces.guess == pytest.approx(-np.log(share))
    below = spaces.losses < HALF * spaces.guess
    first = learned.batches.tolist().index(spaces.learned)
    assert below[first:].all()
    assert first == 0 or not below[first - 1]
    assert f"spaces by batch {spaces.learned + 1:,}" in learned.sentences[0]


def test_the_losses_are_those_of_reading_the_text_at_each_moment(session):
    learned = session.learned(points=3)
    read = session.losses(text=WORDS)
    assert learned.mean[-1] == pytest.approx(read.mean)
    by_class = {share.name: share.mean for share in read.by_class()}
    assert {course.name: course.losses[-1] for course in learned.classes} == pytest.approx(
        {course.name: by_class[course.name] for course in learned.classes}
    )


def test_what_is_not_learned_is_said_never_and_unseen_text_is_named(session):
    learned = session.learned(held_out="aaaa tttt hhhh " * 4)
    assert learned.unseen
    assert "never" in learned.sentences[0]
    assert all("unseen text" in sentence for sentence in learned.sentences[1:])


def test_the_last_epochs_are_said_with_what_they_gained(session):
    learned = session.learned()
    earlier = learned.batches[learned.batches <= learned.batches[-1] - LAST_EPOCHS * session.config.num_batches][-1]
    gain = float(learned.mean[learned.batches.tolist().index(earlier)] - learned.mean[-1])
    last = learned.sentences[-1]
    assert last.startswith("the last ")
    assert ("gained nothing" in last) == (abs(gain) <= 0.005)


def test_a_jump_that_has_not_come_back_has_its_cost():
    session = Session(text=WORDS, hidden_size=16, batch_size=4, seq_length=12, learning_rate=0.01)
    session.learning = True
    session.step("epoch", 30)
    session.edit("Wy", (0, 0), 40.0)
    session.learning = False
    session.step("epoch", 2)
    (jump,) = [sentence for sentence in session.learned().sentences if "jump" in sentence]
    assert "nats on the text, and that has not come back" in jump


def test_a_run_without_a_batch_is_refused():
    with pytest.raises(TuiGruError, match="no batch has been finished yet"):
        Session(text=WORDS).learned()
