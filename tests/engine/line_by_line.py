"""The lines of a model executed one at a time, timestep by timestep; the reference for compiled batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.compiled import Compiled
from tui_gru.engine.lowering import LineGroup
from tui_gru.engine.model import GRADIENTS, UPDATES
from tui_gru.engine.training import Point
from tui_gru.equations import syntax as e
from tui_gru.equations.axes import Axes, union
from tui_gru.equations.page import Equation
from tui_gru.equations.syntax import Expression

Value = tuple[NDArray[np.float64], Axes]
PHASES = ("forward", "backward")
FUNCTIONS: dict[str, Callable[..., NDArray[np.float64]]] = {
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "tanh": np.tanh,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "softmax": lambda a: np.exp(a - a.max(-1, keepdims=True)) / np.exp(a - a.max(-1, keepdims=True)).sum(-1, keepdims=True),
    "min": np.minimum,
    "max": np.maximum,
}


def evaluated(node: Expression, read: Callable[[str], Value], sizes: dict[str, int], part: Callable[..., Value | None]) -> Value:
    """Return the value of a formula at one timestep. `part` is called first for a labelled part, with the function that computes
    it."""

    def value(inner: Expression) -> Value:
        return evaluated(inner, read, sizes, part)

    if node.label and (found := part(node.label, lambda: value(e.without_label(node)))) is not None:
        return found
    match node:
        case e.Name(name=name):
            return read(name)
        case e.Number(value=number):
            return np.float64(float(number)), ()
        case e.Size(axes=axes):
            return np.float64(np.prod([sizes[axis] for axis in axes])), ()
        case e.Product(left=left, right=right):
            (a, of_a), (b, of_b) = value(left), value(right)
            return a @ b, (*of_a[:-1], *of_b[1:])
        case e.Transpose(argument=argument):
            a, axes = value(argument)
            return a.T, axes[::-1]
        case e.Reduce(argument=argument, kind=kind, over=over):
            a, axes = value(argument)
            at = axes.index(over)
            return (a.sum(at) if kind == "sum" else a.mean(at)), (*axes[:at], *axes[at + 1 :])
        case e.Join(parts=parts):
            values = [value(inner) for inner in parts]
            return np.concatenate([a for a, _ in values], -1), (*values[0][1][:-1], "+".join(axes[-1] for _, axes in values))
        case e.Slice(argument=argument, before=before, axes=own):
            a, axes = value(argument)
            start = sum(sizes[axis] for axis in before)
            return a[..., start : start + sum(sizes[axis] for axis in own)], (*axes[:-1], "+".join(own))
        case e.Sum(parts=parts):
            return _elementwise(lambda *arrays: sum(arrays[1:], arrays[0]), [value(inner) for inner in parts])
        case e.Times(parts=parts):
            return _elementwise(lambda *arrays: np.multiply.reduce(np.broadcast_arrays(*arrays)), [value(inner) for inner in parts])
        case e.Negative(argument=argument):
            return _elementwise(np.negative, [value(argument)])
        case e.Quotient(left=left, right=right):
            return _elementwise(np.divide, [value(left), value(right)])
        case e.Power(left=left, right=right):
            return _elementwise(np.power, [value(left), value(right)])
        case e.Apply(function=function, parts=parts):
            return _elementwise(FUNCTIONS[function], [value(inner) for inner in parts])
    raise AssertionError(node)


def _elementwise(function: Callable[..., NDArray[np.float64]], values: list[Value]) -> Value:
    axes = union([own for _, own in values])
    arrays = [
        a if own == axes[len(axes) - len(own) :] else a[tuple(slice(None) if x in own else None for x in axes)] for a, own in values
    ]
    return function(*arrays), axes


def timestep(group: LineGroup, step: int, T: int) -> int:
    """Return the timestep of a step, both 0-based; the last one if the lines are executed once."""
    return step if group.direction > 0 else T - 1 - step if group.direction else T - 1


def points(record: BatchRecord, *, update: bool = True) -> Iterator[Point]:
    """Yield every point in a batch: before each line of each timestep of each segment of each pass, and of the update."""
    T = record.compiled.sizes["T"]
    for phase in PHASES:
        for number, segment in enumerate(record.compiled.schedule.phases[phase].segments):
            for step in range(T if segment.direction else 1):
                yield from (Point(phase, number, step, done) for done in range(len(segment.lines) + 1))
    lines = record.compiled.model.rule.lines_of(record.before.names)
    yield from (Point("update", done=done) for done in range(len(lines) + 1) if update)


class Turn(NamedTuple):
    """A line at a timestep: its position in the order of execution, and the names of the parts that it computes."""

    place: tuple[int, int, int, int]
    phase: str
    line: Equation
    t: int
    parts: tuple[str, ...]


@cache
def turns(compiled: Compiled) -> tuple[Turn, ...]:
    """Return every line of every timestep of the two passes, in the order of execution."""
    T = compiled.sizes["T"]
    forward = {node.label for line in compiled.model.page.lines for node in line.formula.walk()}
    found = []
    for p, phase in enumerate(PHASES):
        for s, segment in enumerate(compiled.schedule.phases[phase].segments):
            for step in range(T if segment.direction else 1):
                for k, line in enumerate(segment.lines):
                    labels = [node.label for node in line.formula.walk() if node.label]
                    parts = tuple(label for label in labels if phase == "forward" or label not in forward)
                    found.append(Turn((p, s, step, k), phase, line, timestep(segment, step, T), parts))
    return tuple(found)


def waiting(record: BatchRecord, at: Point) -> list[Turn]:
    """Return all lines that have not been executed at a point, in order, without the update."""
    place = PHASES.index(at.phase) if at.phase in PHASES else len(PHASES), at.segment, at.step, at.done
    return [turn for turn in turns(record.compiled) if turn.place >= place]


def execute(record: BatchRecord, at: Point) -> dict[str, NDArray[np.float64]]:
    """Compute everything after a point into the arrays of a record. Return the gradients, which add up over the timesteps."""
    for turn in waiting(record, at):
        if turn.line.op == "=":
            _write(record, turn.line.target, turn.t, _line(record, turn))
    gradients: dict[str, NDArray[np.float64]] = {}
    for turn in turns(record.compiled):
        if turn.line.op == "+=":
            name = turn.line.target[1:]
            gradients[name] = gradients.get(name, 0) + _line(record, turn)
    return gradients


def _line(record: BatchRecord, turn: Turn) -> NDArray[np.float64]:
    line, t, own, done = turn.line, turn.t, turn.parts, set[str]()

    def read(name: str) -> Value:
        if name in record.before.names:
            return record.before[name], record.compiled.model.axes[name]
        axes = record.compiled.schedule.named[name].axes
        array = record.array(name).astype(np.float64)
        return (array[t], axes[1:]) if axes[:1] == ("T",) and line_is_timed else (array, axes)

    def part(label: str, compute: Callable[[], Value]) -> Value:
        if label not in own or label in done:
            return read(label)
        done.add(label)
        array, axes = compute()
        if line.op == "=":
            _write(record, label, t, array)
        return array, axes

    line_is_timed = line.op == "+=" or record.compiled.schedule.named[line.target].axes[:1] == ("T",)
    return evaluated(line.formula, read, record.compiled.sizes, part)[0]


def _write(record: BatchRecord, name: str, t: int, value: NDArray[np.float64]) -> None:
    array = record.array(name)
    if record.compiled.schedule.named[name].axes[:1] == ("T",):
        array[t] = value
    else:
        array[...] = value


def updated(record: BatchRecord, done: int = 0) -> dict[str, NDArray[np.float64]]:
    """Return the result of each line of the update by its target; the first `done` lines have been executed."""
    rule, names = record.compiled.model.rule, record.before.names
    values: dict[str, NDArray[np.float64]] = {name: np.float64(value) for name, value in record.settings.items()}
    values |= {UPDATES: np.float64(record.before.updates + 1), GRADIENTS: record.own_gradients.flat}
    for name in (*names, *record.compiled.layout.state_names):
        values[name] = record.before[name]
    values |= {f"d{name}": record.own_gradients[name] for name in names}
    found: dict[str, NDArray[np.float64]] = {}
    for number, line in enumerate(rule.lines_of(names)):
        array, _ = evaluated(line.formula, lambda name: (values[name], ("P",) * (np.ndim(values[name]) > 0)), {}, lambda *_: None)
        if line.op == "-=":
            array = values[line.target] - array
        found[line.target] = after(record, line.target) if number < done else array
        values[line.target] = found[line.target]
    return found


def after(record: BatchRecord, target: str) -> NDArray[np.float64]:
    """Return the result of a record's update by the target of a line: a weight, m_Wz, or a number."""
    if target in record.own_after.layout.places:
        return record.own_after[target]
    if target in record.numbers:
        return np.float64(record.numbers[target])
    vector = next(name for name in record.compiled.update.vectors if target.startswith(f"{name}_"))
    return record.vector(vector)[target.removeprefix(f"{vector}_")]
