"""Steps taken one after another: they lead to where as many single steps lead, with everything that these leave behind."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.debugger.models import MODELS
from tests.extent import examples
from tests.session.acting import act, portrait
from tui_gru import Session, TuiGruError
from tui_gru.debugger.position import LEVELS, Level

LONG = {"op": 60, "timestep": 25, "phase": 9, "batch": 6, "epoch": 3}


def prepared(seed: int, model: dict[str, Any], epochs: int | None) -> Session:
    """Return a session after random verbs, always the same for a seed. Its weights may explode."""
    rng = random.Random(seed)
    session = Session(**model, epochs=epochs, learning_rate=rng.choice([0.01, 3, 1e38]))
    for _ in range(rng.randrange(12)):
        act(session, rng)
    return session


@given(
    st.integers(0, 10**6),
    st.sampled_from(list(MODELS.values())),
    st.sampled_from([None, 4]),
    st.lists(st.tuples(st.sampled_from(LEVELS), st.sampled_from([1, -1]), st.integers(1, 60)), min_size=1, max_size=4),
)
@settings(max_examples=examples(60, soak=5000))
def test_they_lead_to_where_single_steps_lead(
    seed: int, model: dict[str, Any], epochs: int | None, steps: list[tuple[Level, int, int]]
) -> None:
    one_by_one, together = prepared(seed, model, epochs), prepared(seed, model, epochs)
    for level, direction, most in steps:
        count = min(most, LONG[level])
        problems = [refused(one_by_one.step, level, direction) for _ in range(count)]
        assert refused(together.step_each, level, direction * count) == next(filter(None, problems), "")
        mine, theirs = portrait(one_by_one), portrait(together)
        for column, other in zip(mine.pop("columns"), theirs.pop("columns"), strict=True):
            length = min(len(column), len(other))  # a walk to a stop may compute more batches than single steps
            assert column[:length] == other[:length]
        assert mine == theirs


def refused(verb: Callable[..., object], *arguments: Any) -> str:
    """Return the error of a verb, empty without one."""
    try:
        verb(*arguments)
    except TuiGruError as error:
        return str(error)
    return ""


class Walks:
    """Counts the steps of a session, each of which is one walk."""

    def __init__(self, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, step = 0, session.step

        def counted(*args: Any, **options: Any) -> Any:
            self.count += 1
            return step(*args, **options)

        monkeypatch.setattr(session, "step", counted)


@pytest.mark.parametrize("level", LEVELS)
def test_they_are_one_walk_up_to_a_stop(level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session()
    session.learning = True
    walks = Walks(session, monkeypatch)
    session.step_each(level, 2000)
    reached = session.position
    assert walks.count == 1
    session.step_each(level, -2000)
    assert (walks.count, session.position.tick) == (2, 0)
    session.step_each(level, -2000)  # the first leads nowhere, nor would the others
    assert walks.count == 3
    assert session.step_each(level, 2000) == reached
    assert walks.count == 4


def test_a_stop_ends_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(epochs=50)
    session.learning = True
    session.break_at("loss", condition="batch == 3")
    walks = Walks(session, monkeypatch)
    session.step_each("timestep", 10**6)
    assert session.position == session.end
    assert len(session.snapshot().hits) == 50
    assert walks.count <= 2 * 50 + 3  # to each stop, and the step after it


def test_an_interrupt_ends_them() -> None:
    session = Session()
    walked: list[Any] = []

    def progress(place: Any) -> None:
        walked.append(place)
        if len(walked) == 5:
            session.interrupt()

    session.step_each("batch", 10**6, progress=progress)
    assert session.position.number < 10
    here = session.position.number
    session.step_each("batch", 3)
    assert session.position.number == here + 3


@pytest.mark.parametrize("level", ["line", "epochs", ""])
def test_there_must_be_such_a_level(level: str) -> None:
    if level == "line":
        assert Session().step_each(level, 2).tick == 2  # type: ignore[arg-type]
    else:
        with pytest.raises(TuiGruError, match="level"):
            Session().step_each(level)  # type: ignore[arg-type]
