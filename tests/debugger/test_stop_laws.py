"""Breakpoints and watches, compared with an oracle that tests every place of a stored run."""

import atexit
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.debugger.models import MODELS
from tests.debugger.oracle import Run, conditions_for
from tests.debugger.plain import executed
from tests.extent import SOAK, examples
from tests.session.acting import timeline_of
from tui_gru.debugger import history as record_cache
from tui_gru.debugger import search as stop_search
from tui_gru.debugger.expressions import compile_condition, compile_expression
from tui_gru.debugger.stops import HitCount
from tui_gru.engine.config import Config
from tui_gru.errors import TuiGruError
from tui_gru.session.session import Session

EPOCHS = {
    "gru": 4,
    "gru after, reset": 4,
    "gru after, notebook, adam": 3,
    "lstm": 4,
    "both ways": 4,
    "own cell": 4,
    "one of each": 3,
}
CONFIGS = {name: Config.of(**MODELS[name]) for name in EPOCHS}
HITS = ("", "", "", "1", "5", ">3", ">=2", "<4", "<=2", "%2", "%5")
EXPRESSIONS = (
    "loss", "char[0]", "grad_norm", "dlogits", "prev(dlogits)", "max_weight", "epoch", "t", "loss < 1.3", "Wy", "y_hat[:1]",
    "y_hat[0, 0] * prev(dlogits)[0, 0]", "y[:epoch - 1]",
)  # fmt: skip
FEW, SOME, ALL = 0, 3000, 2**28  # bytes of history: two checkpoints, a few, every batch


@dataclass(frozen=True)
class Asked:
    """A breakpoint or watch as it is requested."""

    line: str = ""
    condition: str = ""
    hits: str = ""
    watch: str = ""

    def set_in(self, session):
        if self.watch:
            return session.watch(self.watch, stops=True)
        return session.break_at(self.line, condition=self.condition, hits=self.hits)

    def hits_in(self, run, places):
        """Return the ticks at which it is hit, in order."""
        names = run.names.all
        if self.watch:
            return list(changes_of(compile_expression(self.watch, names), run, places))
        condition = compile_condition(self.condition, names) if self.condition else None
        if self.line:
            at = [tick for tick in places if run.lines[(tick - 1) % run.N][1] == self.line]
            return [tick for tick in at if condition is None or run.holds(condition, tick)]
        return run.matches(condition, places)

    def stops_in(self, run, places):
        """Return the ticks at which it stops."""
        hits = self.hits_in(run, places)
        count = HitCount.parse(self.hits) if self.hits else None
        return [tick for n, tick in enumerate(hits, 1) if count is None or count.stops(n)]


def values(expression, run, places):
    """Yield (tick, value) where a name of the expression has just been computed and all of them are known."""
    for tick in places:
        if run.tests(expression.names, tick):
            value = expression.value(*run.readers(tick))
            if value is not None:
                yield tick, value


def changes_of(expression, run, places):
    last = None
    for tick, value in values(expression, run, places):
        if last is not None and not np.array_equal(last, value, equal_nan=isinstance(value, float)):
            yield tick
        last = value


def lines_of(config):
    """Return some lines of each pass and of the update, and every line of a state."""
    names = list(dict.fromkeys(line.name for line in executed(config)))
    return (*names[:: max(1, len(names) // 12)], *config.model.page.states, "loss", names[-1])


def expressions_of(config):
    page, kept = config.model.page, [f"{state}_{config.model.parameters[0]}" for state in config.model.rule.states]
    own = [text for state in page.states for text in (f"{state}[0, 0]", f"any({state} > prev({state}))", f"{state}[0, 0] - loss")]
    return (*EXPRESSIONS, *own, *kept, *(f"prev({name})[0]" for name in kept))


def stops_of(name):
    """Return breakpoints and watches that are valid for a model."""
    config = CONFIGS[name]
    breakpoints = st.builds(
        Asked,
        line=st.sampled_from(("", "", *lines_of(config))),
        condition=st.sampled_from(("", "", "1 < 2", "loss > 1e9", *conditions_for(config))),
        hits=st.sampled_from(HITS),
    ).filter(lambda asked: asked.line or asked.condition)
    return st.one_of(breakpoints, breakpoints, st.builds(Asked, watch=st.sampled_from(expressions_of(config))))


def cases(most):
    """Return (name of a model, its stops) of all cases."""
    return st.sampled_from(tuple(EPOCHS)).flatmap(
        lambda name: st.tuples(st.just(name), st.lists(stops_of(name), min_size=1, max_size=most))
    )


kinds = st.sampled_from(("learning", "learning", "rate", "Wy", "state", "once", "text"))
changes_made = st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1), kinds), max_size=5)


def begun(name, memory):
    with patch.multiple(record_cache, MOST=4):
        return Session(history_memory=memory, epochs=EPOCHS[name], **{"learning_rate": 0.3, **MODELS[name]})


