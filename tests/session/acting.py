"""Sessions driven by random actions, and everything that can be read from them; for the tests of session files."""

import json
import os
import random
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from tests.debugger.models import MODELS
from tui_gru import Session, TuiGruError
from tui_gru.debugger.history import DivergedError
from tui_gru.storage import file as session_file
from tui_gru.storage.file import SessionFile, SessionFileError

ROOT = Path(__file__).parents[2]

TEXT = "the cat sat on the mat; the rat sat"

OPTIONS = {"model": list(MODELS.values()), "epochs": [None, 4], "history_memory": [1, 4000, 2**28]}


@contextmanager
def untouched(path):
    """Check that the file and the files beside it are the same after the block."""
    before = {each.name: each.read_bytes() for each in path.parent.iterdir() if each.is_file()}
    yield
    assert {each.name: each.read_bytes() for each in path.parent.iterdir() if each.is_file()} == before


def altered(path, key, change):
    """Change a fact in a session file in place and update its hash. `change` is a function of the fact, or its new text."""
    with closing(session_file.connect(path, "rw")) as connection:
        file = SessionFile(path, connection)
        fact = json.loads(file.fact(key))
        file.put_fact(key, change if isinstance(change, str) else json.dumps(change(fact)))


@contextmanager
def read_only(folder):
    """Make the folder read-only; a test that runs as root uses another user for the block."""
    root = os.geteuid() == 0
    folder.chmod(0o555)
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


def timeline_of(session):
    """The branch that a session is on, as a timeline."""
    return session.anchor().timeline


def portrait(session):
    """Return everything that can be read from a session, in a form that compares bit for bit."""
    timeline, state = timeline_of(session), session.state
    shown = session.snapshot()
    return {
        "config": (session.config, shown.corpus.inputs.tobytes(), session.epochs, timeline.memory.budget.limit),
        "forks": repr(shown.forks),  # losses that are NaN differ from themselves
        "place": (session.position, session.newest, session.branch, session.branches, state.stride),
        "settings": (session.learning, dict(shown.settings.rule), session.stop_on_nan),
        "values": {name: bits(session.value(name)) for name in session.program.readable},
        "record": pack_record(shown.record),
        "columns": [timeline.column(name, 0, 10**9).tobytes() for name in ("loss", "grad_norm", "max_weight")],
        "losses": np.asarray(shown.losses).tobytes(),
        "actions": [(segment.start, segment.action, segment.settings.once) for segment in timeline.segments],
        "undo": (len(state.branches.done), len(state.branches.undone)),
        "samples": [(s.text, s.sampler, s.temperature, s.seed, [bits(d.y_hat) + str(d) for d in s.draws]) for s in session.samples],
        "kept": session.kept("marks"),
        "left behind": (shown.hits, shown.log),
        "stops": (state.stops, state.marks, state.last_condition, state.left, state.compared),
    }


def pack_record(record):
    """Return the contents of a record as bytes."""
    schedule = record.compiled.schedule
    phases = [schedule.phases[name] for name in ("forward", "backward")[: 1 + record.learned]]
    there = {id(operation) for phase in phases for operation in phase.operations}
    named = {name: operation for name, operation in schedule.named.items() if id(operation) in there}
    slots = {name: record.slot(each.memory, each.half) for name, each in named.items() if each.memory.kind != "parameter"}
    weights = [each.tobytes() for each in (record.before, record.after)] + [record.gradients and record.gradients.tobytes()]
    numbers = dict(record.settings), record.loss, record.grad_norm, record.max_weight, dict(record.numbers)
    return {name: bits(array) for name, array in slots.items()}, weights, repr(numbers)


def bits(value):
    return f"{value.dtype} {value.shape} {value.tobytes().hex()}" if isinstance(value, np.ndarray) else repr(value)


def assert_same(session, other):
    mine, theirs = portrait(session), portrait(other)
    for key, value in mine.items():
        assert theirs[key] == value, key


