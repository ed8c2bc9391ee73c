"""Helpers that ask a session for derivations, and the rounding error allowed for the sum of the terms."""

import math

import numpy as np

from tui_gru import Session
from tui_gru.debugger.derivation import total_of
from tui_gru.engine.numbers import same

FUNCTIONS = ("sigmoid", "tanh", "log", "exp", "relu", "clamp")
UNEXPLAINED = ("epoch", "batch", "t", "step", "char", "target")


def learning(**options):
    session = Session(**{"learning_rate": 0.3, **options})
    session.learning = True
    return session


def explained(session):
    """Return the names whose origin can be shown."""
    return [name for name in session.program.readable if name not in UNEXPLAINED]


def numbers_here(session, chance, most=None):
    """Yield `most` random names that can be read here, each with a random entry and its value."""
    names = [name for name in explained(session) if session.value(name) is not None]
    for name in names if most is None else chance.sample(names, min(most, len(names))):
        value = np.asarray(session.value(name))
        index = tuple(chance.randrange(n) for n in value.shape)
        yield name, index, float(value[index])


def walk(node, depth):
    """Yield a node, its terms and theirs, down to `depth` levels."""
    yield node
    for term in node.terms if depth else ():
        yield from walk(term, depth - 1)


def combined(derivation):
    """Return the value of a derivation computed from its terms, in float64; NaN if there are none."""
    values = [term.contribution for term in derivation.terms]
    if not values:
        return math.nan
    match derivation.kind:
        case "product":
            return derivation.scale * math.prod(values)
        case "quotient":
            return derivation.scale * values[0] / values[1] if values[1] else math.nan
        case "power":
            return derivation.scale * values[0] ** values[1]
        case "min" | "max":
            return min(values) if derivation.kind == "min" else max(values)
        case "norm":
            return derivation.scale * math.hypot(*values)
    total = total_of(values)
    match derivation.kind:
        case "sigmoid":
            return 1 / (1 + math.exp(-total)) if total > -700 else 0.0
        case "tanh":
            return math.tanh(total)
        case "log":
            return math.log(total) if total > 0 else -math.inf
        case "exp":
            return math.exp(total) if total < 700 else math.inf
        case "sqrt":
            return math.sqrt(total) if total >= 0 else math.nan
        case "relu":
            return max(total, 0.0)
        case "clamp":
            return min(max(total, 0.0), 1.0)
        case "positive" | "within":
            return float(total > 0 and (derivation.kind == "positive" or total < 1))
    return derivation.scale * total


def rounding(node):
    """Return the value minus the result of its terms: the rounding of the dtype in which it was computed."""
    if not node.terms:
        return 0.0
    value = combined(node.derivation)
    return 0.0 if same(value, node.value) else node.value - value


def size(node):
    """Return the rounding error of a value in units in the last place of 1, at most: for a recorded number, the number itself; for
    one computed in float64 here and in another dtype by the engine, what its terms can add."""
    if node.exact or not node.terms:
        return abs(node.value)
    derivation, sizes = node.derivation, [size(term) for term in node.terms]
    match derivation.kind:
        case "product" | "quotient" | "power":
            return abs(node.value) + in_product(derivation, sizes)
        case "exp":
            return abs(node.value) * (1 + math.fsum(sizes))
        case "log" | "sqrt":
            total = abs(total_of([term.contribution for term in node.terms]))
            return abs(node.value) + math.fsum(sizes) / max(total if derivation.kind == "log" else abs(node.value), 1e-30)
    own = abs(node.value) if derivation.kind in FUNCTIONS else 0.0
    return own + math.fsum(sizes) * (1.0 if derivation.kind in FUNCTIONS else abs(derivation.scale))


def in_product(derivation, sizes):
    """Return what the errors `sizes` of the terms add to a product, a quotient or a power of them."""
    values = [abs(term.value) for term in derivation.terms]
    if derivation.kind == "product":
        each = (math.prod(sizes[i] if i == k else value for i, value in enumerate(values)) for k in range(len(values)))
        return abs(derivation.scale) * math.fsum(each)
    left, right = values
    if derivation.kind == "quotient":
        return abs(derivation.scale) * (sizes[0] + sizes[1] * left / right) / right if right else 0.0
    return abs(derivation.scale) * right * sizes[0] * left ** (right - 1) if left else 0.0


def allowed(node, dtype):
    """Return the rounding error allowed for a value computed in this dtype: some units in the last place of the sum."""
    eps = float(np.finfo(dtype).eps)
    kind, sizes = node.derivation.kind, [size(term) for term in node.terms]
    if kind in FUNCTIONS:
        return 16 * eps * max(1.0, *sizes)
    if kind == "sqrt":
        return 16 * eps * math.fsum(sizes) / max(abs(node.value), 1e-30)
    if kind in ("product", "quotient", "power"):
        return 16 * eps * (abs(node.value) + in_product(node.derivation, sizes)) + 1e-36
    return 16 * eps * (math.fsum(sizes) * abs(node.derivation.scale) + 1e-30)


def assert_adds_up(root, depth, dtype):
    """Check that every node down to `depth` equals the result of its terms. Return the number of nodes."""
    checked = 0
    for node in walk(root, depth):
        if node.terms:
            checked += 1
            assert abs(rounding(node)) <= allowed(node, dtype), (root.label, node, node.derivation)
    return checked
