"""Breakpoints and watches against an oracle that looks at one place after the other of a run that stores everything."""

from dataclasses import dataclass
from functools import partial
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.debugger.oracle import CONDITIONS, Run
from tui_gru.debugger import records, stop_search
from tui_gru.debugger.conditions import compile_condition, compile_value
from tui_gru.debugger.hit_counts import HitCount
from tui_gru.debugger.moment import readable_names
from tui_gru.debugger.session import Session
from tui_gru.engine.errors import TuiGruError

MODELS = [
    ({}, 4),
    ({"carry": "notebook", "reset": "after", "batch_size": 1, "seq_length": 2}, 2),
    ({"text": "abbac", "batch_size": 1, "seq_length": 1, "hidden_size": 3}, 3),
    ({"carry": "reset", "text": "hello world", "batch_size": 2, "seq_length": 5}, 11),
]  # options, and epochs: some twelve batches
LINES = ("z", "h_tilde", "h", "term3", "loss", "dlogits", "dah", "dh_prev", "dWz", "dby", "Wz", "by")
HITS = ("", "", "", "1", "5", ">3", ">=2", "<4", "<=2", "%2", "%5")
EXPRESSIONS = (
    "h[0, 0]", "loss", "char[0]", "h[0, 0] > 0", "any(z > prev(z))", "Wz", "grad_norm", "dz", "prev(dz)", "max_weight", "epoch",
    "t", "z[:1]", "h[0, 0] - loss", "loss < 1.3", "x[:epoch]", "z[0, 0] * prev(dz)[0, 0]",
)  # fmt: skip
FEW, SOME, ALL = 0, 3000, 2**28  # bytes of history: two checkpoints, a few, every batch


@dataclass(frozen=True)
class Asked:
    """A stop that is asked for, in words."""

    line: str = ""
    condition: str = ""
    hits: str = ""
    watch: str = ""

    def set_in(self, session):
        if self.watch:
            return session.watch(self.watch, stops=True)
        return session.break_at(self.line, condition=self.condition, hits=self.hits)

    def hits_in(self, run, places):
        """The ticks at which it is hit, in order."""
        names = readable_names(run.config.reset)
        if self.watch:
            return list(changes_of(compile_value(self.watch, names), run, places))
        condition = compile_condition(self.condition, names) if self.condition else None
        if self.line:
            at = [tick for tick in places if run.lines[(tick - 1) % run.N][1] == self.line]
            return [tick for tick in at if condition is None or run.holds(condition, tick)]
        return run.matches(condition, places)

    def stops_in(self, run, places):
        """The ticks at which it stops."""
        hits = self.hits_in(run, places)
        count = HitCount.parse(self.hits) if self.hits else None
        return [tick for n, tick in enumerate(hits, 1) if count is None or count.stops(n)]


def values(expression, run, places):
    """(tick, value) wherever something that the expression reads has just been computed, and all of it is there."""
    for tick in places:
        if run._tests(expression.names, tick):
            value = expression.value(partial(run.value, tick), partial(run.before, tick))
            if value is not None:
                yield tick, value


def changes_of(expression, run, places):
    last = None
    for tick, value in values(expression, run, places):
        if last is not None and not np.array_equal(last, value, equal_nan=isinstance(value, float)):
            yield tick
        last = value


breakpoints = st.builds(
    Asked,
    line=st.sampled_from(("", "", *LINES)),
    condition=st.sampled_from(("", "", "1 < 2", "1 > 2", *CONDITIONS)),
    hits=st.sampled_from(HITS),
).filter(lambda asked: asked.line or asked.condition)
watches = st.builds(Asked, watch=st.sampled_from(EXPRESSIONS))
kinds = st.sampled_from(("learning", "learning", "rate", "Wz", "h", "once", "text"))
changes_made = st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1), kinds), max_size=5)


def begun(model, epochs, memory):
    with patch.multiple(records, MOST=4):
        return Session(history_memory=memory, epochs=epochs, **{"learning_rate": 0.3, **model})


