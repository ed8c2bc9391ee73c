"""Verbs of the matrix in focus, or of the weights: largest entries, saturated units, and the order and range of a heat map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_gru.tui.look.key_signs import with_keys
from tui_gru.tui.verbs.verb import Arguments

if TYPE_CHECKING:
    from tui_gru.tui.screens.main import MainScreen
    from tui_gru.tui.widgets.matrix import MatrixView

ORDINALS = {2: "nd", 3: "rd"}


def _matrix(screen: MainScreen) -> MatrixView | None:
    """Return the matrix in focus, otherwise that of the weights after focusing it; None, with a message, if neither is in view."""
    from tui_gru.tui.panels.values.weights import Weights
    from tui_gru.tui.widgets.matrix import MatrixView

    focused = screen.focused
    found = focused if isinstance(focused, MatrixView) else screen.query_one(Weights).matrix
    if found is None or not found.region:
        screen.say(with_keys(screen, "no matrix is in focus; <panel.next> goes from panel to panel"))
        return None
    if found is not focused:
        screen.set_focus(found)
    return found


def largest(screen: MainScreen, rest: Arguments) -> None:
    """Go to the largest entry of the matrix; again, to the next largest."""
    matrix = _matrix(screen)
    if matrix is not None:
        rank = matrix.go_to_largest()
        which = "" if rank == 1 else f"{rank}{ORDINALS.get(rank or 0, 'th')} "
        found = f"the {which}largest entry: {matrix.place_of(*matrix.cursor)} = {matrix.exact}"
        screen.say(found if rank is not None else "it is not computed yet")


def largest_of_all(screen: MainScreen, rest: Arguments, *, sheet: str) -> None:
    """Go to the largest of all gradients or changes of the weights."""
    from tui_gru.tui.panels.values.weights import Weights

    screen.say(screen.query_one(Weights).go_to_largest(sheet))


def saturated(screen: MainScreen, rest: Arguments) -> None:
    """Go to the next unit that is saturated in nearly all rows."""
    matrix = _matrix(screen)
    if matrix is None:
        return
    if matrix.limits is None:
        screen.say("these values have no limits, so they cannot be saturated; gates and states can")
    elif matrix.go_to_saturated():
        screen.say(f"unit {matrix.cursor[1] + 1} is saturated in nearly all rows")
    else:
        screen.say("no unit is saturated in nearly all rows")


def sort(screen: MainScreen, rest: Arguments) -> None:
    """Sort rows by their size, then columns, then both, then neither."""
    matrix = _matrix(screen)
    if matrix is not None:
        by = matrix.sort()
        screen.say(f"{by} sorted by size" if by else "rows and columns in their own order")


def near_zero(screen: MainScreen, rest: Arguments) -> None:
    """Hide the entries near 0, or show them again."""
    matrix = _matrix(screen)
    if matrix is not None:
        screen.say("all entries are shown" if matrix.toggle_near_zero() else "entries near 0 are hidden")
