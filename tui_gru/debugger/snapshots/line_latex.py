"""Writes the current line as LaTeX, with a matrix in place of every name, and single values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tui_gru.debugger.derivation.evaluation import MomentNumbers
from tui_gru.debugger.program.line_table import ProgramLine
from tui_gru.debugger.program.position import in_words
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.equations.expression import Expression, Name
from tui_gru.equations.names import Symbols
from tui_gru.equations.writing import Writer

MOST_LATEX_ENTRIES = 12  # rows and columns of a matrix that are written, followed by dots if there are more
LATEX_DIGITS = 4


def line_latex(snapshot: Snapshot) -> str | None:
    """Return the line just executed as an align*: its formula, then the formula with numbers. None if it has no formula."""
    line = snapshot.line
    if line is None or line.formula is None:
        return None
    with_numbers = _Numbers(lambda name: _matrix(_read(snapshot, name))).latex(line.formula)
    rows = [
        rf"  {line.latex.replace('=', '&=', 1)} \\",
        rf"  {_matrix(snapshot.value(line.target))} &= {_before(snapshot, line)}{with_numbers}",
    ]
    return _aligned(snapshot, rows)


class _Numbers(Writer):
    """Writes a matrix of numbers in place of every name."""

    def __init__(self, written: Callable[[str], str]) -> None:
        super().__init__(Symbols())
        self._written = written

    def latex(self, node: Expression) -> str:
        return self._written(node.name) if isinstance(node, Name) else super().latex(node)


def values_latex(snapshot: Snapshot, values: Iterable[tuple[str, Any]]) -> str:
    """Return an align* of values, given as pairs of a LaTeX name and an array."""
    return _aligned(snapshot, [" \\\\\n".join(rf"  {name} &= {_matrix(value)}" for name, value in values)])


def _aligned(snapshot: Snapshot, rows: list[str]) -> str:
    p = snapshot.position
    place = f"% {in_words(p.epoch, p.batch, p.t)}"
    return "\n".join([place, r"\begin{align*}", *rows, r"\end{align*}"]) + "\n"


def _before(snapshot: Snapshot, line: ProgramLine) -> str:
    """Return the old value of the target of += or −= with the operator.

    Empty for =, and before the first contribution to a gradient.
    """
    if line.op == "-=":
        return f"{_matrix(snapshot.record.before[line.target])} - "
    before = snapshot.gradient_before(line.target.removeprefix("d")) if line.op == "+=" else None
    return "" if before is None else f"{_matrix(before)} + "


def _read(snapshot: Snapshot, name: str) -> Any:
    """Return the value of a name as the line just executed reads it."""
    program, line = snapshot.program, snapshot.line
    named = program.names.get(name)
    if named is not None and named.timed and line is not None and program.blocks[line.block].way == 0:  # a value of every timestep
        return [[snapshot.value(name, t) for t in range(snapshot.config.seq_length)]]
    return MomentNumbers(snapshot.moment_read, snapshot.position.t).read(name)


def _matrix(value: Any) -> str:
    if np.ndim(value) == 0:
        digits, _, exponent = f"{float(value):.{LATEX_DIGITS + 2}g}".partition("e")
        return rf"{digits} \cdot 10^{{{int(exponent)}}}" if exponent else digits
    array = np.atleast_2d(np.asarray(value))
    places = _decimals(array)
    rows = [_elided([f"{x:z.{places}f}" for x in row], r"\cdots") for row in array]
    if len(rows) > MOST_LATEX_ENTRIES:
        rows = [*rows[: MOST_LATEX_ENTRIES - 1], [r"\vdots"] * len(rows[0])]
    return r"\begin{pmatrix} " + r" \\ ".join(" & ".join(row) for row in rows) + r" \end{pmatrix}"


def _decimals(array: Any) -> int:
    """Return the number of decimal places that gives the largest entry `DIGITS` significant digits; used for all entries."""
    largest = float(np.abs(array[np.isfinite(array)]).max(initial=0.0))
    return LATEX_DIGITS if largest == 0 else max(LATEX_DIGITS, LATEX_DIGITS - 1 - math.floor(math.log10(largest)))


def _elided(entries: list[str], dots: str) -> list[str]:
    return entries if len(entries) <= MOST_LATEX_ENTRIES else [*entries[: MOST_LATEX_ENTRIES - 1], dots]
