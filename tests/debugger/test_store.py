"""Sessions that survive: what is opened again is the session that was saved, bit for bit, or a named error."""

import random
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tui_gru import Session, TuiGruError
from tui_gru.debugger import state_writer
from tui_gru.debugger.moment import readable_names
from tui_gru.debugger.segment import DivergedError
from tui_gru.debugger.session_file import (
    SessionFileError,
)

ROOT = Path(__file__).parents[2]
TEXT = "the cat sat on the mat; the rat sat"


def portrait(session):
    """Everything that can be read of a session, as something that compares bit for bit."""
    timeline = session._branches.timeline
    shown = session.snapshot()
    values = {name: bits(session.value(name)) for name in readable_names(session.config.reset)}
    return {
        "config": (session.config, shown.corpus.inputs.tobytes(), session.epochs, timeline.memory.budget.limit),
        "place": (session.position, session.newest, session.branch, session.branches, session._stride),
        "settings": (session.learning, session.learning_rate, session.stop_on_nan, session._settings.once),
        "values": values,
        "record": state_writer.pack_record(session._moment.record),
        "columns": [timeline.column(name, 0, 10**9).tobytes() for name in ("loss", "grad_norm", "max_weight")],
        "losses": shown.losses.tobytes(),
        "actions": [(segment.start, segment.actions) for segment in timeline.segments],
        "undo": (shown.can_undo, shown.can_redo, len(session._branches.done), len(session._branches.undone)),
        "samples": [(s.text, s.sampler, s.temperature, s.seed, [bits(d.y_hat) + str(d) for d in s.draws]) for s in session.samples],
        "kept": session.kept("marks"),
    }


def bits(value):
    return f"{value.dtype} {value.shape} {value.tobytes().hex()}" if isinstance(value, np.ndarray) else repr(value)


def assert_same(session, other):
    mine, theirs = portrait(session), portrait(other)
    for key, value in mine.items():
        assert theirs[key] == value, key


def act(session, rng):
    """One verb, at random. What makes no sense at this place is refused, as it is to a person."""
    level = rng.choice(["op", "timestep", "phase", "batch", "epoch"])
    verbs = [
        lambda: session.step(level, rng.choice([1, 1, 2, 3])),
        lambda: session.step(level, -rng.choice([1, 1, 2])),
        lambda: session.seek(rng.randrange(session.program.ticks * 9)),
        lambda: session.sgd(),
        lambda: setattr(session, "learning", not session.learning),
        lambda: setattr(session, "learning_rate", rng.choice([0.01, 0.5, 3])),
        lambda: session.edit("Wz", (rng.randrange(2), 1), rng.uniform(-2, 2)),
        lambda: session.edit(rng.choice(["h", "h_prev"]), (1, 0), rng.uniform(-1, 1)),
        lambda: session.edit("text", rng.randrange(5), rng.choice(session.config.vocabulary)),
        lambda: session.undo(),
        lambda: session.redo(),
        lambda: session.switch(rng.choice(session.branches)),
        lambda: session.sample(session.config.vocabulary[:2], 3, temperature=rng.choice([0, 1.0]), seed=rng.randrange(9)),
        lambda: session.run_back_until("loss < 1.3"),
        lambda: session.keep("marks", {"a": session.position.tick}),
    ]
    try:
        rng.choice(verbs)()
    except TuiGruError as error:
        assert not isinstance(error, (SessionFileError, DivergedError))


def acted(seed, count, **options):
    session, rng = Session(**options), random.Random(seed)
    for _ in range(count):
        act(session, rng)
    return session


OPTIONS = st.fixed_dictionaries(
    {
        "carry": st.sampled_from(["detach", "reset", "notebook"]),
        "dtype": st.sampled_from(["float32", "float64"]),
        "reset": st.sampled_from(["before", "after"]),
        "text": st.sampled_from([None, TEXT]),
        "epochs": st.sampled_from([None, 4]),
        "history_memory": st.sampled_from([1, 4000, 2**28]),
    }
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(OPTIONS, st.integers(0, 2**32), st.integers(0, 25))
def test_what_is_opened_is_what_was_saved_and_goes_on_alike(tmp_path_factory, options, seed, count):
    path = tmp_path_factory.mktemp("saved") / "a.tui-gru"
    session = acted(seed, count, **options)
    session.save(path)
    again = Session.open(path)
    assert_same(session, again)
    rng, twin = random.Random(seed + 1), random.Random(seed + 1)
    for _ in range(8):
        act(session, rng)
        act(again, twin)
    assert_same(session, again)
