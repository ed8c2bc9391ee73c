"""Imported runs under random actions: a position shows the same after moving away and back."""

import random
from contextlib import suppress

import numpy as np
import pytest

from tests.session.test_imported_derivations import of_a_file, of_a_module, of_a_recording, of_another_convention, of_tokens
from tui_gru import TuiGruError

ACTIONS = 50


def one(session, r):
    """Do a random action."""
    name = r.choice(session.program.readable)
    index = tuple(r.randrange(3) for _ in session.program.names[name].axes)
    lines = [line.target for block in session.program.blocks for line in block.lines]
    r.choice(
        [
            lambda: session.step(r.choice(["op", "timestep", "phase", "batch", "epoch"]), r.choice([1, 2, -1, -3])),
            lambda: session.seek(r.randrange(session.end.tick + 20)),
            lambda: session.edit(name, index, r.choice([0.5, -2.0, 1e30])),
            session.undo,
            session.redo,
            lambda: session.what_if(name, index, 0.25, t=r.choice([None, 0, 1])),
            lambda: session.run_until(f"any({name} > {r.choice([0, 0.1, -1])})"),
            lambda: session.run_back_until(f"any({name} < {r.choice([0, 0.1, -1])})"),
            lambda: session.explain(name, index),
            session.snapshot,
            lambda: session.switch(r.choice(session.branches)),
            session.run_to_not_finite,
            lambda: (session.break_at(r.choice(lines), condition=r.choice(["", "t == 2"])), session.continue_()),
            session.reverse_continue,
            lambda: setattr(session, "learning", r.choice([True, False])),
        ]
    )()


@pytest.mark.parametrize("make", [of_a_file, of_another_convention, of_tokens, of_a_module, of_a_recording])
@pytest.mark.parametrize("seed", range(4))
def test_a_place_is_what_it_was(tmp_path, make, seed):
    session, r = make(tmp_path), random.Random(seed)
    for _ in range(ACTIONS):
        with suppress(TuiGruError):  # and no other error
            one(session, r)
        if r.random() < 0.2:
            here, was = session.position, {name: session.value(name) for name in session.program.readable}
            session.seek(0)
            session.seek(session.end)
            session.seek(here)
            assert session.position == here
            for name, value in was.items():
                now = session.value(name)
                assert (value is None) == (now is None), name
                assert value is None or np.array_equal(np.asarray(value), np.asarray(now), equal_nan=True), name
