"""Sessions that are asked where numbers come from, and how far the terms of one may be from what they make."""

import math

import numpy as np

from tui_gru import Session

TEXT = "abcacbabcbacbabcaabc"
FUNCTIONS = ("sigmoid", "tanh", "log", "exp")


def learning(**options):
    session = Session(**{"learning_rate": 0.3, **options})
    session.learning = True
    return session


def size(node):
    """What is added up on the way to a value: of a number that was rounded itself, the number; else all of what it is made of."""
    if node.exact or not node.terms or not node.expansion.adds:
        return abs(node.value)
    return math.fsum(map(size, node.terms))


def allowed(node, dtype):
    """What rounding may leave where a value was computed in this dtype: some units in the last place of what was added up."""
    eps = float(np.finfo(dtype).eps)
    kind, sizes = node.expansion.kind, [size(term) for term in node.terms]
    if kind in FUNCTIONS:
        return 16 * eps * max(1.0, *sizes)
    if kind in ("product", "quotient"):
        cancelled = sum(size(term) / abs(term.value) for term in node.terms if term.value)
        return 16 * eps * cancelled * abs(node.value) + 1e-36
    return 16 * eps * (math.fsum(sizes) * abs(node.expansion.scale) + 1e-30)


def assert_adds_up(root, depth, dtype):
    """Every node down to `depth` is what its terms make. How many there were."""
    checked = 0
    for node in root.walk(depth):
        if node.terms:
            checked += 1
            assert abs(node.rounding) <= allowed(node, dtype), (root.label, node, node.expansion)
    return checked