def change(session, batch, part, kind):
    """Make a change at a place, or the most similar possible one; return it in the form for `Run`."""
    N = session.program.ticks
    tick = session.seek(batch * N + int(part * N)).tick
    try:
        if kind == "learning":
            session.learning = not session.learning
            return [(tick, "learning", session.learning)]
        if kind == "rate" and session.learning_rate != 0.5:
            session.learning_rate = 0.5
            return [(tick, "learning_rate", 0.5)]
        if kind in ("Wy", "state"):
            name = kind if kind == "Wy" else list(session.config.model.page.states)[-1]
            session.edit(name, (0, 0), 0.5 + part)
            return [(tick, name, (0, 0), 0.5 + part)]
        if kind == "text":
            session.edit("text", batch % 3, session.config.vocabulary[0])
            return [(tick, "text", batch % 3, session.config.vocabulary[0])]
        if kind == "once" and tick // N < session.end.number + 1:
            learns = timeline_of(session).learns(tick // N)
            session.sgd()
            return [] if learns else [(tick, "once", tick // N)]
    except TuiGruError:
        pass  # refused at this place
    return []


def stored(session, listed):
    return Run(session.config, tuple(listed), batches=session.end.number + 2)


def changed_run(name, made, memory):
    """Return a session at the end of a run with changes, and the same run stored."""
    session, listed = begun(name, memory), []
    for batch, part, kind in sorted(made):
        place = max(batch + part, session.position.tick / session.program.ticks)
        listed += change(session, int(place), place % 1, kind)
    session.seek(session.end)
    return session, stored(session, listed)


@given(
    case=cases(3),
    memory=st.sampled_from((FEW, SOME, ALL)),
    made=changes_made,
    block=st.sampled_from((3, 2**14)),
    data=st.data(),
)
@settings(max_examples=examples(20, soak=400), derandomize=True, suppress_health_check=list(HealthCheck))
def test_runs_stop_where_looking_at_every_place_says(case, memory, made, block, data):
    name, asked = case
    session, run = changed_run(name, made, memory)
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
    """Check that a session stops at all of these places in turn, and at no other, forwards and backwards."""
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


CHANGED_WITHIN = [
    (0, 0.2, "learning"), (2, 0.3, "state"), (2, 0.6, "Wy"), (3, 0.02, "learning"), (5, 0.27, "once"), (7, 0.01, "learning"),
    (8, 0.0, "rate"), (9, 0.1, "state"),
]  # fmt: skip
CONDITIONS = {
    "gru": (*conditions_for(CONFIGS["gru"]), "not (prev(grad_norm) > 0.1)", "epoch == 3 and not (prev(grad_norm) > 0.1)"),
    "lstm": conditions_for(CONFIGS["lstm"])[::4], "both ways": conditions_for(CONFIGS["both ways"])[::4],
}  # fmt: skip


@lru_cache
def run_of(name, *made):
    """Return a function that opens a run with changes within its batches, not all of which learn, the same run stored, and its
    places."""
    session, run = changed_run(name, made, FEW)
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    session.save(f"{folder.name}/run.tui-gru")

    def reopened():
        return Session.open(f"{folder.name}/run.tui-gru")

    return reopened, run, [tick for tick in run.places("op") if tick <= session.end.tick]


@pytest.mark.parametrize(("name", "condition"), [(name, each) for name, conditions in CONDITIONS.items() for each in conditions])
def test_every_condition_stops_where_it_holds(name, condition):
    reopened, run, places = run_of(name, *CHANGED_WITHIN)
    lines = lines_of(CONFIGS[name])[::5]
    chosen = lines if SOAK else (lines[len(condition) % len(lines)],)
    session = reopened()
    for line in ("", *chosen):
        asked = Asked(line, condition)
        stop = asked.set_in(session)
        assert_stops(session, asked.stops_in(run, places))
        session.delete_stop(stop.id)


CHANGES = {"changed within": CHANGED_WITHIN, "learning throughout": [(0, 0.0, "learning")]}
#: (model, watch, kind of run): every watch of either model with one kind of run, in turn; in the soak with both.
WATCHES = [
    (name, watch, kind)
    for number, name in enumerate(("gru", "lstm"))
    for i, watch in enumerate(expressions_of(CONFIGS[name]))
    for k, kind in enumerate(CHANGES)
    if SOAK or k == (number + i) % 2
]


@pytest.mark.parametrize(("name", "watch", "kind"), WATCHES)
def test_every_watch_stops_where_it_changes(name, watch, kind):
    reopened, run, places = run_of(name, *CHANGES[kind])
    asked = Asked(watch=watch)
    stops = asked.stops_in(run, places)
    for known in ((), (9, 5)):  # the cached data of some batch in between are the same
        session = reopened()
        asked.set_in(session)
        for batch in known:
            session.seek(batch * session.program.ticks)
            session.continue_()
        session.seek(session.end)
        found = [session.position.tick] if stops[-1:] == [session.end.tick] else []
        while session.reverse_continue():
            found.append(session.position.tick)
        assert found == stops[::-1]
        assert_stops(session, stops)


def landing(run, places, level, count, here):
    """Return the place that `count` steps reach if no stop is in between."""
    ends = [tick for tick in run.places(level) if tick in places or tick <= places[-1]]
    if count > 0:
        return ([tick for tick in ends if tick > here] + [places[-1]] * count)[count - 1]
    before = [tick for tick in [0] * 9 + ends if tick < here] or [0]
    return ([0] * 9 + before)[count] if count else here


@given(case=cases(3), learning=st.booleans())
@settings(max_examples=examples(20, soak=400), derandomize=True, suppress_health_check=list(HealthCheck))
def test_a_run_for_the_first_time_stops_where_one_seen_before_does(case, learning):
    name, asked = case
    epochs = EPOCHS[name]
    session = Session(epochs=epochs, learning_rate=0.3, **MODELS[name])
    session.learning = learning
    run = Run(session.config, ((0, "learning", learning),), batches=epochs * session.config.num_batches + 1)
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
    case=cases(2),
    memory=st.sampled_from((FEW, SOME, ALL)),
    made=st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1, exclude_max=True), kinds), min_size=1, max_size=4),
)
@settings(max_examples=examples(15, soak=300), derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_branch_has_its_own_hits(case, memory, made):
    name, asked = case
    session, listed = begun(name, memory), []
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
