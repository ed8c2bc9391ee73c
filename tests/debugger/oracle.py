"""The expected state of a session, from a plain run of the engine that stores everything, without history, step index or cache."""

from dataclasses import replace
from functools import cached_property

import numpy as np

from tests.debugger.plain import executed
from tui_gru.engine.data import Corpus
from tui_gru.engine.training import Point, Trainer, gradients_so_far, initial_weights

COUNTERS = ("epoch", "batch", "t", "step")
CONDITIONS = (
    "loss < 1.2", "loss > prev(loss)", "grad_norm > 0.1 and batch == 2", "max_weight > 1.5", "isnan(loss)", "term3 < loss",
    "not (loss > 1.3 and max_weight < 2)", "prev(batch) == 1 and loss > 0", "prev(grad_norm) > 0.1",
    "loss > 0 and prev(grad_norm) > 0", "t == 2", "epoch == 2", "char[0] == target[0]", "prev(char)[0] == char[0]",
    "prev(t) == t - 1", "any(prev(by) > 0.1)", "Wy[0, 0] != prev(Wy)[0, 0] and loss > 1", "any(dWy > 0.2) and any(dlogits > 0)",
    "learning_rate > 0.1", "max_weight > prev(max_weight)", "norm(dlogits) > norm(prev(dlogits))",
    "y_hat[0, 0] > prev(y_hat)[0, 0]",
)  # fmt: skip
OF_A_GRU = (
    "any(z > 0.8)", "h[0, 0] > prev(h)[0, 0]", "norm(dh) > 0.3", "mean(dz) > mean(prev(dz))", "any(prev(dz) > 0) and any(z > 0.5)",
    "any(prev(dh_carry) > 0.1)", "Wz[0, 0] > 0.2", "any(dUh > prev(dUh))", "any(dWy > 0.2) and any(dz > 0)",
    "abs(az[0, 0]) > 1 and x[0, 0] == 0", "any(dh_future != 0)", "Uz[0, 0] != prev(Uz[0, 0])",
    "any(z > 0.5) and any(dr > 0) and Wz[0, 0] < 9",
)  # fmt: skip


