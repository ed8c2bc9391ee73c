"""An independent training loop: cells run one operation at a time on a tape, which is then read backwards.

It shares the parser with the engine and nothing else. Every array has two axes; an axis that a value lacks has length 1. With
carry `notebook` the tapes of earlier batches are read backwards as well: every operation at the values that its operands had, every
weight as it is now. With `noise`, the result of every operation is changed by about `NOISE` of it, which shows what rounding does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tui_gru.equations import syntax as e
from tui_gru.equations.page import Page

Arrays = dict[str, np.ndarray]

NOISE = 1e-9

FUNCTIONS = {
    "sigmoid": (lambda a: 1 / (1 + np.exp(-a)), lambda a, y: y * (1 - y)),
    "tanh": (np.tanh, lambda a, y: 1 - y * y),
    "relu": (lambda a: np.maximum(a, 0), lambda a, y: (a > 0) * 1.0),
    "clamp": (lambda a: np.clip(a, 0, 1), lambda a, y: ((a > 0) & (a < 1)) * 1.0),
    "exp": (np.exp, lambda a, y: y),
    "log": (np.log, lambda a, y: 1 / a),
    "sqrt": (np.sqrt, lambda a, y: 1 / (2 * y)),
}


def softmax(a: np.ndarray) -> np.ndarray:
    powers = np.exp(a - a.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def log_softmax(a: np.ndarray) -> np.ndarray:
    """Return the logarithm of the softmax, which is finite where a probability is too small for a number."""
    a = a - a.max(1, keepdims=True)
    return a - np.log(np.exp(a).sum(1, keepdims=True))


def flat(value: np.ndarray) -> np.ndarray:
    """Return a weight as an array with two axes."""
    return np.atleast_2d(np.asarray(value, np.float64))


@dataclass
class Entry:
    """An operation with its operands (numbers of entries before it), or a leaf; `weight` is the name of a weight."""

    kind: str
    operands: tuple[int, ...]
    value: np.ndarray
    weight: str = ""
    extra: Any = None


@dataclass
class Tape:
    """A batch. `named` has the entries of the names at each timestep, `begin` and `end` those of the states before and after, and
    `leaves` those of the weights."""

    entries: list[Entry] = field(default_factory=list)
    named: list[dict[str, int]] = field(default_factory=list)
    begin: dict[str, int] = field(default_factory=dict)
    end: dict[str, int] = field(default_factory=dict)
    leaves: dict[str, int] = field(default_factory=dict)
    noise: np.random.Generator | None = None

    def add(self, kind: str, operands: Sequence[int], value: np.ndarray, extra: Any = None) -> int:
        self.entries.append(Entry(kind, tuple(operands), self.rounded(value) if operands else value, extra=extra))
        return len(self.entries) - 1

    def rounded(self, value: np.ndarray) -> np.ndarray:
        """Return a value with noise, if there is any."""
        return value if self.noise is None else value * (1 + NOISE * self.noise.standard_normal(value.shape))

    def value(self, name: str, t: int) -> np.ndarray:
        """Return the value of a name at a timestep."""
        return self.entries[self.named[t][name]].value

    def backward(self, seeds: Mapping[int, np.ndarray], weights: Arrays) -> list[np.ndarray]:
        """Return the gradient of every entry from those of some, with these weights."""
        slopes: list[Any] = [0.0] * len(self.entries)
        for entry, seed in seeds.items():
            slopes[entry] = slopes[entry] + seed

        def now(i: int) -> np.ndarray:
            entry = self.entries[i]
            if entry.weight:
                return weights[entry.weight]
            if entry.kind in ("neg", "turn") and self._is_weight(entry.operands[0]):
                return -now(entry.operands[0]) if entry.kind == "neg" else now(entry.operands[0]).T
            return entry.value

        for i in reversed(range(len(self.entries))):
            entry, a = self.entries[i], slopes[i]
            if not entry.operands or np.ndim(a) == 0:
                continue
            a = self.rounded(a)
            for operand, slope in zip(entry.operands, self._handed_back(entry, a, now), strict=True):
                shape = self.entries[operand].value.shape
                axes = tuple(k for k in (0, 1) if shape[k] == 1 and slope.shape[k] != 1)
                slopes[operand] = slopes[operand] + slope.sum(axes, keepdims=True)
        return [np.zeros_like(entry.value) + slope for entry, slope in zip(self.entries, slopes, strict=True)]

    def _is_weight(self, i: int) -> bool:
        entry = self.entries[i]
        return bool(entry.weight) or (entry.kind in ("neg", "turn") and self._is_weight(entry.operands[0]))

    def _handed_back(self, entry: Entry, a: np.ndarray, now: Any) -> list[np.ndarray]:
        values, y = [now(i) for i in entry.operands], entry.value
        match entry.kind:
            case "sum":
                return [a] * len(values)
            case "neg":
                return [-a]
            case "turn":
                return [a.T]
            case "times":
                found = []
                for i in range(len(values)):
                    slope = a
                    for k, other in enumerate(values):
                        slope = slope if k == i else slope * other
                    found.append(slope)
                return found
            case "quotient":
                return [a / values[1], -a * values[0] / values[1] ** 2]
            case "power":
                return [a * entry.extra * values[0] ** (entry.extra - 1)]
            case "product":
                return [a @ values[1].T, values[0].T @ a]
            case "reduce":
                return [np.broadcast_to(a * entry.extra, values[0].shape)]
            case "mean of timesteps":
                return [a / len(values)] * len(values)
            case "join":
                cuts = np.cumsum([value.shape[1] for value in values])[:-1]
                return list(np.split(np.broadcast_to(a, y.shape), cuts, axis=1))
            case "softmax":
                return [y * (a - (a * y).sum(1, keepdims=True))]
        return [a * FUNCTIONS[entry.kind][1](values[0], y)]


class Batch(NamedTuple):
    """The weights, the inputs (B, ·) of each timestep and the first states of a batch."""

    weights: Arrays
    x: Sequence[Arrays]
    states: Arrays


def forward(page: Page, batch: Batch, noise: np.random.Generator | None = None) -> Tape:
    """Run the lines of a page up to its logits for every timestep. The states are read forwards."""
    weights, x, states = batch
    tape = Tape(noise=noise)
    for name, weight in weights.items():
        tape.entries.append(Entry("leaf", (), weight, weight=name))
        tape.leaves[name] = len(tape.entries) - 1
    inputs = [{name: tape.add("leaf", (), value) for name, value in at.items()} for at in x]
    tape.begin = {state: tape.add("leaf", (), states[state]) for state in page.states}
    before = dict(tape.begin)
    for at in inputs:
        env = {**tape.leaves, **at, **{page.before(state): before[state] for state in page.states}}
        for line in page.lines:
            env[line.target] = _put(tape, line.formula, env, inputs)
            if line.target == "logits":
                break
        tape.named.append(env)
        before = {state: env[state] for state in page.states}
    tape.end = before
    return tape


def _put(tape: Tape, node: e.Expression, env: dict[str, int], inputs: Sequence[dict[str, int]]) -> int:
    if node.label and node.label in env:
        return env[node.label]
    found = _put_plain(tape, node, env, inputs)
    if node.label:
        env[node.label] = found
    return found


def _put_plain(tape: Tape, node: e.Expression, env: dict[str, int], inputs: Sequence[dict[str, int]]) -> int:
    if isinstance(node, e.Name):
        return env[node.name]
    if isinstance(node, e.Number):
        return tape.add("number", (), np.full((1, 1), float(node.value)))
    if isinstance(node, e.Reduce) and node.over == "T":  # of inputs and weights alone
        each = [_put(tape, node.argument, {**env, **at}, inputs) for at in inputs]
        assert node.kind == "mean"
        return tape.add("mean of timesteps", each, np.mean([tape.entries[i].value for i in each], axis=0))
    if isinstance(node, e.Power):
        operand = _put(tape, node.left, env, inputs)
        power = float(node.right.value)  # type: ignore[attr-defined]
        return tape.add("power", (operand,), tape.entries[operand].value ** power, power)
    operands = [_put(tape, child, env, inputs) for child in node.children]
    values = [tape.entries[i].value for i in operands]
    match node:
        case e.Sum():
            return tape.add("sum", operands, sum(values[1:], values[0]))
        case e.Negative():
            return tape.add("neg", operands, -values[0])
        case e.Transpose():
            return tape.add("turn", operands, values[0].T)
        case e.Times():
            product = values[0]
            for value in values[1:]:
                product = product * value
            return tape.add("times", operands, product)
        case e.Quotient():
            return tape.add("quotient", operands, values[0] / values[1])
        case e.Product():
            return tape.add("product", operands, values[0] @ values[1])
        case e.Reduce(kind=kind, over=over):
            axis = 0 if over == "B" else 1
            share = 1.0 if kind == "sum" else 1.0 / values[0].shape[axis]
            return tape.add("reduce", operands, values[0].sum(axis, keepdims=True) * share, share)
        case e.Join():
            return tape.add("join", operands, np.concatenate(values, axis=1))
        case e.Apply(function="softmax"):
            return tape.add("softmax", operands, softmax(values[0]))
        case e.Apply(function=function):
            return tape.add(function, operands, FUNCTIONS[function][0](values[0]))
    raise TypeError(node)


def gradients(
    page: Page, batches: Sequence[Batch], targets: Sequence[np.ndarray], noise: np.random.Generator | None = None
) -> tuple[Arrays, Tape]:
    """Return the gradients of the mean cross-entropy of the last batch, continued into the batches before it, and its tape.

    `targets` are one-hot, (B, V) by timestep.
    """
    tapes = [forward(page, batch, noise) for batch in batches]
    own, weights = tapes[-1], batches[-1].weights
    count = len(targets) * len(targets[0])
    logits = [at["logits"] for at in own.named]
    seeds = {i: (softmax(own.entries[i].value) - y) / count for i, y in zip(logits, targets, strict=True)}
    total = {name: np.zeros_like(weight) for name, weight in weights.items()}
    while tapes:
        tape = tapes.pop()
        slopes = tape.backward(seeds, weights)
        total = {name: gradient + slopes[tape.leaves[name]] for name, gradient in total.items()}
        seeds = {}
        for state, i in tape.begin.items() if tapes else ():
            end = tapes[-1].end[state]
            seeds[end] = seeds.get(end, 0.0) + slopes[i]
    return total, own


def losses(tape: Tape, targets: Sequence[np.ndarray]) -> np.ndarray:
    """Return the loss of every row of every timestep, (T, B)."""
    return np.array([-(log_softmax(tape.value("logits", t)) * y).sum(1) for t, y in enumerate(targets)])
