"""Where two branches first differ and by how much, compared with their records and losses."""

from __future__ import annotations

import numpy as np
import pytest

from tests.debugger import models
from tui_gru import Session, TuiGruError
from tui_gru.analysis.what_if import BranchSamples
from tui_gru.engine.sampling import sample_text

MODELS = models.parametrize("gru", "gru after, reset", "gru after, notebook, adam", "lstm", "both ways", argument="options")
BATCHES = 9


def forked(change, place, **options):
    """Return a session on a branch that a change separates from `main` at a place. `change` may move on to its line."""
    session = Session(**options)
    session.learning = True
    session.step("batch", BATCHES)
    session.seek(place)
    change(session)
    session.seek(BATCHES * session.program.ticks)
    assert session.branch == "main~1"
    return session


def value_on(session, branch, name, t, batch):
    """Return a value on a branch at the end of a batch."""
    here = session.branch
    session.switch(branch)
    session.seek((batch + 1) * session.program.ticks)
    found = session.snapshot().value(name, t)
    session.switch(here)
    return np.asarray(found)


@MODELS
def test_a_changed_weight_is_the_first_difference_and_then_a_line_that_reads_it(options):
    def change(session):
        name = session.program.parameters[0]
        session.edit(name, (0,) * np.ndim(session.parameter(name)), 0.123)

    session = forked(change, "e2 b1", **options)
    apart = session.apart()
    first, name = apart.first, session.program.parameters[0]
    assert (apart.name, apart.other, first.found.name, first.found.entries) == ("main~1", "main", name, 1)
    assert first.found.mine == np.asarray(0.123, session.config.dtype)
    assert first.found.theirs == value_on(session, "main", name, None, first.batch - 1)[first.found.index]
    made = first.computed
    assert made.name in {*session.program.lines, *session.program.parts}
    one, other = (value_on(session, branch, made.name, made.t, first.batch) for branch in ("main~1", "main"))
    assert (one[made.index], other[made.index]) == (made.mine, made.theirs)
    assert np.abs(one - other).max() == abs(made.mine - made.theirs)
    assert made.entries == (one != other).sum()


def test_a_changed_value_is_what_its_line_computed():
    session = forked(lambda s: (s.run_to("z"), s.edit("z", (0, 1), 0.9)), "e2 b2 t2")
    first = session.apart().first
    assert first.found is None
    assert (first.batch, first.computed.name, first.computed.t, first.computed.index) == (4, "z", 2, (0, 1))
    session.seek(first.computed.tick)
    assert session.position.line.target == "z"


def test_another_learning_rate_differs_first_in_the_update():
    session = forked(lambda s: s.edit("learning_rate", (), 0.5), "e2 b2 t2")
    first = session.apart().first
    assert first.computed.name == next(iter(session.program.update)).target
    session.seek(first.computed.tick)
    assert (session.position.number, session.position.phase) == (4, "update")


def test_a_changed_character_is_the_first_difference():
    session = forked(lambda s: s.edit("text", (7,), "M"), "e2 b1 t1")
    first = session.apart().first
    assert first.found.name in ("x", "y")
    assert first.computed.tick >= first.found.tick


def test_where_one_alone_learns_it_is_said():
    session = Session()
    session.learning = True
    session.step("batch", 6)
    session.seek("e2 b1 t2")
    session.learning = False
    session.step("batch", 1)
    first = session.apart().first
    assert (first.batch, first.entry, first.learns) == (3, None, "theirs")
    session.switch("main")
    assert session.apart("main~1").first.learns == "mine"


def test_branches_that_differ_in_nothing_yet_are_the_same():
    session = forked(lambda s: s.edit("text", (19,), "a"), "e1 b1 t1")  # which no batch reads
    assert session.apart().first is None
    session = Session()
    session.learning = True
    session.step("batch", 3)
    session.seek("e1 b2 t1")
    session.edit("learning_rate", (), 0.5)
    apart = session.apart()
    assert (apart.first, apart.here.difference) == (None, 0)
    assert apart.parted == session.position.tick


def test_the_losses_furthest_apart_are_found_in_the_whole_run():
    session = forked(lambda s: s.edit("Wh", (3, 0), -1.5), "e2 b1")
    mine = np.array([*session.snapshot().losses])
    session.switch("main")
    theirs = np.array([*session.snapshot().losses])
    session.switch("main~1")
    apart = session.apart()
    at = int(np.argmax(np.abs(mine - theirs)))
    assert (apart.furthest.batch, apart.furthest.mine, apart.furthest.theirs) == (at, mine[at], theirs[at])
    assert apart.here.difference == mine[-1] - theirs[-1]


def test_a_loss_that_is_not_finite_on_one_branch_is_furthest_apart():
    session = forked(lambda s: s.edit("learning_rate", (), 1e38), "e2 b1")
    assert not np.isfinite(session.apart().furthest.difference)


def test_samples_are_of_the_weights_of_this_moment():
    session = forked(lambda s: [s.edit("by", (i,), 9.0 * (i == 1)) for i in range(4)], "e2 b1")
    found = session.apart().samples
    drawn = sample_text(session.config, session.snapshot().moment.weights, "Ma", len(found.mine), temperature=0)
    assert found.primer + found.mine == drawn.text
    assert found.first is not None
    assert found.count == sum(one != other for one, other in zip(found.mine, found.theirs, strict=True))
    assert BranchSamples("a", "bc", "bc").first is None


def test_asking_changes_nothing_and_says_what_is_no_branch():
    session = forked(lambda s: s.edit("Wh", (3, 0), -1.5), "e2 b1")
    here, samples = session.position, session.samples
    session.apart()
    assert (session.position, session.branch, session.samples) == (here, "main~1", samples)
    for name in ("other", "main~1"):
        with pytest.raises(TuiGruError, match="there is no other branch"):
            session.apart(name)
    with pytest.raises(TuiGruError, match="only this branch"):
        Session().apart()
