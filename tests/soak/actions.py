"""Random actions on a session, each compared bit for bit with a plain run that stores everything.

python -m tests.soak.actions --count 1000000 --seed 0

The state machine is that of tests/session/test_session_laws.py, with more actions that change nothing: saving and opening,
questions, stops. A block has twenty sessions of fifty actions; Hypothesis reduces a failure to the shortest that it finds.
"""

from __future__ import annotations

import math
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from tests.debugger.deriving import assert_adds_up, walk
from tests.debugger.oracle import CONDITIONS, same
from tests.session.test_session_laws import SessionMachine
from tests.soak.blocks import run_blocks
from tui_gru import Session, TuiGruError
from tui_gru.debugger.expressions import compile_condition
from tui_gru.debugger.program import CHARACTERS, COUNTERS

SESSIONS, ACTIONS = 20, 50  # of a block
BLOCK = settings(
    max_examples=SESSIONS,
    stateful_step_count=ACTIONS,
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
LETTERS = "abC"


class SoakMachine(SessionMachine):
    """Also saves and opens the session, asks questions, stops and goes to marks; none of these changes the session."""

    actions = 0

    @invariant()
    def is_counted(self) -> None:
        SoakMachine.actions += 1

    @rule()
    def save_and_open(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "soak.tui-gru"
            self.session.save(path)
            self.session = Session.open(path)

    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        """Ask for the origin of a number, and for the effect of another value."""
        names = [name for name in self.session.program.names if name not in (*COUNTERS, *CHARACTERS)]
        name = data.draw(st.sampled_from([name for name in names if self.session.value(name) is not None]))
        value = self.session.value(name)
        index = tuple(data.draw(st.integers(0, size - 1)) for size in np.shape(value))
        node = self.session.explain(name, index)
        assert same(node.value, float(np.asarray(value)[index]))
        if all(math.isfinite(each.value) for each in walk(node, 1)):
            assert_adds_up(node, 1, self.config.dtype)
        with suppress(TuiGruError):  # not tested here: test_what_if has the properties of what-if
            self.session.what_if(name, index, 0.5)

    @rule(source=st.sampled_from(CONDITIONS), forwards=st.booleans())
    def stop(self, source: str, forwards: bool) -> None:
        """Run to a temporary breakpoint."""
        condition = compile_condition(source, self.session.program.spellings)
        places = self.run.places("op")
        if forwards:
            found = self.run.matches(condition, [tick for tick in places if self.tick < tick <= self.end])
            if not found and self.epochs is None:
                return
        else:
            found = self.run.matches(condition, [tick for tick in places if tick < self.tick])
        stop = self.session.break_at("", condition=source)
        run = self.session.continue_ if forwards else self.session.reverse_continue
        assert run(progress=self.not_too_far) == bool(found)
        self.session.delete_stop(stop.id)
        if forwards:
            self.go(found[0] if found else self.end)
        else:
            self.go(found[-1] if found else 0)

    @rule(letter=st.sampled_from(LETTERS))
    def mark_and_jump(self, letter: str) -> None:
        self.session.mark(letter)
        self.session.jump(letter)
        self.go(self.tick)

    @precondition(lambda self: self.session.state.branches.done)
    @rule()
    def compare(self) -> None:
        """Compare with another branch, and end the comparison."""
        others = [name for name in self.session.branches if name != self.session.branch]
        if others:
            self.session.compare(others[-1])
            self.session.compare(None)


def block(number: int) -> int:
    """Run the sessions of one block. Returns the number of actions."""
    SoakMachine.actions = 0
    run_state_machine_as_test(seed(number)(SoakMachine), settings=BLOCK)
    return SoakMachine.actions


if __name__ == "__main__":
    run_blocks(__doc__ or "", "actions", 10**6, block)
