"""A plain interpreter of a model's equations: one line at a time in NumPy, without shared or batched operations."""

import math
from collections import defaultdict
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from tui_gru.engine.model import GRADIENTS, UPDATES
from tui_gru.equations import syntax as e
from tui_gru.equations.page import Equation

FUNCTIONS = {
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "tanh": np.tanh,
    "relu": lambda a: np.maximum(a, 0),
    "clamp": lambda a: np.clip(a, 0, 1),
    "softmax": lambda a: np.exp(a - a.max(-1, keepdims=True)) / np.exp(a - a.max(-1, keepdims=True)).sum(-1, keepdims=True),
    "log": np.log,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "min": np.minimum,
    "max": np.maximum,
    "positive": lambda a: np.where(a > 0, 1.0, 0.0),
    "within": lambda a: np.where((a > 0) & (a < 1), 1.0, 0.0),
}
LAST = ("V", "H", "D")


class Executed(NamedTuple):
    """An executed line: its phase, segment and step, its number in the segment, its timestep, and the parts that have a name."""

    phase: str
    segment: int
    step: int
    number: int
    name: str
    t: int
    line: Equation | None
    labels: tuple[str, ...] = ()


@lru_cache
def executed(config):
    """Return every line of a batch that learns, in the order of execution."""
    T, found = config.seq_length, []
    for phase in ("forward", "backward"):
        for s, segment in enumerate(config.compiled.schedule.phases[phase].segments):
            timesteps = {1: range(T), -1: range(T - 1, -1, -1), 0: [T - 1]}[segment.direction]
            for step, t in enumerate(timesteps):
                for number, line in enumerate(segment.lines):
                    labels = labels_of(line)
                    found.append(Executed(phase if segment.direction else "loss", s, step, number, line.target, t, line, labels))
    if config.carry == "notebook":
        *_, last = found
        found.append(Executed("backward", last.segment, last.step, last.number + 1, "earlier", T - 1, None))
    update = enumerate(config.model.rule.lines_of(config.model.parameters))
    found += [Executed("update", 0, 0, number, line.target, T - 1, line, labels_of(line)) for number, line in update]
    return tuple(found)


def labels_of(line):
    """The names of the parts of a line."""
    return tuple(node.label for node in line.formula.walk() if node.label)


def evaluated(node, read, sizes, keep=lambda label, value: value):
    """Evaluate an expression with the values that `read` gives for its names. `keep` receives the value of every labelled part, and
    returns the value to continue with."""

    def of(child):
        return evaluated(child, read, sizes, keep)

    def each(children):
        """The values of children; a number for each row (B), which no vector of units is as long as, stands in a column."""
        values = list(map(of, children))
        widest = max(map(np.shape, values), key=len)
        is_column = len(widest) == 2 and widest[1] != widest[0]
        return [value[:, None] if is_column and np.shape(value) == widest[:1] else value for value in values]

    match node:
        case e.Name(name=name):
            value = read(name)
        case e.Activation(argument=argument):
            value = of(argument)
        case e.Spread(argument=argument, axes=axes):
            value = np.broadcast_to(of(argument)[:, None], [sizes[axis] for axis in axes if axis != "T"])
        case e.Number(value=number):
            value = float(number)
        case e.Size(axes=axes):
            value = math.prod(sizes[axis] for axis in axes)
        case e.Sum(parts=parts):
            value = sum(each(parts))
        case e.Negative(argument=argument):
            value = -of(argument)
        case e.Times(parts=parts):
            value = math.prod(each(parts))
        case e.Quotient(left=left, right=right):
            dividend, divisor = each((left, right))
            value = dividend / divisor
        case e.Power(left=left, right=right):
            value = of(left) ** of(right)
        case e.Product(left=left, right=right):
            value = of(left) @ of(right)
        case e.Transpose(argument=argument):
            value = of(argument).T
        case e.Join(parts=parts):
            value = np.concatenate([of(part) for part in parts], -1)
        case e.Slice(argument=argument, before=before, axes=axes):
            start = sum(sizes[axis] for axis in before)
            value = of(argument)[..., start : start + sum(sizes[axis] for axis in axes)]
        case e.Reduce(argument=argument, kind=kind, over=over):
            value = getattr(np, kind)(of(argument), axis=-1 if over in LAST else 0)
        case e.Apply(parts=parts, function=function):
            value = FUNCTIONS[function](*map(of, parts))
        case _:
            raise AssertionError(f"{node!r} has no meaning here")
    return keep(node.label, value) if node.label else value


