"""The order of rows and columns in a heat map: by number, or by size."""

from __future__ import annotations

from collections.abc import Sequence

from tui_gru.tui.widgets.written import Array

_CHOICES = ("", "rows", "columns", "rows and columns")


class Ordering:
    """The order. `by` names what is sorted by size: rows, columns, both, or nothing. It does not change with the values."""

    def __init__(self) -> None:
        self.by = ""
        self._orders: list[Sequence[int] | None] = [None, None]  # of rows and columns; None if not sorted

    def next(self, values: Array | None) -> None:
        """Switch between rows, columns, both and neither sorted by the size of these values; without values, sort neither."""
        from tui_gru.debugger.analysis.summaries import by_size  # imported late: not needed at the start

        self.by = _CHOICES[(_CHOICES.index(self.by) + 1) % len(_CHOICES)] if values is not None else ""
        for axis, word in enumerate(("rows", "columns")):
            self._orders[axis] = by_size(values, axis).tolist() if values is not None and word in self.by else None

    def entry(self, axis: int, position: int) -> int:
        """Return the row (axis 0) or column (axis 1) at a position on screen."""
        order = self._orders[axis]
        return position if order is None else order[position]

    def position(self, axis: int, entry: int) -> int:
        """Return the position of a row or a column on screen."""
        order = self._orders[axis]
        return entry if order is None else order.index(entry)

    def columns(self, first: int, last: int) -> slice | Sequence[int]:
        """Return the index of the columns at the positions `first` … `last` − 1."""
        order = self._orders[1]
        return slice(first, last) if order is None else order[first:last]