def conditions_for(config):
    """Return conditions for a model: some that fit any model, and some on names of this one."""
    names = Names(config)
    state = next(iter(config.model.page.states))
    before, ahead = config.model.page.before(state), config.model.page.received(state)
    own = [
        f"{state}[0, 0] > prev({state})[0, 0]",
        f"any({before} > 0.1) and loss > 0",
        f"any({ahead} != 0)",
        f"any(prev(d{state}) > 0)",
    ]
    for name in (*names.kept, *names.steps)[:: max(1, len(names.kept + names.steps) // 4)]:
        own += [f"any({name} > prev({name}))", f"any({name} > 0) and loss > 0"]
    own += [f"{name} > prev({name}) or {name} > 0.1" for name in names.scalars]
    gru = OF_A_GRU if {"z", "dr", "h"} <= names.all else ()
    return (*CONDITIONS, *gru, *own)


class Names:
    """The names that can be read from a model, taken from its equations."""

    def __init__(self, config):
        model, page = config.model, config.model.page
        self.parameters, self.gradients = model.parameters, tuple(f"d{name}" for name in model.parameters)
        self.inputs = tuple(page.inputs)
        self.before = {page.before(state): state for state in page.states}
        self.ahead = {page.received(state): f"d{page.before(state)}" for state in page.states}
        self.kept = tuple(f"{state}_{name}" for state in model.rule.states for name in model.parameters)
        of_rule = [line.target for line in model.rule.lines if line.target not in ("W", *model.rule.states)]
        self.scalars = tuple(name for name in of_rule if name in model.rule.scalars)
        self.vectors = [name for name in of_rule if name not in self.scalars]
        self.steps = tuple(f"{target}_{name}" for target in self.vectors for name in model.parameters)
        self.deltas, self.values = set(self.ahead), set[str]()
        for line in executed(config):
            if line.phase in ("forward", "loss", "backward") and line.line is not None:
                own = {line.name, *line.labels} - {"loss", *self.gradients}
                kind = self.deltas if line.phase == "backward" else self.values
                kind |= own - self.values
        self.settings = tuple(model.rule.settings)
        self.numbers = ("loss", "grad_norm", "max_weight", *self.settings, *self.scalars)

    @cached_property
    def timed(self):
        """The names that have a value for every timestep."""
        return {*self.inputs, *self.before, *self.values, *self.deltas, "char", "target"}

    @cached_property
    def all(self):
        once = (*self.parameters, *self.gradients, *self.kept, *self.steps, *self.numbers, *COUNTERS)
        return self.timed | set(once)


class Run:
    """One line of history. `changes` lists (tick, kind, arguments) in the order of time, which is also the order of their
    creation."""

    def __init__(self, config, changes, *, batches):
        self.config, self.names = config, Names(config)
        self.executed = executed(config)
        self.lines = [(line.phase, line.name, line.t) for line in self.executed]
        self.N, T = len(self.lines), config.seq_length
        self.loss_tick = sum(line.phase in ("forward", "loss") for line in self.executed)
        self.complete = sum(line.phase != "update" for line in self.executed)  # the tick at which all gradients are computed
        self.stages = []  # (tick from which the record is valid, record)
        self.learned = []
        self.first_stage = []  # for each batch
        self._places = {}
        self._records = {}  # by tick
        self._tested = {}  # by names, line, and whether the batch learns
        self._written = {}  # the tick at which (name, t) is computed or can be read; once-per-batch values: the last
        steps, begun = {}, {}
        for k, line in enumerate(self.executed, 1):
            whole_step = (line.phase, line.segment, line.step)
            steps.setdefault(whole_step, k)
            if line.phase == "forward":
                begun.setdefault(line.t, k)
            self._note(line.name, line.t, k)
            for label in line.labels:
                self._note(label, line.t, k)
        for (name, line), t in ((each, t) for each in (*self.names.before.items(), *self.names.ahead.items()) for t in range(T)):
            at = self.executed[self._written[line, t] - 1]
            self._written[name, t] = steps[at.phase, at.segment, at.step]
        self._written |= {(name, t): begun[t] for name in (*self.names.inputs, "char", "target") for t in range(T)}
        self._learning, self._rule, self._once = config.learns_at_first, config.settings, None
        self._text, self._trainer = config.text, Trainer(config, Corpus(config))
        self._run(changes, batches)

    def _note(self, name, t, k):
        once = name not in self.names.timed and name not in self.names.gradients
        self._written.setdefault((name, self.config.seq_length - 1 if once else t), k)

    @cached_property
    def ways(self):
        """The direction in which the timesteps of each name are computed; 0 for names computed once per batch."""
        T, found = self.config.seq_length, {"t": 1}
        for name in self.names.timed:
            line = self.names.before.get(name) or self.names.ahead.get(name) or name
            from_outside = name in (*self.names.inputs, "char", "target")
            found[name] = 1 if T == 1 or from_outside or self._written[line, 0] < self._written[line, T - 1] else -1
        return found

    # Running

    def _run(self, changes, batches):
        weights, state = initial_weights(self.config), self._trainer.initial_state()
        for batch in range(batches):
            in_epoch = batch % self.config.num_batches
            if in_epoch == 0 or self.config.carry == "reset":
                state = self._trainer.initial_state()
            record = self._trainer.new_record()
            self.first_stage.append(len(self.stages))
            earlier = self._earlier(batch)
            self._trainer.run(record, in_epoch, weights, state, learn=self._learns(batch), settings=self._rule, earlier=earlier)
            self.stages.append((batch * self.N, record))
            learns = self._learns(batch)
            for tick, kind, *arguments in changes:
                if batch * self.N < tick <= (batch + 1) * self.N or (batch == 0 and tick == 0):
                    record = self._changed(record, batch, tick, kind, arguments)
                    if tick - batch * self.N <= self.loss_tick:
                        learns = self._learns(batch)
            self.learned.append(learns)
            weights, state = record.after, record.states(end=True)

    def _learns(self, batch):
        return self._learning or self._once == batch

    def _earlier(self, batch):
        if self.config.carry != "notebook":
            return ()
        begin = batch - batch % self.config.num_batches
        return [self.stages[self.first_stage[b + 1] - 1][1] for b in reversed(range(begin, batch))]

    def _changed(self, record, batch, tick, kind, arguments):
        offset = tick - batch * self.N
        record = record.copy()
        if kind == "learning":
            (self._learning,), self._once = arguments, None
        elif kind in self.names.settings:
            self._rule = {**self._rule, kind: arguments[0]}
        elif kind == "once":
            (self._once,) = arguments
        elif kind == "text":
            i, char = arguments
            self._text = self._text[:i] + char + self._text[i + 1 :]
            config = replace(self.config, text=self._text)
            self._trainer = Trainer(config, Corpus(config))
            for t in range(self.config.seq_length):
                if offset < self._written["char", t]:
                    self._trainer.load(record, batch % self.config.num_batches, t)
        else:
            self._put(record, kind, offset, *arguments)
        record.settings = self._rule
        learn = offset > self.loss_tick or self._learns(batch)
        self._trainer.resume(record, self._next(offset), learn=learn, earlier=self._earlier(batch))
        self.stages.append((tick, record))
        return record

    def _put(self, record, name, offset, index, value):
        names = self.names
        if name in (*names.parameters, *names.kept):
            if name in self._updated(record, offset):
                record.own_after[name][index] = value
            else:
                record.before = record.before.copy()
                record.before[name][index] = value
        elif name in names.gradients:
            record.own_gradients[name[1:]][index] = value
        elif name in names.steps:
            target = next(target for target in names.vectors if name.startswith(f"{target}_"))
            record.vector(target)[name.removeprefix(f"{target}_")][index] = value
        else:
            t = self._t(offset)
            record.array(name)[t : t + 1][(0, *index)] = value

    def _t(self, offset):
        return self.lines[offset - 1][2] if offset else 0

    def _next(self, offset):
        """The place of the line that is executed next."""
        if offset == self.N:
            return Point("update", done=self.N - self.complete)
        line = self.executed[offset]
        return Point("forward" if line.phase == "loss" else line.phase, line.segment, line.step, line.number)

    # Reading

    def position(self, tick):
        """(batch through all epochs, offset in it)."""
        return ((tick - 1) // self.N, (tick - 1) % self.N + 1) if tick else (0, 0)

    def record(self, tick):
        if tick not in self._records:
            batch, _ = self.position(tick)
            last = self.first_stage[batch + 1] if batch + 1 < len(self.first_stage) else len(self.stages)
            self._records[tick] = [record for start, record in self.stages[self.first_stage[batch] : last] if start <= tick][-1]
        return self._records[tick]

    def written(self, name, t):
        """Return the tick of a batch at which a name is computed, or from which it can be read."""
        return self._written[name, t]

    def end_of_timestep(self, t):
        """Return the tick of a batch at which the forward pass of a timestep ends."""
        return max(k for k, line in enumerate(self.executed, 1) if (line.phase, line.t) == ("forward", t))

    def places(self, level):
        """Return every tick at which a step of a level ends, in order."""
        if level not in self._places:
            self._places[level] = self._ends(level)
        return self._places[level]

    def _ends(self, level):
        ends = []
        for batch, learned in enumerate(self.learned):
            groups = [self._group(level, line) for line in (self.executed if learned else self.executed[: self.loss_tick])]
            if level == "epoch" and (batch + 1) % self.config.num_batches:
                continue
            for k, (group, after) in enumerate(zip(groups, (*groups[1:], object()), strict=True), 1):
                if level == "op" or (group and group != after):
                    ends.append(batch * self.N + k)
        return ends

    @staticmethod
    def _group(level, line):
        """Return the group of a line: a step goes to the end of it."""
        if level == "timestep":
            if line.phase == "loss":
                return None
            return "rest" if line.phase == "update" or line.name == "earlier" else (line.phase, line.segment, line.step)
        if level == "phase":
            return "forward" if line.phase == "loss" else line.phase
        return "batch"

    def loss_so_far(self, newest):
        batch, offset = self.position(newest)
        count = batch + (offset >= self.loss_tick)
        return [self.record(b * self.N + (self.N if self.learned[b] else self.loss_tick)).loss for b in range(count)]

    def _updated(self, record, offset):
        """Return the parameters and states of the update rule that the update has computed."""
        return self._reached[offset] if record.learned else frozenset()

    @cached_property
    def _reached(self):
        """The same by offset, of a batch that learns."""
        own, reached = {*self.names.parameters, *self.names.kept}, [frozenset()]
        for phase, name, _ in self.lines:
            reached.append(reached[-1] | {name} if phase == "update" and name in own else reached[-1])
        return reached

    def _weight(self, record, offset, name):
        return (record.after if name in self._updated(record, offset) else record.before)[name]

    def weight(self, tick, name):
        """Return a parameter, or a state of the update rule, as of a tick."""
        return self._weight(self.record(tick), self.position(tick)[1], name)

    def value(self, tick, name, t=None):
        """Return the same as `Session.value`: None if it is not computed yet."""
        (batch, offset), record, names = self.position(tick), self.record(tick), self.names
        t = self._t(offset) if t is None else t
        if name in COUNTERS:
            in_epoch = {"epoch": batch // self.config.num_batches, "batch": batch % self.config.num_batches}
            return {**in_epoch, "step": batch, "t": t}[name]
        if name in names.parameters or name in names.kept:
            return self._weight(record, offset, name)
        if name == "max_weight":
            return float(np.max([np.abs(self._weight(record, offset, each)).max() for each in names.parameters]))
        if name in self.names.settings:
            return record.settings[name]
        if name == "loss":
            return record.loss if offset >= self.loss_tick else None
        if name == "grad_norm" and name not in names.scalars:
            return record.grad_norm if record.learned and offset >= self.complete else None
        if name in names.gradients:
            return self._gradient(record, offset, name)
        last = self.config.seq_length - 1
        once = name in names.scalars or name in names.steps
        if self._written[name, last if once else t] > offset or ((once or name in names.deltas) and not record.learned):
            return None
        if name in names.scalars:
            return record.numbers[name]
        if name in names.steps:
            target = next(target for target in names.vectors if name.startswith(f"{target}_"))
            return record.vector(target)[name.removeprefix(f"{target}_")]
        if name in ("char", "target"):
            page = self.config.model.page
            source = next(key for key, given in page.inputs.items() if given.target == (name == "target"))
            return np.array([self.config.vocabulary[i] for i in record.ids(source)[t]])
        value = record.array(name)[t]
        return float(value) if np.ndim(value) == 0 else value

    def _gradient(self, record, offset, name):
        T = self.config.seq_length
        done = [t for t in range(T) if self._written[name, t] <= offset]
        if not record.learned or not done:
            return None
        if offset >= self.complete or (len(done) == T and self.config.carry != "notebook"):
            return record.gradients[name[1:]]
        segment = self.executed[self._written[name, done[0]] - 1].segment
        return gradients_so_far(record, Point("backward", segment, len(done)))[name[1:]]

    # Searching

    def matches(self, condition, ticks):
        """Return the ticks at which a name of the condition has just been computed and the condition is true."""
        return [tick for tick in ticks if self.tests(condition.names, tick) and self.holds(condition, tick)]

    def holds(self, condition, tick):
        return condition.test(*self.readers(tick))

    def readers(self, tick):
        """Return what conditions read at a tick, and before it; there, counters count from 1."""

        def from_one(read):
            def value(name):
                found = read(tick, name)
                return found if found is None or name not in COUNTERS else found + 1

            return value

        return from_one(self.value), from_one(self.before)

    def tests(self, names, tick):
        """Return True if one of `names` has just been computed at a tick, so that a condition that reads it is tested there."""
        batch, offset = self.position(tick)
        place = frozenset(names), offset, self.learned[batch]  # the same in every batch
        if place not in self._tested:
            self._tested[place] = self._tests(*place)
        return self._tested[place]

    def _tests(self, names, offset, learned):
        begins = {self._written["char", t] for t in range(self.config.seq_length)}
        if names <= {*COUNTERS, *self.names.settings}:
            return offset in begins if "t" in names else offset == 1
        return any(self._computed_at(name, offset, learned) for name in names)

    def _computed_at(self, name, offset, learned):
        names, T = self.names, self.config.seq_length
        last = self.N if learned else self.loss_tick
        if name in (*COUNTERS, *names.settings):
            return False
        if name == "max_weight" or (name in (*names.parameters, *names.kept) and not learned):
            return offset == last
        if name == "loss":
            return offset == self.loss_tick
        if name == "grad_norm" and name not in names.scalars:
            return offset == self.complete
        if name in names.gradients:
            complete = max(self._written[name, t] for t in range(T))
            return offset == (self.complete if self.config.carry == "notebook" else complete)
        return offset in {self._written.get((name, t)) for t in range(T)}

    def before(self, tick, name):
        """Return the tick one round earlier: in the timestep computed before, or at the end of the batch before."""
        (batch, offset), T = self.position(tick), self.config.seq_length
        t, end, way = self._t(offset), batch * self.N, self.ways.get(name, 0)
        if way and 0 <= t - way < T:
            return self.value(tick, name, t - way)
        if not batch:
            return self.weight(0, name) if name in (*self.names.parameters, *self.names.kept) else None
        return self.value(end, name, T - 1 if way >= 0 else 0)  # in one timestep, which all share


def same(one, other):
    if one is None or other is None:
        return one is other
    a, b = np.asarray(one), np.asarray(other)
    alike = a.dtype == b.dtype and a.shape == b.shape
    return alike and (a.tobytes() == b.tobytes() or np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))


def everything(session):
    """Return everything that can be read at a session's position: for every timestep, and once for values that a batch has once."""
    snapshot, names, T = session.snapshot(), session.program.names, session.config.seq_length
    timesteps = {name: range(T) if named.timed or name in ("char", "target") else (T - 1,) for name, named in names.items()}
    return {(name, t): snapshot.value(name, t) for name, each in timesteps.items() for t in each}


def assert_shows(session, run, tick=None):
    """Check bit for bit that a session shows the values of a plain run at a tick (None: at its position)."""
    tick = session.position.tick if tick is None else tick
    for (name, t), value in everything(session).items():
        assert same(value, run.value(tick, name, t)), (name, t, tick)
