"""What a session should show, from a plain run with the engine that stores everything: no history, no rulers, no cache."""

from dataclasses import replace

import numpy as np
from tui_gru.engine.backward import gradients_from
from tui_gru.engine.parameters import parameter_names
from tui_gru.engine.record import BACKWARD_NAMES, FORWARD_NAMES

from tui_gru.debugger.moment import readable_names
from tui_gru.engine.corpus import Corpus
from tui_gru.engine.initial import initial_parameters
from tui_gru.engine.trainer import Resume, Trainer

FORWARD = ("z", "r", "h_tilde", "h", "logits", "y_hat", "term1", "term2", "term3")
WITH = {
    "z": ("az",), "r": ("ar",), "h_tilde": ("ah",), "dlogits": ("dh_future",), "dh": ("dh_output",),
    "dh_prev": ("dh_carry", "dh_candidate", "dh_update", "dh_reset"),
}  # fmt: skip

CONDITIONS = (
    "loss < 1.2", "loss > prev(loss)", "grad_norm > 0.1 and batch == 1", "max_weight > 1.5", "isnan(loss)", "term3 < loss",
    "not (loss > 1.3 and max_weight < 2)", "prev(batch) == 1 and loss > 0", "prev(grad_norm) > 0.1",
    "loss > 0 and prev(grad_norm) > 0", "t == 1", "epoch == 1",
    "any(z > 0.8)", "h[0, 0] > prev(h)[0, 0]", "char[0] == target[0]", "prev(char)[0] == char[0]", "prev(t) == t - 1",
    "norm(dh) > 0.3", "mean(dz) > mean(prev(dz))", "any(prev(dz) > 0) and any(z > 0.5)", "any(prev(dh_carry) > 0.1)",
    "Wz[0, 0] > 0.2", "Wy[0, 0] != prev(Wy)[0, 0] and loss > 1", "any(prev(by) > 0.1)", "any(dUh > prev(dUh))",
    "any(dWy > 0.2) and any(dz > 0)", "abs(az[0, 0]) > 1 and x[0, 0] == 0", "learning_rate > 0.1", "any(dh_future != 0)",
    "Uz[0, 0] != prev(Uz[0, 0])", "any(z > 0.5) and any(dr > 0) and Wz[0, 0] < 9", "max_weight > prev(max_weight)",
)  # fmt: skip


def deltas(reset):
    return ("dlogits", "dh", "dz", "daz", "dh_tilde", "dah", "dm" if reset == "after" else "drh", "dr", "dar", "dh_prev")


def lines(config):
    """(phase, name, t) of every line of a batch that learns, in the order in which they are executed."""
    names = parameter_names(config.reset)
    backward = (*deltas(config.reset), *(f"d{name}" for name in names))
    listed = [("forward", name, t) for t in range(config.seq_length) for name in FORWARD]
    listed.append(("loss", "loss", config.seq_length - 1))
    listed += [("backward", name, t) for t in reversed(range(config.seq_length)) for name in backward]
    if config.carry == "notebook":
        listed.append(("backward", "earlier", config.seq_length - 1))
    return listed + [("update", name, config.seq_length - 1) for name in names]


