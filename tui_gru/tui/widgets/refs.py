"""References from numbers on screen to numbers of the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.segment import Segment
from rich.style import Style

from tui_gru.debugger.program.line_table import Program


@dataclass(frozen=True)
class Ref:
    """A number of the shown moment: entry `index` (0-based) of `name` at timestep `t`, None for the current timestep.

    If `change` is True, it is the change of that entry of a parameter in the last SGD step; if `before` is True, the number that
    the line just executed read and replaced.
    """

    name: str
    index: tuple[int, ...] = ()
    t: int | None = None
    change: bool = False
    before: bool = False


Refs = Callable[[int, int], Ref]


def refs_of(program: Program, name: str, *, change: bool = False) -> Refs:
    """Return the function from row and column to the reference, for a value written as a matrix.

    A vector of weights is one row, a vector with a number per row of the batch one column.
    """
    axes = program.names[name].axes
    column = axes == ("B",)

    def at(i: int, j: int) -> Ref:
        return Ref(name, (i,) if column else (i, j)[2 - len(axes) :], change=change)

    return at


class Cell(Segment):
    """A segment that shows a number of the run. Boxes keep their segments unchanged, so it can be found in a panel."""

    ref: Ref

    @classmethod
    def of(cls, text: str, style: Style | None, ref: Ref | None) -> Segment:
        """Return a cell, or a plain segment if there is no reference."""
        if ref is None:
            return Segment(text, style)
        cell = cls(text, style)
        cell.ref = ref
        return cell
