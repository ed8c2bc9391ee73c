"""What a number on screen is of: segments that know which number of the run they write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.segment import Segment
from rich.style import Style

from tui_gru.debugger.program.line_table import Program


@dataclass(frozen=True)
class Ref:
    """One number of the moment shown: entry `index` (0-based) of `name` at timestep `t`, None for that of the position.

    `change`: what the last SGD step has added to that entry of a parameter.
    """

    name: str
    index: tuple[int, ...] = ()
    t: int | None = None
    change: bool = False


Refs = Callable[[int, int], Ref]


def refs_of(program: Program, name: str, *, change: bool = False) -> Refs:
    """Which number stands in row i and column j where a value is written as a matrix; a vector of weights is one row, of a number
    for each row of the batch a column."""
    axes = program.names[name].axes
    column = axes == ("B",)

    def at(i: int, j: int) -> Ref:
        return Ref(name, (i,) if column else (i, j)[2 - len(axes) :], change=change)

    return at


class Cell(Segment):
    """A segment that writes a number of the run. Boxes are put together of segments as they are, so that it is found again."""

    ref: Ref

    @classmethod
    def of(cls, text: str, style: Style | None, ref: Ref | None) -> Segment:
        """A cell, or a plain segment where there is no number to point at."""
        if ref is None:
            return Segment(text, style)
        cell = cls(text, style)
        cell.ref = ref
        return cell