class Run:
    """One line of history: `changes` lists (tick, kind, arguments) in the order of time, which is that in which they were made."""

    def __init__(self, config, changes, *, batches):
        self.config, self.lines = config, lines(config)
        self.N, self.loss_tick = len(self.lines), config.seq_length * len(FORWARD) + 1
        self.stages = []  # (tick from which it holds, record)
        self.learned = []
        self.first_stage = []  # of each batch
        self._written, self._places = {}, {}
        for k, (phase, name, t) in enumerate(self.lines, 1):
            if phase != "update":
                self._written |= {(each, t): k for each in (name, *WITH.get(name, ()))}
        self._trainer, self._learning, self._rate, self._once = Trainer(config, Corpus(config)), False, config.learning_rate, None
        self._text = config.text
        self._run(changes, batches)

    # Running

    def _run(self, changes, batches):
        parameters, state = initial_parameters(self.config), self._trainer.initial_state()
        for batch in range(batches):
            in_epoch = batch % self.config.num_batches
            if in_epoch == 0 or self.config.carry == "reset":
                state = self._trainer.initial_state()
            record = self._trainer.new_record()
            self.first_stage.append(len(self.stages))
            earlier = self._earlier(batch)
            self._trainer.run(
                record, in_epoch, parameters, state, learn=self._learns(batch), learning_rate=self._rate, earlier=earlier
            )
            self.stages.append((batch * self.N, record))
            learns = self._learns(batch)
            for tick, kind, *arguments in changes:
                if batch * self.N < tick <= (batch + 1) * self.N or (batch == 0 and tick == 0):
                    record = self._changed(record, batch, tick, kind, arguments)
                    if tick - batch * self.N <= self.loss_tick:
                        learns = self._learns(batch)
            self.learned.append(learns)
            parameters, state = record.updated, record.activations.h[-1]

    def _learns(self, batch):
        return self._learning or self._once == batch

    def _earlier(self, batch):
        if self.config.carry != "notebook":
            return ()
        begin = batch - batch % self.config.num_batches
        finals = [self.stages[self.first_stage[b + 1] - 1][1] for b in range(begin, batch)]
        return [record.activations for record in reversed(finals)]

    def _changed(self, record, batch, tick, kind, arguments):
        offset = tick - batch * self.N
        record = record.copy()
        parameters = self._parameters(record, offset).copy()
        if kind == "learning":
            (self._learning,), self._once = arguments, None
        elif kind == "rate":
            (self._rate,) = arguments
        elif kind == "once":
            (self._once,) = arguments
        elif kind == "text":
            i, char = arguments
            self._text = self._text[:i] + char + self._text[i + 1 :]
            config = replace(self.config, text=self._text)
            self._trainer = Trainer(config, Corpus(config))
            for t in range(self.config.seq_length):
                if offset <= t * len(FORWARD):
                    self._trainer.load(record, batch % self.config.num_batches, t)
        else:
            (index, value), name = arguments, kind
            t = self._t(offset)
            if name in parameters.names:
                parameters[name][index] = value
            elif name[1:] in parameters.names:
                record.gradients[name[1:]][index] = value
                record.grad_norm = float(np.sqrt(float(np.dot(record.gradients.flat, record.gradients.flat))))
            elif record.array(name)[t : t + 1][(0, *index)] != value:
                record.array(name)[t : t + 1][(0, *index)] = value
                if name == "y_hat":
                    with np.errstate(all="ignore"):
                        record.activations.log_p[t][index] = np.log(record.array(name)[t][index])
        record.learning_rate = self._rate
        learn = offset > self.loss_tick or self._learns(batch)
        self._trainer.resume(record, parameters, self._resume(offset), learn=learn, earlier=self._earlier(batch))
        self.stages.append((tick, record))
        return record

    def _t(self, offset):
        return self.lines[offset - 1][2] if offset else 0

    def _resume(self, offset):
        """The place of the line that is executed next."""
        if offset == self.loss_tick:
            return Resume("forward", self.config.seq_length - 1, len(FORWARD) + 1)
        phase, name, t = self.lines[offset] if offset < self.N else ("update", None, 0)
        if phase == "loss":
            return Resume("forward", self.config.seq_length - 1, len(FORWARD))
        done = 0
        while offset - done > 0 and self.lines[offset - done - 1][::2] == (phase, t):
            done += 1
        if phase == "update":
            updated = frozenset(n for p, n, _ in self.lines[:offset] if p == "update")
            return Resume("update", updated=updated)
        if name == "earlier":
            return Resume("backward", 0, len(deltas(self.config.reset)))
        return Resume(phase, t, done if phase == "forward" else min(done, len(deltas(self.config.reset))))

    # Reading

    def position(self, tick):
        """(batch through all epochs, offset in it)."""
        return ((tick - 1) // self.N, (tick - 1) % self.N + 1) if tick else (0, 0)

    def record(self, tick):
        batch, _ = self.position(tick)
        last = self.first_stage[batch + 1] if batch + 1 < len(self.first_stage) else len(self.stages)
        return [record for start, record in self.stages[self.first_stage[batch] : last] if start <= tick][-1]

    def places(self, level):
        """Every tick at which a step of a level ends, in order."""
        if level not in self._places:
            self._places[level] = self._ends(level)
        return self._places[level]

    def _ends(self, level):
        ends = []
        for batch, learned in enumerate(self.learned):
            groups = [self._group(level, *line) for line in (self.lines if learned else self.lines[: self.loss_tick])]
            if level == "epoch" and (batch + 1) % self.config.num_batches:
                continue
            for k, (group, after) in enumerate(zip(groups, (*groups[1:], object()), strict=True), 1):
                if level == "op" or (group and group != after):
                    ends.append(batch * self.N + k)
        return ends

    def _group(self, level, phase, name, t):
        """What a line is part of: a step goes to the end of it."""
        if level == "timestep":
            return {"forward": ("forward", t), "loss": None, "backward": ("backward", t) if name != "earlier" else "rest"}.get(
                phase, "rest"
            )
        if level == "phase":
            return "forward" if phase == "loss" else phase
        return "batch"

    def loss_so_far(self, newest):
        batch, offset = self.position(newest)
        count = batch + (offset >= self.loss_tick)
        return [self.record(b * self.N + (self.N if self.learned[b] else self.loss_tick)).loss for b in range(count)]

    def _parameters(self, record, offset):
        mixed = record.parameters.copy()
        if record.gradients is not None:
            for phase, name, _ in self.lines[:offset]:
                if phase == "update":
                    mixed[name][...] = record.updated[name]
        return mixed

    def parameter(self, tick, name):
        return self._parameters(self.record(tick), self.position(tick)[1])[name]

    def value(self, tick, name, t=None):
        """As `Session.value`: None where not computed yet."""
        (batch, offset), record, config = self.position(tick), self.record(tick), self.config
        t = self._t(offset) if t is None else t
        parameters = parameter_names(config.reset)
        if name in ("epoch", "batch", "t"):
            return {"epoch": batch // config.num_batches, "batch": batch % config.num_batches, "t": t}[name]
        if name in parameters:
            return self.parameter(tick, name)
        if name == "max_weight":
            return float(np.abs(self._parameters(record, offset).flat).max())
        if name == "learning_rate":
            return record.learning_rate
        if name == "loss":
            return record.loss if offset >= self.loss_tick else None
        if name == "grad_norm":
            complete = record.gradients is not None and offset >= self.N - len(parameters)
            return record.grad_norm if complete else None
        if name[1:] in parameters:
            return self._gradient(record, offset, name)
        if name in ("x", "y", "h_prev", "char", "target"):
            if offset <= t * len(FORWARD):
                return None
            if name in ("char", "target"):
                ids = record.activations.inputs[t] if name == "char" else record.activations.targets[t]
                return np.array([config.vocabulary[i] for i in ids])
        elif self._written[name, t] > offset or (name.startswith("d") and record.gradients is None):
            return None
        value = record.array(name)[t]
        return float(value) if name == "term3" else value

    def _gradient(self, record, offset, name):
        done = [t for t in range(self.config.seq_length) if self._written[name, t] <= offset]
        if record.gradients is None or not done:
            return None
        if offset >= self.N - len(parameter_names(self.config.reset)):
            return record.gradients[name[1:]]
        return gradients_from(record, min(done))[name[1:]]

    # Searching

    def matches(self, condition, ticks):
        """Those of `ticks` at which something that the condition reads has just been computed, and it holds."""
        return [tick for tick in ticks if self._tests(condition.names, tick) and self.holds(condition, tick)]

    def holds(self, condition, tick):
        return condition.test(lambda name: self.value(tick, name), lambda name: self.before(tick, name))

    def _tests(self, names, tick):
        (batch, offset), parameters = self.position(tick), parameter_names(self.config.reset)
        _, name, t = self.lines[offset - 1]
        learned = self.learned[batch]
        last = self.N if learned else self.loss_tick
        complete = self.N - len(parameters)
        at = {name, *WITH.get(name, ())} - {f"d{name}" for name in parameters}
        if (offset - 1) % len(FORWARD) == 0 and offset < self.loss_tick:
            at |= {"x", "y", "h_prev", "char", "target"}
        if offset == complete:
            at |= {"grad_norm"}
        if offset == last:
            at |= {"max_weight"} | (set() if learned else set(parameters))
        if name[1:] in parameters and t == 0 and self.config.carry != "notebook":
            at |= {name}
        if offset == complete and self.config.carry == "notebook":
            at |= {f"d{name}" for name in parameters}
        if names <= {"epoch", "batch", "learning_rate"}:
            return offset == 1
        if names <= {"epoch", "batch", "learning_rate", "t"}:
            return (offset - 1) % len(FORWARD) == 0 and offset < self.loss_tick
        return bool(names & at)

    def before(self, tick, name):
        """One round earlier: in the timestep computed before, or at the end of the batch before."""
        (batch, offset), T = self.position(tick), self.config.seq_length
        t, end = self._t(offset), batch * self.N
        if name in BACKWARD_NAMES:
            return self.value(tick, name, t + 1) if t + 1 < T else self.value(end, name, 0) if batch else None
        if name in (*FORWARD_NAMES, "char", "target", "t"):
            return self.value(tick, name, t - 1) if t else self.value(end, name, T - 1) if batch else None
        if name in parameter_names(self.config.reset) and not batch:
            return self.value(0, name)
        return self.value(end, name, T - 1) if batch else None


def same(one, other):
    if one is None or other is None:
        return one is other
    a, b = np.asarray(one), np.asarray(other)
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def everything(session):
    """All that can be read where a session stands."""
    config, snapshot = session.config, session.snapshot()
    names = readable_names(config.reset)
    return {(name, t): snapshot.value(name, t) for name in names for t in range(config.seq_length)}
