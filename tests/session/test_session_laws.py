"""A session under random actions, compared bit for bit with a plain run that stores everything."""

import itertools
from contextlib import nullcontext
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from tests.debugger import models
from tests.debugger.models import MODELS
from tests.debugger.oracle import Run, assert_shows, conditions_for, everything, same
from tests.extent import examples
from tui_gru.debugger import history as record_cache
from tui_gru.debugger.expressions import compile_condition
from tui_gru.debugger.position import position_of
from tui_gru.debugger.search import TOGETHER
from tui_gru.errors import TuiGruError
from tui_gru.session.session import ALIASES, Session

BATCHES = 12  # the number of batches that the model follows
LEVELS = ("op", "timestep", "phase", "batch", "epoch")
FEW, SOME, ALL = 0, 3000, 2**28  # bytes of history: two checkpoints, a few, every batch


@dataclass(frozen=True)
class Line:
    """A branch in the model: its changes, the last place reached, and its stretches, each with its first tick and a number."""

    changes: tuple
    newest: int
    stretches: tuple = ((0, 0),)


class SessionMachine(RuleBasedStateMachine):
    """Drives a session and a model of it, which finds positions by counting and values by running everything again."""

    @initialize(
        model=st.sampled_from(tuple(MODELS)),
        memory=st.sampled_from((FEW, SOME, ALL)),
        at_hand=st.sampled_from((4, 64)),
        epochs=st.sampled_from((None, None, 2)),
    )
    def begin(self, model, memory, at_hand, epochs):
        with patch.multiple(record_cache, MOST=at_hand):
            self.session = Session(**MODELS[model], learning_rate=0.3, history_memory=memory, epochs=epochs)
        self.config, self.epochs = self.session.config, epochs
        self.runs = {}
        self.branches, self.branch = {"main": Line((), 0)}, "main"
        self.tick, self.walk = 0, None
        self.done, self.undone = [], []
        self.made = 0
        self.kept = []

    # The model

    @property
    def run(self):
        return self._run(self.branches[self.branch].changes)

    def _run(self, changes):
        if changes not in self.runs:
            self.runs[changes] = Run(self.config, changes, batches=BATCHES + 1)
        return self.runs[changes]

    @property
    def end(self):
        """The end of the run, or the place up to which the model follows it."""
        if self.epochs is not None:
            return self.run.places("epoch")[self.epochs - 1]
        return max(place for place in self.run.places("batch") if place <= BATCHES * self.run.N)

    def go(self, tick):
        """Go to the last place at or before `tick`."""
        places, limit = self.run.places("op"), min(tick, self.end)
        self.tick = max((place for place in places if place <= limit), default=0)
        line = self.branches[self.branch]
        self.branches[self.branch] = replace(line, newest=max(line.newest, self.tick))
        self.walk = None

    def not_too_far(self, position):
        assert position.tick <= (BATCHES + TOGETHER) * self.run.N

    def change(self, *change):
        line, source = self.branches[self.branch], self.branch
        forks = self.tick < line.newest
        if forks:
            root = self.branch.split("~")[0]
            self.branch = next(name for i in itertools.count(1) if (name := f"{root}~{i}") not in self.branches)
        self.done.append((source, self.branch, self.tick, None if forks else line))
        self.undone = []
        changes = (*(c for c in line.changes if c[0] <= self.tick), (self.tick, *change))
        self.made += 1
        stretches = (*(stretch for stretch in line.stretches if stretch[0] < self.tick), (self.tick, self.made))
        self.branches[self.branch] = Line(changes, self.tick, stretches)
        self.walk = None

    # Moving

    @rule(level=st.sampled_from(LEVELS), count=st.one_of(st.integers(-4, 6), st.integers(-60, 60)))
    def step(self, level, count):
        self._step(level, count)

    @rule(level=st.sampled_from(LEVELS), counts=st.lists(st.integers(-3, 9), min_size=1, max_size=3))
    def there_and_back(self, level, counts):
        origin, seen = self.session.position, everything(self.session)
        self._step(level, 0)
        self.walk = None
        self.session.seek(self.session.position)
        moved = [self._step(level, count) for count in counts]
        if all(moved):
            self.session.step(level, -sum(counts))
            assert self.session.position == origin
            assert all(same(value, seen[key]) for key, value in everything(self.session).items())
            self.go(origin.tick)
            self.session.seek(origin)
            self.walk = None

    def _step(self, level, count):
        """Step, and return True if the complete step was possible."""
        walk = self.walk
        if walk is None or walk[0] != level or walk[3] != self.tick or (walk[4] and count not in (-walk[2], -walk[6])):
            walk = (level, self.tick, 0, self.tick, False, 0, 0)
        _, origin, net, _, was_cut, begun, last = walk
        net += count
        after = [place for place in self.run.places(level) if place > origin]
        before = [place for place in (0, *self.run.places(level)) if place < origin]
        cut = False
        if was_cut and count == -last:  # takes back the step that ended early
            target = begun
        elif net > 0:
            if self.epochs is None and (net > len(after) or after[net - 1] > self.end):
                return False
            target = after[net - 1] if net <= len(after) else self.end + 1
        elif net < 0:
            cut = -net > len(before)
            target = 0 if cut else before[net]
        else:
            target = origin
        came_from, old_walk = self.tick, self.walk
        position = self.session.step(level, count)
        self.go(target)
        assert position.tick == self.tick
        cut = cut or self.tick != target
        self.walk = (
            old_walk
            if cut and self.tick == came_from
            else (level, origin, net, self.tick, cut, *((came_from, count) if cut else (0, 0)))
        )
        return not cut

    @rule(data=st.data())
    def seek(self, data):
        tick = data.draw(st.integers(-3, self.end + (20 if self.epochs else 0)))
        as_position = data.draw(st.booleans())
        self.session.seek(position_of(self.session.program, tick) if as_position and tick >= 0 else tick)
        self.go(max(tick, 0))

    @rule(data=st.data())
    def seek_by_name(self, data):
        epoch = data.draw(st.integers(0, self.epochs or BATCHES // self.config.num_batches - 1))
        batch, t = data.draw(st.integers(0, self.config.num_batches - 1)), data.draw(st.integers(0, self.config.seq_length - 1))
        self.session.seek(f"e{epoch + 1} b{batch + 1} t{t + 1}")
        self.go((epoch * self.config.num_batches + batch) * self.run.N + self.run.end_of_timestep(t))

    @rule()
    def sgd(self):
        batch, N = self.tick // self.run.N, self.run.N
        if batch >= BATCHES:
            return
        if not self.run.learned[batch] and (self.epochs is None or batch < self.epochs * self.config.num_batches):
            self.change("once", batch)
        self.session.sgd()
        self.go((batch + 1) * N)

    @rule(data=st.data())
    def run_until(self, data):
        source = data.draw(st.sampled_from(conditions_for(self.config)))
        condition = compile_condition(source, self.run.names.all)
        ticks = [tick for tick in self.run.places("op") if self.tick < tick <= self.end]
        found = self.run.matches(condition, ticks)
        if found or self.epochs is not None:
            assert self.session.run_until(source, progress=self.not_too_far) == bool(found)
            self.go(found[0] if found else self.end)

    @rule(data=st.data())
    def run_back_until(self, data):
        source = data.draw(st.sampled_from(conditions_for(self.config)))
        condition = compile_condition(source, self.run.names.all)
        found = self.run.matches(condition, [tick for tick in self.run.places("op") if tick < self.tick])
        assert self.session.run_back_until(source) == bool(found)
        self.go(found[-1] if found else 0)

    @rule(data=st.data())
    def run_to(self, data):
        name = data.draw(st.sampled_from(sorted({line[1] for line in self.run.lines})))
        limit = (self.tick // self.run.N + 2) * self.run.N
        if limit > BATCHES * self.run.N:
            return
        places = [tick for tick in self.run.places("op") if self.tick < tick <= limit]
        executed = [tick for tick in places if self.run.lines[(tick - 1) % self.run.N][1] == name]
        if not executed:
            with pytest.raises(TuiGruError, match="learning is off"):
                self.session.run_to(name)
        else:
            self.session.run_to(name)
            self.go(executed[0])

    # Changing the future

    @rule(value=st.booleans())
    def learning(self, value):
        if value != self.session.learning:
            self.change("learning", value)
        self.session.learning = value

    @rule(data=st.data(), value=st.sampled_from((0.01, 0.5, 2.0)))
    def setting(self, data, value):
        name = data.draw(st.sampled_from(self.run.names.settings))
        if value != self.session.value(name):
            self.change(name, value)
        self.session.edit("lr" if name == "learning_rate" else name, value=value)

    @rule(data=st.data(), value=st.floats(-3, 3, width=16))
    def edit(self, data, value):
        names = self.run.names
        kinds = {
            "lines": sorted(({line[1] for line in self.run.lines} & names.all) - ALIASES.keys()),  # these change a setting
            "states": tuple(names.before.values()),
            "before": tuple(names.before), "ahead": tuple(names.ahead), "parameters": names.parameters, "kept": names.kept,
        }  # fmt: skip
        kind = data.draw(st.sampled_from([kind for kind, each in kinds.items() if each]))
        self._edit(data.draw(st.sampled_from(kinds[kind])), value, data)

    def _edit(self, name, value, data):
        t = self.session.position.t
        there = self.run.value(self.tick, name, t)
        shape = np.shape(self.run.record(self.tick).array(name)[t] if there is None and name in self.run.names.timed else there)
        index = tuple(data.draw(st.integers(-size, size - 1)) for size in shape)
        if self._refused(name, t):
            with pytest.raises(TuiGruError):
                self.session.edit(name, index, value)
        else:
            self.change(name, index, value)
            self.session.edit(name, index, value)

    def _refused(self, name, t):
        """Return True if a number cannot be changed here: it is not computed yet, or already read."""
        run, names, tick, phase = self.run, self.run.names, self.tick, self.session.position.phase
        page, (_, offset) = self.config.model.page, run.position(tick)
        if name in names.before.values():
            return run.value(tick, name, t) is None or phase == "backward"
        if name in names.before:
            state = names.before[name]
            way = -1 if page.states[state].backwards else 1
            left = not 0 <= t - way < self.config.seq_length or run.value(tick, state, t - way) is not None
            return not left or run.value(tick, state, t) is not None or phase not in ("start", "forward")
        if name in names.parameters or name in names.kept:
            return False
        if name in names.gradients:
            return offset != run.complete or not run.record(tick).learned
        if name in names.numbers or run.value(tick, name, t) is None:
            return True
        if name in names.ahead:
            way = -1 if page.states[next(state for state in page.states if page.received(state) == name)].backwards else 1
            used = name in run.executed[offset - 1].line.formula.names()
            return run.written(name, t) != offset or used or not 0 <= t + way < self.config.seq_length
        return run.lines[offset - 1][1] != name

    @rule(data=st.data(), value=st.floats(-3, 3, width=16))
    def edit_a_value(self, data, value):
        """Edit a value of this or the next batch just after it is computed, or a gradient once it is complete."""
        batch = min(self.tick // self.run.N + data.draw(st.integers(0, 1)), BATCHES - 1)
        offset = data.draw(st.one_of(st.integers(1, self.run.N), st.just(self.run.complete)))
        self.session.seek(batch * self.run.N + offset)
        self.go(batch * self.run.N + offset)
        _, offset = self.run.position(self.tick)
        names, here = self.run.names, self.run.executed[offset - 1]
        there = [here.name, *(name for name in names.ahead if self.run.written(name, here.t) == offset)]
        if offset == self.run.complete:
            there = names.gradients
        there = [name for name in there if name in names.all and name not in ALIASES]
        name = data.draw(st.sampled_from(there) if there else st.none())
        if name is not None:
            self._edit(name, abs(value) if name == "y_hat" else value, data)

    @rule(data=st.data())
    def edit_text(self, data):
        i = data.draw(st.integers(0, len(self.config.text) - 1))
        char = data.draw(st.sampled_from(self.config.vocabulary))
        self.change("text", i, char)
        self.session.edit("text", i, char)

    @rule()
    def undo(self):
        assert self.session.undo() == bool(self.done)
        if not self.done:
            return
        source, target, tick, before = self.done.pop()
        left = self.tick if self.branch == target else tick
        self.undone.append((source, target, tick, self.branches[target], left))
        if before is None:
            del self.branches[target]
        else:
            self.branches[target] = before
        self.branch = source
        self.go(tick)

    @rule()
    def redo(self):
        assert self.session.redo() == bool(self.undone)
        if not self.undone:
            return
        source, target, tick, after, left = self.undone.pop()
        self.done.append((source, target, tick, self.branches.get(target)))
        self.branches[target], self.branch = after, target
        self.go(left)

    @precondition(lambda self: self.session.state.branches.done)
    @rule()
    def undo_and_redo(self):
        self.session.seek(self.session.position)
        self.walk = None
        before, position, branch, branches = (
            everything(self.session),
            self.session.position,
            self.session.branch,
            self.session.branches,
        )
        if branch != self.done[-1][1]:
            return  # it would lead to the other branch
        self.session.undo()
        self.session.redo()
        assert (self.session.position, self.session.branch) == (position, branch)
        assert set(self.session.branches) == set(branches)
        assert all(same(value, before[key]) for key, value in everything(self.session).items())

    @rule(data=st.data())
    def switch(self, data):
        self.branch = data.draw(st.sampled_from(sorted(self.branches)))
        self.session.switch(self.branch)
        self.go(min(self.tick, self.branches[self.branch].newest))

    @rule(data=st.data(), new=st.sampled_from(("warm", "main", "main~1", "main~9", "two words", "")))
    def rename(self, data, new):
        old = data.draw(st.sampled_from(sorted(self.branches)))
        taken = {*self.branches, *(target for _, target, *_ in self.undone)} - {old}
        if new in taken or new.split() != [new]:
            with pytest.raises(TuiGruError):
                self.session.rename_branch(old, new)
            return
        self.session.rename_branch(old, new)
        self.branches = {new if name == old else name: line for name, line in self.branches.items()}
        self.branch = new if self.branch == old else self.branch
        for stack in (self.done, self.undone):
            stack[:] = [(*(new if name == old else name for name in change[:2]), *change[2:]) for change in stack]

    @rule(data=st.data())
    def delete(self, data):
        name = data.draw(st.sampled_from(sorted(self.branches)))
        if name == self.branch:
            with pytest.raises(TuiGruError, match="switch to another"):
                self.session.delete_branch(name)
            return
        self.session.delete_branch(name)
        del self.branches[name]
        for stack in (self.done, self.undone):
            stack[:] = [change for change in stack if name not in change[:2]]

    # Actions that change nothing

    @rule(length=st.integers(0, 5), seed=st.integers(0, 3))
    def sample(self, length, seed):
        finite = all(np.isfinite(self.session.parameter(name)).all() for name in self.run.names.parameters)
        refused = "cannot sample" if self.config.bidirectional else "not finite" if length and not finite else ""
        with pytest.raises(TuiGruError, match=refused) if refused else nullcontext():
            self.session.sample(self.config.vocabulary[0], length, seed=seed)

    @rule()
    def keep_a_snapshot(self):
        self.kept = [*self.kept[-3:], (self.session.snapshot(), copied(everything(self.session)))]

    # Comparisons

    @invariant()
    def stands_where_the_model_does(self):
        session, line = self.session, self.branches[self.branch]
        assert (session.position.tick, session.newest.tick) == (self.tick, line.newest)
        assert (session.branch, set(session.branches)) == (self.branch, set(self.branches))
        _, offset = self.run.position(self.tick)
        position = session.position
        assert (position.epoch, position.batch, position.t) == tuple(self.run.value(self.tick, n) for n in ("epoch", "batch", "t"))
        assert position.phase == (self.run.lines[offset - 1][0] if offset else "start")

    @invariant()
    def forks_where_the_model_does(self):
        older = []
        for fork, (name, line) in zip(self.session.snapshot().forks, self.branches.items(), strict=True):
            shared = [parted(each.stretches, line.stretches) for _, each in older]
            source = older[shared.index(max(shared))][0] if older else None
            assert (fork.name, fork.source, fork.tick, fork.newest) == (name, source, max(shared, default=0), line.newest)
            losses = self._run(line.changes).loss_so_far(line.newest)
            assert same(fork.loss, losses[-1] if losses else None)
            older.append((name, line))

    @invariant()
    def shows_what_the_model_does(self):
        session, run, tick = self.session, self.run, self.tick
        assert_shows(session, run, tick)
        for name in run.names.parameters:
            assert same(session.parameter(name), run.value(tick, name)), name
            assert same(session.gradient(name), run.value(tick, f"d{name}")), name
        assert same(session.loss, run.value(tick, "loss"))
        assert same(session.snapshot().losses, run.loss_so_far(self.branches[self.branch].newest))

    def teardown(self):
        for snapshot, values in getattr(self, "kept", ()):
            assert all(same(snapshot.value(name, t), value) for (name, t), value in values.items())


def parted(one, other):
    """Return the tick at which the stretches of two branches begin to differ."""
    ticks = {stretch: stretch[0] for stretch in (*one, *other)}
    return min(tick for stretch, tick in ticks.items() if stretch not in one or stretch not in other)


def copied(values):
    return {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in values.items()}


def test_a_session_is_what_a_plain_run_is():
    run_state_machine_as_test(
        SessionMachine,
        settings=settings(
            max_examples=examples(60, soak=500),
            stateful_step_count=24,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


@models.parametrize()
def test_an_edit_of_any_value_is_what_a_plain_run_makes_of_it(model):
    """In the second batch, within some of its lines, and of its gradients: compares all values there, and at the end of the next
    batch."""
    session = Session(**model, learning_rate=0.3)
    session.learning = True
    plain = Run(session.config, ((0, "learning", True),), batches=1)
    names, unchanged = plain.names, {*plain.names.before.values(), *plain.names.gradients, *plain.names.numbers, "earlier"}
    lines = [(offset, name) for offset, (_, name, _) in enumerate(plain.lines, 1) if name not in unchanged]
    lines = lines[:: max(1, len(lines) // examples(10, soak=100))] + [(plain.complete, name) for name in names.gradients[::3]]
    for offset, name in lines:
        tick = plain.N + offset
        session.seek(tick)
        index = tuple(size - 1 for size in np.shape(session.value(name)))
        session.edit(name, index, 0.375)
        run = Run(session.config, ((0, "learning", True), (tick, name, index, 0.375)), batches=4)
        for place in (tick, 3 * run.N):
            session.seek(place)
            assert_shows(session, run, place)
        session.undo()
