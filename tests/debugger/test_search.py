"""Searches find the same places as a test at every place, in both directions, in the order of time."""

from functools import lru_cache
from unittest.mock import patch

import pytest

from tests.debugger.models import MODELS
from tests.debugger.oracle import Run, conditions_for
from tests.extent import SOAK
from tests.session.acting import timeline_of
from tui_gru.debugger import history as record_cache
from tui_gru.debugger.expressions import ConditionError, compile_condition
from tui_gru.debugger.position import position_of
from tui_gru.debugger.search import BatchColumns, HitCounter, scalars_of
from tui_gru.debugger.stops import Breakpoint, HitCounts, Hits, resolve
from tui_gru.engine.config import Config
from tui_gru.session.session import Session

BATCHES = 14
#: For each model, every n-th condition is searched for.
SAMPLED = {"gru": 1, "gru after, notebook, adam": 3, "lstm": 3, "both ways": 2, "one of each": 4}
KINDS = ("changed", "unchanged")
NAN = {"learning_rate": 3e38}


def changed(model):
    """Return a run with changes within its batches, not all of which learn, and the same run stored."""
    with patch.multiple(record_cache, MOST=4):
        session = Session(history_memory=0, **{"learning_rate": 0.3, **model})
    N, changes = session.program.ticks, []

    def change(tick, *what):
        tick = session.seek(tick).tick
        changes.append((tick, *what))
        return tick

    change(N // 5, "learning", True)
    session.learning = True
    change(2 * N + session.program.loss_tick + 3, "Wy", (0, 0), 1.5)
    session.edit("Wy", (0, 0), 1.5)
    change(3 * N + 2, "learning", False)
    session.learning = False
    change(5 * N + session.program.loss_tick, "once", 5)
    session.sgd()
    change(7 * N + 1, "learning", True)
    session.learning = True
    change(8 * N, "learning_rate", 1.0)
    session.learning_rate = 1.0
    session.seek(BATCHES * N)
    return session, Run(session.config, tuple(changes), batches=BATCHES)


def unchanged(model):
    """Return a run that learns from the beginning, and the same run stored."""
    with patch.multiple(record_cache, MOST=4):
        session = Session(history_memory=0, **{"learning_rate": 0.3, **model})
    session.learning = True
    session.seek(BATCHES * session.program.ticks)
    return session, Run(session.config, ((0, "learning", True),), batches=BATCHES)


def asked():
    """Yield (model, kind of run, condition), some for each model."""
    for name, every in SAMPLED.items():
        conditions = conditions_for(Config.of(**MODELS[name]))
        for i, source in enumerate(conditions[::every]):
            for kind in KINDS if SOAK else (KINDS[i % 2],):
                yield name, kind, source


@lru_cache
def run_of(name, kind):
    """Return the session and the same run stored."""
    return {"changed": changed, "unchanged": unchanged}[kind](MODELS[name])


@pytest.mark.parametrize(("name", "kind", "source"), list(asked()))
def test_every_place_where_it_holds_is_found_in_turn(name, kind, source):
    session, stored = run_of(name, kind)
    expected = stored.matches(compile_condition(source, stored.names.all), stored.places("op"))
    ways = [_forward, _backward]
    for way in ways if len(source) % 2 else ways[::-1]:  # the second search uses the result of the first
        way(session, source, expected)


def _forward(session, source, expected):
    end, found = session.newest, []
    session.seek(0)
    while session.position < end and len(found) < len(expected) and session.run_until(source):
        found.append(session.position.tick)
    assert found == expected
    session.seek(end)


def _backward(session, source, expected):
    session.seek(session.newest)
    found = expected[-1:] if expected[-1:] == [session.newest.tick] else []
    while session.run_back_until(source):
        found.append(session.position.tick)
    assert found == expected[::-1]
    assert session.position.tick == 0


@pytest.mark.parametrize(("name", "kind", "source"), list(asked())[:: 1 if SOAK else 3])
def test_whole_records_tell_what_places_tell(name, kind, source):
    """Columns of scalars and of whole records are optimisations; a test of each place in turn finds the same hits."""
    session, _ = run_of(name, kind)
    timeline, stop = timeline_of(session), resolve(Breakpoint(1, condition=source), session.program)
    if stop.plain:  # a condition that reads no names is not tested
        return

    def hits_of(batch, *, scalar):
        counter = HitCounter(stop, timeline, HitCounts(), scalars_of(timeline), stops_runs=True)
        counter.scalar = counter.scalar and scalar
        counter.fill(batch, batch)
        if not counter.is_counted(batch):
            counter.see(batch, timeline.record(batch))
            counter.test_waiting()
        (count,) = counter.hits.counts(batch, batch).tolist()
        hits = counter.hits_in(batch) if count or counter.hits.failed(batch, batch) else Hits(batch)
        assert count == len(hits.ticks)
        return hits.ticks, [(tick, str(error)) for tick, error in hits.errors]

    for batch in range(BATCHES):
        with patch.object(BatchColumns, "of", lambda *_: None):
            expected = hits_of(batch, scalar=False)
        assert hits_of(batch, scalar=False) == expected
        assert hits_of(batch, scalar=True) == expected


@pytest.mark.parametrize("source", ["isnan(loss)", "not (loss < 9)", "any(isnan(h))", "isnan(grad_norm)", "grad_norm != grad_norm"])
def test_what_is_not_a_number_can_be_looked_for(source):
    session = Session(epochs=3, **NAN)
    session.learning = True
    run = Run(session.config, ((0, "learning", True),), batches=9)
    expected = run.matches(compile_condition(source, run.names.all), run.places("op"))
    assert session.run_until(source)
    assert session.position.tick == expected[0]
    session.seek(session.end)
    assert session.run_back_until(source)
    assert session.position.tick == [tick for tick in expected if tick < session.end.tick][-1]


def test_a_gradient_that_is_not_there_is_not_nan():
    session = Session(epochs=3)
    assert not session.run_until("isnan(grad_norm) or not (grad_norm < 9)")
    assert session.position == session.end
    assert not session.run_back_until("isnan(grad_norm) or not (grad_norm < 9)")
    assert session.position.tick == 0


@pytest.mark.parametrize("source", ["loss < 0", "any(z > 2)", "loss < 0 and any(z > 2)"])
def test_what_is_nowhere_leads_to_the_end_and_the_beginning(source):
    session = Session(epochs=4)
    session.step("op", 5)
    assert not session.run_until(source)
    assert session.position == session.end
    assert not session.run_until(source)
    assert not session.run_back_until(source)
    assert session.position.tick == 0


def test_where_it_cannot_be_evaluated_is_where_it_stops():
    source = "any(z[epoch - 1] > 9)"  # there are two rows
    session = Session(epochs=4)
    with pytest.raises(ConditionError, match="column 7"):
        session.run_until(source)
    assert (session.position.epoch, session.position.batch, session.position.t) == (2, 0, 0)
    assert session.value("z") is not None
    session.seek(session.end)
    with pytest.raises(ConditionError, match="column 7"):
        session.run_back_until(source)
    assert (session.position.epoch, session.position.batch, session.position.t) == (3, 2, 2)


@pytest.mark.parametrize(
    ("source", "first", "last"),
    [
        ("any(prev(z)[epoch - 1] > 9)", (2, 0, 0), (3, 2, 2)),
        ("prev(loss) > 0 and any(prev(z)[epoch - 1] > 9)", (2, 0, 0), (3, 2, 2)),
        ("prev(loss) > 0 and any(z[epoch - 1] > 9)", (2, 0, 0), (3, 2, 2)),
        ("epoch == 3 and any(z[epoch - 1] > 9)", (2, 0, 0), (2, 2, 2)),
    ],
)
@pytest.mark.parametrize("run_before", [False, True])
def test_what_was_before_that_cannot_be_evaluated_is_where_it_stops(source, first, last, run_before):
    session = Session(epochs=4)
    session.learning = True
    if run_before:
        session.seek(session.end)
        session.seek(0)
    with pytest.raises(ConditionError):
        session.run_until(source)
    assert (session.position.epoch, session.position.batch, session.position.t) == first
    session.seek(session.end)
    with pytest.raises(ConditionError):
        session.run_back_until(source)
    assert (session.position.epoch, session.position.batch, session.position.t) == last


def test_a_search_is_interrupted_at_a_whole_place():
    session = Session()
    session.learning = True
    assert not session.run_until("any(z > 2)", progress=lambda at: session.interrupt() if at.number == 90 else None)
    here = session.position
    assert here == session.newest
    assert here.tick % session.program.ticks == 0
    assert not session.run_back_until("any(z > 3)", progress=lambda at: session.interrupt() if at.number == 20 else None)
    assert 0 < session.position.tick < here.tick
    assert session.position.tick % session.program.ticks == 0


def test_searching_changes_nothing_of_the_training():
    session, plain = Session(), Session()
    for each in (session, plain):
        each.learning = True
    session.run_until("loss < 1.2 and any(z > prev(z))")
    session.run_back_until("any(dWz > 0)")
    session.seek(102 * 90)
    plain.seek(102 * 90)
    assert (session.parameter("Wz") == plain.parameter("Wz")).all()
    assert (session.snapshot().losses[:90] == plain.snapshot().losses).all()


@pytest.mark.parametrize(("condition", "held"), [("1 < 2", True), ("True", True), ("1 > 2", False), ("9**9**9 < 1", False)])
@pytest.mark.parametrize("learning", [False, True])
def test_a_condition_that_reads_nothing_is_tested_at_every_batch(condition, held, learning):
    session = Session(epochs=2)
    session.learning = learning
    session.step("timestep")
    begun = session.position
    assert session.run_until(condition) is held
    assert session.position == (position_of(session.program, session.program.ticks + 1) if held else session.end)
    session.seek(begun)
    assert session.run_back_until(condition) is held
    assert session.position.tick == (1 if held else 0)
