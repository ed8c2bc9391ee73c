"""Sessions at the moments at which the panels are tested."""

from dataclasses import replace
from functools import cache

from tui_gru.debugger.state import Marks
from tui_gru.session.session import Session

#: Blanks, newlines, tabs, brackets like markup, wide and combining characters, and one of width 0.
HARD_TEXT = ("Ein 日本語 [b]text[/] 😀 with\nnew\tlines (and) e\u0301 zero\u200bwidth; " + "".join(map(chr, range(33, 90)))) * 12


def tutorial(**options):
    return Session(**options)


def large(**options):
    return Session(**{"text": HARD_TEXT, "hidden_size": 64, "batch_size": 8, "seq_length": 16, **options})


@cache
def at(target, t=None, batch=0, make=tutorial, learning=True, **options):
    """Return the snapshot just after the line that computes `target`, in timestep `t` (0-based; by default the last) of a batch."""
    session = make(**options)
    session.learning = learning
    session.seek(batch * session.program.ticks + session.program.tick_of(target, t))
    return session.snapshot()


@cache
def start(make=tutorial, **options):
    return make(**options).snapshot()


def every_line(make=tutorial, **options):
    """Yield snapshots after each line of the second batch, learning; of the timesteps only the first two."""
    session = make(**options)
    session.learning = True
    session.step("batch")
    for _ in range(session.program.ticks):
        session.step("op")
        if session.position.t < 2 or session.position.phase not in ("forward", "backward"):
            yield session.snapshot()


def on_every_size(snapshots, sizes):
    """Snapshots, each with one of the sizes, such that every line is on all of them, in one timestep or another."""
    of_lines = {}
    for snapshot in snapshots:
        of_lines.setdefault(snapshot.line.text, []).append(snapshot)
    for same_line in of_lines.values():
        for n, size in enumerate(sizes):
            yield same_line[n % len(same_line)], size


def numbers_in(array, write):
    """Return all entries of an array as they are written."""
    return [write(x).strip() for x in array.ravel()]


def with_state(snapshot, *, log=(), hits=(), marks=(), **changes):
    """Return a snapshot whose state has these marks, and these lines and ticks of its branch, which keeps them up to its newest
    tick; and `changes`, such as `stops`."""
    state = snapshot.state
    newest = max((*hits, *(line.tick for line in log)), default=0)
    kept = {"log": {state.branch: tuple(log)}, "hits": {state.branch: tuple(hits)}, "marks": Marks({m.letter: m for m in marks})}
    return replace(snapshot, state=state.replaced(branches=state.branches.reached(newest), **kept, **changes))
