"""Helpers that ask a session for derivations, and the rounding error allowed for the sum of the terms."""

import math

import numpy as np

from tui_gru import Session

FUNCTIONS = ("sigmoid", "tanh", "log", "exp", "relu", "clamp")
UNEXPLAINED = ("epoch", "batch", "t", "char", "target")


def learning(**options):
    session = Session(**{"learning_rate": 0.3, **options})
    session.learning = True
    return session


def explained(session):
    """The names that can be asked where they come from."""
    return [name for name in session.program.readable if name not in UNEXPLAINED]


def numbers_here(session, chance, most=None):
    """Names that can be read here, `most` of them chosen at random, each with an entry chosen at random, and its value."""
    names = [name for name in explained(session) if session.value(name) is not None]
    for name in names if most is None else chance.sample(names, min(most, len(names))):
        value = np.asarray(session.value(name))
        index = tuple(chance.randrange(n) for n in value.shape)
        yield name, index, float(value[index])


def size(node):
    """What is added up on the way to a value: of a number that was rounded itself, the number; else all of what it is made of."""
    if node.exact or not node.terms or not node.derivation.adds:
        return abs(node.value)
    own = abs(node.value) if node.derivation.kind in FUNCTIONS else 0.0
    return own + math.fsum(map(size, node.terms))


def allowed(node, dtype):
    """What rounding may leave where a value was computed in this dtype: some units in the last place of what was added up."""
    eps = float(np.finfo(dtype).eps)
    kind, sizes = node.derivation.kind, [size(term) for term in node.terms]
    if kind in FUNCTIONS:
        return 16 * eps * max(1.0, *sizes)
    if kind == "sqrt":
        return 16 * eps * math.fsum(sizes) / max(abs(node.value), 1e-30)
    if kind in ("product", "quotient", "power", "min", "max"):
        cancelled = sum(size(term) / abs(term.value) for term in node.terms if term.value)
        return 16 * eps * cancelled * abs(node.value) + 1e-36
    return 16 * eps * (math.fsum(sizes) * abs(node.derivation.scale) + 1e-30)


def assert_adds_up(root, depth, dtype):
    """Every node down to `depth` is what its terms make. How many there were."""
    checked = 0
    for node in root.walk(depth):
        if node.terms:
            checked += 1
            assert abs(node.rounding) <= allowed(node, dtype), (root.label, node, node.derivation)
    return checked
