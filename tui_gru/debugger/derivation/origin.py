"""The derivation of a number: its terms, each of which has a derivation of its own.

Derivations follow the equations of the program. A term is a recorded number, exact to the bit, or, for a part of a line that is not
recorded, a number computed in float64 from recorded ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from tui_gru.engine.numbers import same


@dataclass(frozen=True)
class ValueRef:
    """A reference to one number of a run: entry `index` (0-based) of `name`, at timestep `t` or None, as of `tick`.

    `before` refers to the number as it was before the edits made at that tick.
    """

    name: str
    index: tuple[int, ...]
    t: int | None
    tick: int
    before: bool = False


@dataclass(frozen=True, eq=False)
class Derivation:
    """How a value is computed from its terms: by `kind`, times `scale`. `tick` is where it was computed; `note` adds an
    explanation.

    The kinds are sum, product, quotient, power, min, max, the functions of one argument (applied to the sum of the terms), norm,
    copy (of the single term), and given, which has no terms.
    """

    kind: str
    grown: tuple[Node, ...] | Callable[[], tuple[Node, ...]] = ()
    scale: float = 1.0
    note: str = ""
    formula: str = ""
    tick: int | None = None

    @property
    def near(self) -> bool:
        """True if its terms are available without replaying another batch."""
        return not callable(self.grown)

    @cached_property
    def terms(self) -> tuple[Node, ...]:
        """The terms, in the order of the line."""
        return self.grown() if callable(self.grown) else self.grown

    @property
    def combined(self) -> float:
        """The value computed from the terms, in float64; NaN if there are none."""
        values = [term.contribution for term in self.terms]
        if not values:
            return math.nan
        match self.kind:
            case "product":
                return self.scale * math.prod(values)
            case "quotient":
                return self.scale * values[0] / values[1] if values[1] else math.nan
            case "power":
                return float(self.scale * values[0] ** values[1])
            case "min" | "max":
                return min(values) if self.kind == "min" else max(values)
            case "norm":
                return self.scale * math.hypot(*values)
        total = _total(values)
        match self.kind:
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
                return float(total > 0 and (self.kind == "positive" or total < 1))
        return self.scale * total

    @property
    def adds(self) -> bool:
        """True if the terms are summed, so that each has a share."""
        return self.kind not in ("product", "quotient", "power", "min", "max", "given", "copy")


@dataclass(frozen=True, eq=False)
class Node:
    """A value in a derivation. `number` refers to the recorded number, None for an unrecorded part of a line; `sign` is its sign in
    the sum it is a term of.

    `exact` says that the value is recorded; otherwise it was computed in float64.
    """

    label: str
    value: float
    expand: Callable[[], Derivation] = field(repr=False)
    number: ValueRef | None = None
    sign: int = 1
    exact: bool = False
    latex: str = ""

    @cached_property
    def derivation(self) -> Derivation:
        return self.expand()

    @property
    def terms(self) -> tuple[Node, ...]:
        return self.derivation.terms

    @property
    def contribution(self) -> float:
        """The value with its sign in the sum that it is a term of."""
        return self.sign * self.value

    @property
    def rounding(self) -> float:
        """The value minus the result of its terms: the rounding of the dtype in which it was computed."""
        if not self.terms:
            return 0.0
        combined = self.derivation.combined
        return 0.0 if same(combined, self.value) else self.value - combined

    @cached_property
    def shares(self) -> tuple[float, ...]:
        """The share of each term in the sum of the terms' magnitudes; empty if the terms are not summed."""
        if not self.derivation.adds:
            return ()
        sizes = [abs(term.value) for term in self.terms]
        if self.derivation.kind == "norm":
            sizes = [size * size for size in sizes]
        total = math.fsum(sizes) if all(map(math.isfinite, sizes)) else math.nan
        return tuple(size / total if total > 0 else 0.0 for size in sizes)

    @property
    def largest(self) -> Node | None:
        """The term with the largest magnitude; None if there are none."""
        return max(self.terms, key=lambda term: abs(term.value), default=None)

    def walk(self, depth: int) -> Iterator[Node]:
        """Yield the node, its terms and theirs, down to `depth` levels."""
        yield self
        if depth:
            for term in self.terms:
                yield from term.walk(depth - 1)


def given(note: str, tick: int | None = None) -> Derivation:
    """Return the derivation of a value that the run did not compute."""
    return Derivation("given", note=note, tick=tick)


def _total(values: list[float]) -> float:
    return math.fsum(values) if all(map(math.isfinite, values)) else sum(values)