class Plain:
    """Computes a batch from the stored values of a record. `memory` has (T, …) of every name, and the weights; it is written to.

    Gradients are those of the whole batch, with nothing of earlier batches.
    """

    def __init__(self, config, record):
        self.config, self.sizes, self.lines = config, config.compiled.sizes, executed(config)
        page, self.parameters = config.model.page, config.model.parameters
        self.before = record.before
        gradients = {f"d{name}" for name in self.parameters}
        recorded = [name for name in record.compiled.schedule.named if not name.endswith(" ids")]
        self.memory = {name: record.array(name).copy() for name in recorded if name not in gradients | {*self.parameters}}
        self.memory |= {name: record.before[name].copy() for name in (*self.parameters, *record.before.layout.state_names)}
        self.memory |= {name: record.own_gradients[name[1:]].copy() for name in gradients}
        vectors = [line.target for line in config.model.rule.lines if line.target in record.vectors]
        self.memory |= {f"{each}_{name}": record.vector(each)[name].copy() for each in vectors for name in self.parameters}
        self.memory |= {name: np.array(number) for name, number in record.numbers.items()}
        self.after = record.after
        self.settings = {**record.settings, UPDATES: record.before.updates + 1}
        self.ways = {state: -1 if page.states[state].backwards else 1 for state in page.states}
        self.home = {}  # the first line in which each labelled part occurs, which computes it
        for line in self.lines:
            for node in line.line.formula.walk() if line.line is not None else ():
                self.home.setdefault(node.label, line.name)
        #: The name by which another timestep reads the result of a line, and the distance of that timestep.
        self.carried = {state: (page.before(state), way) for state, way in self.ways.items()}
        self.carried |= {f"d{page.before(state)}": (page.received(state), -way) for state, way in self.ways.items()}

    def put(self, name, t, value, index=...):
        """Set a number or an array of timestep `t` (None for a value that a batch has once), also where another timestep reads
        it."""
        array = self.memory[name] if t is None else self.memory[name][t : t + 1][0, ...]
        array[index] = value
        read, way = self.carried.get(name, ("", 0))
        if way and 0 <= t + way < self.config.seq_length:
            self.memory[read][t + way] = self.memory[name][t]
        for computed, (read, way) in self.carried.items():
            if read == name and 0 <= t - way < self.config.seq_length:
                self.memory[computed][t - way] = self.memory[name][t]

    def line_of(self, name, t):
        """Return the number (0-based) of the line that computes a name, for timestep `t` if it is in a loop."""
        numbers = [i for i, line in enumerate(self.lines) if line.name == self.home.get(name, name) and (t is None or line.t == t)]
        return numbers[-1]

    def replace(self, name, t, index, value):
        """Replace a number, and compute the rest from the line after it."""
        page = self.config.model.page
        read_in = {page.before(state): state for state in page.states} | {
            page.received(s): f"d{page.before(s)}" for s in page.states
        }
        if t is None:
            self.memory[name][index] = value
            update = next(i for i, line in enumerate(self.lines) if line.phase == "update")
            if name in self.before.layout.places:
                self.run()
            elif name[1:] in self.parameters:
                self.run(update)
            else:
                number = self.line_of(name, None) + 1
                done = [line.name for line in self.lines[update:number] if line.name in self.before.layout.places]
                self.memory |= {weights: self.after[weights].copy() for weights in done}
                self.run(number)
        elif name in read_in:
            at = self.lines[self.line_of(read_in[name], t)]
            self.put(name, t, value, index)
            self.run(next(i for i, line in enumerate(self.lines) if line[:3] == at[:3]))
        elif name in self.home:
            number = self.line_of(name, t)
            self.memory[name][t : t + 1][(0, *index)] = value
            labelled = [node for node in self.lines[number].line.formula.walk() if node.label]
            outer = {node.label for node in labelled if node.label != name and any(part.label == name for part in node.walk())}
            self.run(number, given={node.label for node in labelled} - outer)
        else:
            self.put(name, t, value, index)
            self.run(self.line_of(name, t) + 1)

    def run(self, first=0, last=None, given=()):
        """Execute the lines from `first` to `last` (0-based). The labelled parts in `given` are unchanged in the first line."""
        for number, line in enumerate(self.lines[first:last], first):
            if line.name != "earlier" and not (line.phase == "backward" and line.name[1:] in self.parameters):
                self._execute(line, given if number == first else ())
            if number + 1 < len(self.lines) and line.phase == "backward" and self.lines[number + 1].phase == "update":
                self.memory |= self.gradients()

    def _execute(self, executed, given):
        t = None if executed.phase in ("loss", "update") else executed.t

        def keep(label, value):
            if label in given or self.home[label] != executed.name:
                return self.memory[label][t]
            self.memory[label][t] = value
            return value

        value = evaluated(
            executed.line.formula, lambda name: self.read(name, t), self.sizes, keep if t is not None else lambda _, value: value
        )
        if executed.line.op == "-=":
            value = self.memory[executed.name] - value
        if t is not None:
            self.put(executed.name, t, value)
        else:
            self.memory[executed.name] = np.asarray(value)

    def gradients(self):
        """Return the sum of the contributions of all timesteps to the gradient of each parameter."""
        totals = defaultdict(float)
        for line in self.lines:
            if line.phase == "backward" and line.line is not None and line.line.op == "+=":
                totals[line.name] += evaluated(line.line.formula, lambda name, t=line.t: self.read(name, t), self.sizes)
        return dict(totals)

    def read(self, name, t):
        """Return what a line executed for timestep `t` reads (None for a line executed once per batch)."""
        if name in self.settings:
            return self.settings[name]
        if name == GRADIENTS:
            return np.concatenate([self.memory[f"d{name}"].ravel() for name in self.parameters])
        value = self.memory[name]
        return value[t] if self.is_timed(name) and t is not None else value

    def is_timed(self, name):
        """Return True if every timestep has its own value."""
        operation = self.config.compiled.schedule.named.get(name)
        return operation is not None and operation.timed
