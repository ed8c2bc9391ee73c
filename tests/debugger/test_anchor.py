"""Anchors: whether a moment still exists after changes before it, at it and after it."""

import pytest

from tui_gru import Session

WEIGHT, STATE = ("Wz", (0, 0), 3.0), ("h", (1, 0), 0.5)


@pytest.fixture
def session():
    session = Session()
    session.learning = True
    session.step("batch", 2)
    session.seek("e1 b2 t1")
    return session


def test_a_moment_is_still_there_after_a_change_later(session):
    anchor = session.anchor()
    session.step()
    session.edit(*WEIGHT)
    assert session.holds(anchor)


def test_a_moment_is_gone_after_a_change_earlier(session):
    anchor = session.anchor()
    session.seek("e1 b1 t3")
    session.edit(*WEIGHT)
    session.seek(anchor.tick)
    assert not session.holds(anchor)


@pytest.mark.parametrize("change", [WEIGHT, STATE], ids=str)
def test_a_moment_is_gone_once_one_of_its_numbers_is_changed_there(session, change):
    anchor = session.anchor()
    session.edit(*change)
    assert session.position.tick == anchor.tick
    assert not session.holds(anchor)
    session.undo()
    assert session.holds(anchor)


def test_a_moment_is_still_there_after_a_change_at_it_that_leaves_its_numbers(session):
    anchor = session.anchor()
    for change in (
        lambda: setattr(session, "learning", False),
        lambda: session.edit("learning_rate", value=0.5),
        lambda: session.edit("Wz", (0, 0), float(session.parameter("Wz")[0, 0])),
    ):
        change()
        assert session.position.tick == anchor.tick
        assert session.holds(anchor)
