"""A line of the program in LaTeX, with a matrix of numbers in the place of every name; and values by themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from tui_gru.debugger.formula import Formula, Name
from tui_gru.debugger.program import Line
from tui_gru.debugger.snapshot import Snapshot

MOST = 12  # rows and columns of a matrix that are written; of more, the first of them and dots
DIGITS = 4


@dataclass(frozen=True)
class Written(Formula):
    """Something that is in LaTeX already."""

    written: str

    @property
    def text(self) -> str:
        return self.written

    @property
    def latex(self) -> str:
        return self.written


def line_latex(snapshot: Snapshot) -> str | None:
    """The line just executed, its formula and under it the same with numbers, as an align*; None where there is no formula."""
    line = snapshot.line
    if line is None or line.formula is None:
        return None
    numbers = with_names(line.formula, lambda name: Written(_matrix(_value(snapshot, name))))
    rows = [
        rf"  {line.latex.replace('=', '&=', 1)} \\",
        rf"  {_matrix(_value(snapshot, line.target))} &= {_before(snapshot, line)}{numbers.latex}",
    ]
    return _aligned(snapshot, rows)


def values_latex(snapshot: Snapshot, values: Iterable[tuple[str, Any]]) -> str:
    """Values, each a name in LaTeX and an array, one under the other."""
    return _aligned(snapshot, [" \\\\\n".join(rf"  {name} &= {_matrix(value)}" for name, value in values)])


def _aligned(snapshot: Snapshot, rows: list[str]) -> str:
    p = snapshot.position
    place = f"% epoch {p.epoch + 1}, batch {p.batch + 1}, t {p.t + 1}"
    return "\n".join([place, r"\begin{align*}", *rows, r"\end{align*}"]) + "\n"


def _before(snapshot: Snapshot, line: Line) -> str:
    """What the target of += or −= was before, and the sign that joins it; empty for =, and before the first share of a gradient."""
    if line.op == "-=":
        return f"{_matrix(snapshot.record.parameters[line.target])} - "
    before = snapshot.gradient_before(line.target.removeprefix("d")) if line.op == "+=" else None
    return "" if before is None else f"{_matrix(before)} + "


def with_names(node: Formula, of: Callable[[str], Formula]) -> Formula:
    """The same formula with something else in the place of every name."""
    if isinstance(node, Name):
        return of(node.name)
    changed: dict[str, Any] = {}
    for field in fields(node):  # type: ignore[arg-type]  # every node but the abstract one is a dataclass
        value = getattr(node, field.name)
        if isinstance(value, Formula):
            changed[field.name] = with_names(value, of)
        elif isinstance(value, tuple):
            changed[field.name] = tuple(with_names(part, of) for part in value)
    return replace(node, **changed) if changed else node  # type: ignore[type-var]


def _value(snapshot: Snapshot, name: str) -> Any:
    if name == "term3" and snapshot.line is not None and snapshot.line.target == "loss":
        return [[snapshot.value(name, t) for t in range(snapshot.config.seq_length)]]
    return snapshot.value(name)


def _matrix(value: Any) -> str:
    if np.ndim(value) == 0:
        return f"{float(value):.{DIGITS + 2}g}"
    array = np.atleast_2d(np.asarray(value))
    places = _decimals(array)
    rows = [_elided([f"{x:z.{places}f}" for x in row], r"\cdots") for row in array]
    if len(rows) > MOST:
        rows = [*rows[: MOST - 1], [r"\vdots"] * len(rows[0])]
    return r"\begin{pmatrix} " + r" \\ ".join(" & ".join(row) for row in rows) + r" \end{pmatrix}"


def _decimals(array: Any) -> int:
    """Decimals that give the largest entry `DIGITS` significant digits, and every entry as many decimals as that."""
    largest = float(np.abs(array[np.isfinite(array)]).max(initial=0.0))
    return DIGITS if largest == 0 else max(DIGITS, DIGITS - 1 - math.floor(math.log10(largest)))


def _elided(entries: list[str], dots: str) -> list[str]:
    return entries if len(entries) <= MOST else [*entries[: MOST - 1], dots]