def change(session, batch, part, kind):
    """Change something at a place, or what comes closest to it; what it was for `Run`."""
    N = session.program.ticks
    tick = session.seek(batch * N + int(part * N)).tick
    try:
        if kind == "learning":
            session.learning = not session.learning
            return [(tick, "learning", session.learning)]
        if kind == "rate" and session.learning_rate != 0.5:
            session.learning_rate = 0.5
            return [(tick, "rate", 0.5)]
        if kind in ("Wz", "h"):
            session.edit(kind, (0, 0), 0.5 + part)
            return [(tick, kind, (0, 0), 0.5 + part)]
        if kind == "text":
            session.edit("text", batch % 3, session.config.vocabulary[0])
            return [(tick, "text", batch % 3, session.config.vocabulary[0])]
        if kind == "once" and tick // N < session.end.number + 1:
            learns = session._timeline.learns(tick // N)
            session.sgd()
            return [] if learns else [(tick, "once", tick // N)]
    except TuiGruError:
        pass  # refused at this place
    return []


def stored(session, listed):
    return Run(session.config, tuple(listed), batches=session.end.number + 2)


def changed_run(model, made, memory):
    """A session with changes in the course of its run, which stands at its end; and the same, stored."""
    session, listed = begun(*model, memory), []
    for batch, part, kind in sorted(made):
        place = max(batch + part, session.position.tick / session.program.ticks)
        listed += change(session, int(place), place % 1, kind)
    session.seek(session.end)
    return session, stored(session, listed)


@given(
    model=st.sampled_from(MODELS),
    memory=st.sampled_from((FEW, SOME, ALL)),
    made=changes_made,
    asked=st.lists(st.one_of(breakpoints, breakpoints, watches), min_size=1, max_size=3),
    block=st.sampled_from((3, 2**14)),
    data=st.data(),
)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_runs_stop_where_looking_at_every_place_says(model, memory, made, asked, block, data):
    session, run = changed_run(model, made, memory)
    end = session.end.tick
    places = [tick for tick in run.places("op") if tick <= end]
    stops = sorted({tick for each in asked for tick in each.stops_in(run, places)})
    for each in asked:
        each.set_in(session)
    with patch.multiple(stop_search, BLOCK=block):
        for _ in range(data.draw(st.integers(1, 12), "moves")):
            here = session.position.tick
            match data.draw(st.sampled_from(("seek", "continue", "continue", "back", "back", "step")), "move"):
                case "seek":
                    session.seek(data.draw(st.integers(0, end)))
                case "continue":
                    expected = [tick for tick in stops if tick > here]
                    assert session.continue_() == bool(expected)
                    assert session.position.tick == (expected or [end])[0]
                case "back":
                    expected = [tick for tick in stops if tick < here]
                    assert session.reverse_continue() == bool(expected)
                    assert session.position.tick == (expected or [0])[-1]
                case "step":
                    level, count = data.draw(st.sampled_from(("op", "timestep", "batch", "epoch"))), data.draw(st.integers(-3, 3))
                    session.seek(here)
                    target = landing(run, places, level, count, here)
                    between = [tick for tick in stops if here < tick <= target or target <= tick < here]
                    expected = target if not between else min(between) if target > here else max(between)
                    assert session.step(level, count).tick == expected
                    assert bool(session.notice) == bool(between)
    assert_stops(session, stops)


def assert_stops(session, stops):
    """A session stops at all of these places in turn, and at no other, forwards and backwards."""
    forwards, backwards = [], []
    session.seek(0)
    while session.continue_():
        forwards.append(session.position.tick)
    assert session.position == session.end
    if stops[-1:] == [session.end.tick]:
        backwards.append(session.end.tick)
    while session.reverse_continue():
        backwards.append(session.position.tick)
    assert forwards == stops
    assert backwards == stops[::-1]
    assert session.position.tick == 0


@pytest.fixture(scope="module")
def changed_within():
    """A run with changes within its batches, not all of which learn."""
    made = [
        (0, 0.2, "learning"), (2, 0.6, "Wz"), (3, 0.02, "learning"), (5, 0.27, "once"), (7, 0.01, "learning"), (8, 0.0, "rate"),
        (9, 0.1, "h"),
    ]  # fmt: skip
    return changed_run(MODELS[0], made, FEW)


@pytest.mark.parametrize("line", ["", "z", "loss", "dWz", "Wz"])
@pytest.mark.parametrize("condition", [*CONDITIONS, "not (prev(grad_norm) > 0.1)", "epoch == 2 and not (prev(grad_norm) > 0.1)"])
def test_every_condition_stops_where_it_holds(changed_within, condition, line):
    session, run = changed_within
    places = [tick for tick in run.places("op") if tick <= session.end.tick]
    asked = Asked(line, condition)
    stop = asked.set_in(session)
    assert_stops(session, asked.stops_in(run, places))
    session.delete_stop(stop.id)


@pytest.fixture(scope="module")
def learning_throughout():
    return changed_run(MODELS[0], [(0, 0.0, "learning")], FEW)


@pytest.mark.parametrize("fixture", ["changed_within", "learning_throughout"])
@pytest.mark.parametrize("watch", EXPRESSIONS)
def test_every_watch_stops_where_it_changes(request, fixture, watch):
    session, run = request.getfixturevalue(fixture)
    asked = Asked(watch=watch)
    stops = asked.stops_in(run, [tick for tick in run.places("op") if tick <= session.end.tick])
    for known in ((), (4,), (9, 5)):  # what is known of some batch in between is the same
        stop = asked.set_in(session)
        session._tallies = None
        for batch in known:
            session.seek(batch * session.program.ticks)
            session.continue_()
        session.seek(session.end)
        found = [session.position.tick] if stops[-1:] == [session.end.tick] else []
        while session.reverse_continue():
            found.append(session.position.tick)
        assert found == stops[::-1]
        assert_stops(session, stops)
        session.delete_stop(stop.id)


def landing(run, places, level, count, here):
    """Where `count` steps lead if nothing is in their way."""
    ends = [tick for tick in run.places(level) if tick in places or tick <= places[-1]]
    if count > 0:
        return ([tick for tick in ends if tick > here] + [places[-1]] * count)[count - 1]
    before = [tick for tick in [0] * 9 + ends if tick < here] or [0]
    return ([0] * 9 + before)[count] if count else here


@given(
    model=st.sampled_from(MODELS), asked=st.lists(st.one_of(breakpoints, watches), min_size=1, max_size=3), learning=st.booleans()
)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_a_run_for_the_first_time_stops_where_one_seen_before_does(model, asked, learning):
    options, epochs = model
    session = Session(epochs=epochs, learning_rate=0.3, **options)
    session.learning = learning
    run = Run(session.config, ((0, "learning", True),) if learning else (), batches=epochs * session.config.num_batches + 1)
    places = [tick for tick in run.places("op") if tick <= session.end.tick]
    stops = sorted({tick for each in asked for tick in each.stops_in(run, places)})
    for each in asked:
        each.set_in(session)
    found = []
    while session.continue_():
        found.append(session.position.tick)
    assert found == stops
    assert session.position == session.end
    assert session.snapshot().hits == tuple(stops[-256:])


@given(
    model=st.sampled_from(MODELS),
    memory=st.sampled_from((FEW, SOME, ALL)),
    made=st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1, exclude_max=True), kinds), min_size=1, max_size=4),
    asked=st.lists(st.one_of(breakpoints, breakpoints, watches), min_size=1, max_size=2),
)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_branch_has_its_own_hits(model, memory, made, asked):
    options, epochs = model
    session, listed = begun(options, epochs, memory), []
    for each in asked:
        each.set_in(session)
    seen = {}
    for batch, part, kind in made:
        tick = session.seek(batch * session.program.ticks + int(part * session.program.ticks)).tick
        if changes := change(session, batch, part, kind):
            listed = [one for one in listed if one[0] <= tick] + changes
        run = stored(session, listed)
        places = [tick for tick in run.places("op") if tick <= session.end.tick]
        seen[session.branch] = sorted({tick for each in asked for tick in each.stops_in(run, places)})
        assert_stops(session, seen[session.branch])
        session.seek(session.end)
    for branch, stops in seen.items():
        session.switch(branch)
        assert_stops(session, stops)
