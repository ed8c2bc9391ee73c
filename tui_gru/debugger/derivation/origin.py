"""Where a number comes from: the terms that it is the sum or product of, each of which can be asked in turn.

Every derivation is read off the program's table. A term is a number that was computed, to the bit, or, where a part of a line
was never a number of its own, worked out in float64 from those that were.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from tui_gru.engine.numbers import same


@dataclass(frozen=True)
class ValueRef:
    """One number of a run: entry `index` (0-based) of `name`, at timestep `t` where it has one, as it is read at `tick`.

    `before`: as it was before what was changed by hand at that tick.
    """

    name: str
    index: tuple[int, ...]
    t: int | None
    tick: int
    before: bool = False


@dataclass(frozen=True, eq=False)
class Derivation:
    """How a value is made: `kind` of the terms, times `scale`. `tick` is where it was computed; `note` says what terms do not.

    Kinds: sum, product, quotient, power, min, max, the functions of one argument (of the sum of the terms), norm, copy (of the one
    term), and given, which has no terms.
    """

    kind: str
    grown: tuple[Node, ...] | Callable[[], tuple[Node, ...]] = ()
    scale: float = 1.0
    note: str = ""
    formula: str = ""
    tick: int | None = None

    @property
    def near(self) -> bool:
        """Whether its terms are at hand; others lie in another batch, which may have to be run again."""
        return not callable(self.grown)

    @cached_property
    def terms(self) -> tuple[Node, ...]:
        """What the value is made of, in the order of the line."""
        return self.grown() if callable(self.grown) else self.grown

    @property
    def combined(self) -> float:
        """What the terms make, in float64; NaN where there are none."""
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
        """Whether the terms are added up, so that each has a share."""
        return self.kind not in ("product", "quotient", "power", "min", "max", "given", "copy")


@dataclass(frozen=True, eq=False)
class Node:
    """A value in a derivation. `number` is what it is of the run, None for a part of a line; `sign` how it enters a sum.

    `exact`: it was computed as it is; otherwise it has been worked out in float64.
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
        """The value as it enters the sum that it is a term of."""
        return self.sign * self.value

    @property
    def rounding(self) -> float:
        """What the value is more than its terms make, exactly: rounding, in the dtype that it was computed in."""
        if not self.terms:
            return 0.0
        combined = self.derivation.combined
        return 0.0 if same(combined, self.value) else self.value - combined

    @cached_property
    def shares(self) -> tuple[float, ...]:
        """Each term's part of the sum of the terms' magnitudes; empty where they are not added up."""
        if not self.derivation.adds:
            return ()
        sizes = [abs(term.value) for term in self.terms]
        if self.derivation.kind == "norm":
            sizes = [size * size for size in sizes]
        total = math.fsum(sizes) if all(map(math.isfinite, sizes)) else math.nan
        return tuple(size / total if total > 0 else 0.0 for size in sizes)

    @property
    def largest(self) -> Node | None:
        """The term that matters most: the largest by magnitude."""
        return max(self.terms, key=lambda term: abs(term.value), default=None)

    def walk(self, depth: int) -> Iterator[Node]:
        """The node and all terms of terms, down to `depth`."""
        yield self
        if depth:
            for term in self.terms:
                yield from term.walk(depth - 1)


def given(note: str, tick: int | None = None) -> Derivation:
    """A value that nothing in the run has computed."""
    return Derivation("given", note=note, tick=tick)


def _total(values: list[float]) -> float:
    return math.fsum(values) if all(map(math.isfinite, values)) else sum(values)
