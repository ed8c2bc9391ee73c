"""The derivation of a number: its terms, each of which has a derivation of its own.

Derivations follow the equations of the program. A term is a recorded number, exact to the bit, or, for a part of a line that is not
recorded, a number computed in float64 from recorded ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property


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

    def __repr__(self) -> str:
        scale = "" if self.scale == 1 else f", times {self.scale:.6g}"
        return f"<{self.kind} of {', '.join(map(repr, self.terms[:8]))}{', …' * (len(self.terms) > 8)}{scale}>"

    @property
    def near(self) -> bool:
        """True if its terms are available without replaying another batch."""
        return not callable(self.grown)

    @cached_property
    def terms(self) -> tuple[Node, ...]:
        """The terms, in the order of the line."""
        return self.grown() if callable(self.grown) else self.grown

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

    def __repr__(self) -> str:
        return f"<{self.label} = {self.value:.9g}>"

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


def given(note: str, tick: int | None = None) -> Derivation:
    """Return the derivation of a value that the run did not compute."""
    return Derivation("given", note=note, tick=tick)


def total_of(values: list[float]) -> float:
    """Return a sum that is rounded once; NaN or infinite if a value is."""
    return math.fsum(values) if all(map(math.isfinite, values)) else sum(values)
