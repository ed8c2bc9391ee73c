"""Rulers measure by arithmetic what can also be found by counting."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.debugger.oracle import lines
from tui_gru.debugger.program import program_of
from tui_gru.debugger.steps import LEVELS, Ruler, check_level
from tui_gru.engine.config import Config
from tui_gru.engine.errors import TuiGruError

BATCHES = 14


@st.composite
def timelines(draw):
    """A config, and for each of a number of batches whether it learns."""
    config = Config.of(
        text="a" * draw(st.integers(9, 20)),
        batch_size=draw(st.integers(1, 2)),
        seq_length=draw(st.integers(1, 3)),
        reset=draw(st.sampled_from(("before", "after"))),
        carry=draw(st.sampled_from(("detach", "notebook"))),
    )
    return config, draw(st.lists(st.booleans(), min_size=BATCHES, max_size=BATCHES))


def counted(config, learned, level):
    """The ticks at which a step of a level ends, found by walking through every line."""
    ends, N = [], len(lines(config))
    for batch, learns in enumerate(learned):
        executed = [line for line in lines(config) if learns or line[0] in ("forward", "loss")]
        last = len(executed)
        for k, (phase, name, t) in enumerate(executed, 1):
            after = executed[k] if k < last else ("end", "", -1)
            of_timestep = phase in ("forward", "backward") and name != "earlier"
            wanted = {
                "op": True,
                "timestep": (of_timestep and (after[0], after[2]) != (phase, t)) or (learns and k == last) or after[1] == "earlier",
                "phase": after[0] not in (phase, "loss"),
                "batch": k == last,
                "epoch": k == last and (batch + 1) % config.num_batches == 0,
            }
            if wanted[level]:
                ends.append(batch * N + k)
    return ends


@given(timelines(), st.sampled_from(LEVELS), st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_ruler_counts(timeline, level, tidy):
    config, learned = timeline
    changes = [(0, learned[0])] + [(b, now) for b, (was, now) in enumerate(pairwise(learned), 1) if was != now]
    runs = changes if tidy else list(enumerate(learned))
    ruler, places = Ruler(program_of(config), level, runs), counted(config, learned, level)
    assert [ruler.tick(n) for n in range(1, len(places) + 1)] == places
    assert ruler.tick(0) == ruler.tick(-5) == ruler.count(0) == ruler.count(-1) == 0
    limit = BATCHES * program_of(config).ticks
    passed = 0
    for tick in range(limit):
        passed += tick in set(places[passed : passed + 1])
        assert ruler.count(tick) == passed


def test_a_ruler_reaches_far():
    program = program_of(Config.of())
    assert Ruler(program, "epoch", [(0, True)]).tick(10**18) == 10**18 * 3 * program.ticks


@pytest.mark.parametrize("level", ["", "ops", "Batch", "line"])
def test_a_level_that_there_is_not(level):
    with pytest.raises(TuiGruError, match="op, timestep, phase, batch, epoch"):
        check_level(level)
