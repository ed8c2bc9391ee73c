"""The step index: positions computed by arithmetic equal those found by counting."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.debugger.models import MODELS
from tests.debugger.plain import executed
from tests.extent import examples
from tui_gru.debugger.position import LEVELS, StepIndex, check_level
from tui_gru.debugger.program import program_of
from tui_gru.engine.config import Config
from tui_gru.errors import TuiGruError
from tui_gru.session.session import Session

BATCHES = 14


CONFIGS = {name: Config.of(**model) for name, model in MODELS.items()}
timelines = st.tuples(st.sampled_from(tuple(MODELS)), st.lists(st.booleans(), min_size=BATCHES, max_size=BATCHES))


def counted(config, learned, level):
    """Return the ticks at which a step of a level ends, found by stepping through every line."""
    ends, lines = [], executed(config)
    for batch, learns in enumerate(learned):
        done = [line for line in lines if learns or line.phase in ("forward", "loss")]
        last = len(done)
        for k, line in enumerate(done, 1):
            after = done[k] if k < last else None
            of_timestep = line.phase in ("forward", "backward") and line.name != "earlier"
            goes_on = after is not None and after[:3] == line[:3] and after.name != "earlier"
            wanted = {
                "op": True,
                "timestep": (of_timestep and not goes_on) or (learns and k == last),
                "phase": after is None or (after.phase != line.phase and after.phase != "loss"),
                "batch": k == last,
                "epoch": k == last and (batch + 1) % config.num_batches == 0,
            }
            if wanted[level]:
                ends.append(batch * len(lines) + k)
    return ends


@given(timelines, st.sampled_from(LEVELS), st.booleans())
@settings(max_examples=examples(40, soak=800))
def test_a_ruler_counts(timeline, level, tidy):
    config, learned = CONFIGS[timeline[0]], timeline[1]
    changes = [(0, learned[0])] + [(b, now) for b, (was, now) in enumerate(pairwise(learned), 1) if was != now]
    runs = changes if tidy else list(enumerate(learned))
    index, places = StepIndex(program_of(config), level, runs), counted(config, learned, level)
    assert [index.tick(n) for n in range(1, len(places) + 1)] == places
    assert index.tick(0) == index.tick(-5) == index.count(0) == index.count(-1) == 0
    limit = BATCHES * program_of(config).ticks
    passed = 0
    for tick in range(limit):
        passed += tick in set(places[passed : passed + 1])
        assert index.count(tick) == passed


def test_a_ruler_reaches_far():
    program = program_of(Config.of())
    assert StepIndex(program, "epoch", [(0, True)]).tick(10**18) == 10**18 * 3 * program.ticks


@pytest.mark.parametrize("level", LEVELS)
def test_a_place_some_steps_away_is_where_these_steps_lead(level):
    session = Session()
    session.epochs = 2
    for learning, tick in ((False, 0), (False, 7), (True, 50), (True, 10**6)):
        session.learning = learning
        for count in (-9999, -2, -1, 0, 1, 2, 9999):
            session.seek(tick)
            away = session.tick_after(level, count)
            there = session.step(level, count)
            session.seek(tick)
            assert session.seek(away) == there


@pytest.mark.parametrize("level", ["", "ops", "Batch", "lines"])
def test_a_level_that_there_is_not(level):
    with pytest.raises(TuiGruError, match="op, timestep, phase, batch, epoch"):
        check_level(level)