def act(session, rng):
    """Run exactly one random command. A command that is not possible at this position is refused, as it is on the screen."""
    level, program = rng.choice(["op", "timestep", "phase", "batch", "epoch"]), session.program
    state, weights = rng.choice(list(program.model.page.states)), rng.choice(program.parameters)
    before, shape = program.model.page.before(state), session.parameter(weights).shape
    verbs = [
        lambda: session.step(level, rng.choice([1, 1, 2, 3])),
        lambda: session.step(level, -rng.choice([1, 1, 2])),
        lambda: session.seek(rng.randrange(session.program.ticks * 9)),
        session.sgd,
        lambda: setattr(session, "learning", not session.learning),
        lambda: setattr(session, "learning_rate", rng.choice([0.01, 0.5, 3])),
        lambda: session.edit(weights, tuple(map(rng.randrange, shape)), rng.uniform(-2, 2)),
        lambda: session.edit(rng.choice([state, before]), (0, 0), rng.uniform(-1, 1)),
        lambda: session.edit("text", rng.randrange(5), rng.choice(session.config.vocabulary)),
        session.undo,
        session.undo,
        session.undo,
        session.redo,
        session.redo,
        lambda: session.switch(rng.choice(session.branches)),
        lambda: session.rename_branch(rng.choice(session.branches), rng.choice(["warm", "cold", "main", "main~1"])),
        lambda: session.delete_branch(rng.choice(session.branches)),
        lambda: session.sample(session.config.vocabulary[:2], 3, temperature=rng.choice([0, 1.0]), seed=rng.randrange(9)),
        lambda: session.run_back_until(rng.choice(["loss < 1.3", "loss < 1.2"])),
        lambda: session.keep("marks", {"a": session.position.tick}),
        lambda: session.mark(rng.choice("abC")),
        lambda: session.jump(rng.choice("abC'")),
        lambda: session.break_at(
            rng.choice([state, "loss", f"d{weights}"]), condition=rng.choice(["", f"any({state} > 0.8)"]), hits="%7"
        ),
        lambda: session.break_at(rng.choice([state, "loss"]), log=f"{{loss:.3f}} {{{state}[0, 0]}}", hits=rng.choice(["", "%5"])),
        lambda: session.watch("loss > 1.4", stops=True),
        lambda: session.delete_stop(rng.choice(session.stops.all).id if session.stops.all else 1),
        session.reverse_continue,
    ]
    try:
        rng.choice(verbs)()
    except (SessionFileError, DivergedError):
        raise
    except TuiGruError:
        pass


def acted(seed, count, *, model=None, **options):
    session, rng = Session(**(model or {}), **options), random.Random(seed)
    for _ in range(count):
        act(session, rng)
    return session


def act_for_ever(path, seed):
    """Record a session driven at random, and print after each command how many there have been."""
    session, rng, count = Session(), random.Random(seed), 0
    session.record_to(path)
    while True:
        sys.stdout.write(f"{count}\n")  # in one write, so that a kill cannot separate the number from the end of its line
        sys.stdout.flush()
        act(session, rng)
        count += 1


def acts_for_ever(folder):
    """Run `act_for_ever` in a new process for each seed that is read from standard input, after printing the process's id."""
    for line in sys.stdin:
        child = os.fork()
        if not child:
            print(os.getpid(), flush=True)
            act_for_ever(Path(folder) / f"{int(line)}.tui-gru", int(line))
        os.waitpid(child, 0)
        print("gone", flush=True)


def assert_every_level_leads_through_and_back(session, *levels):
    """Check that steps of each level go from the beginning to the end, and back through the same places."""
    for level in levels:
        session.seek(0)
        places = [session.position]
        while session.position != session.end:
            places.append(session.step(level))
        assert places == sorted(set(places)), level
        for place in reversed(places[:-1]):
            assert session.step(level, -1) == place, level
