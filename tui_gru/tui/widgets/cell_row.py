"""A row of cells into which signs and words are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip


def merged(signs: Iterable[str], inks: Iterable[Style | None]) -> Iterator[Segment]:
    """Yield cells and their styles as segments, with neighbours of the same style in one segment."""
    for ink, run in groupby(zip(signs, inks, strict=True), key=itemgetter(1)):
        yield Segment("".join(sign for sign, _ in run), ink)


class CellRow:
    """A row of `width` blank cells. Later writes cover earlier ones; text beyond the row is cut off."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._signs = [" "] * width
        self._inks: list[Style | None] = [None] * width
        self._taken = [False] * width

    def copy(self) -> CellRow:
        twin = CellRow(self.width)
        twin._signs, twin._inks, twin._taken = self._signs.copy(), self._inks.copy(), self._taken.copy()
        return twin

    def at(self, x: int) -> str:
        """Return the text of a cell."""
        return self._signs[x]

    def free(self, x: int, width: int) -> bool:
        """Return True if these cells are all in the row and nothing has been written to them, not even a blank."""
        return x >= 0 and x + width <= self.width and not any(self._taken[x : x + width])

    def put(self, x: int, text: str, ink: Style) -> None:
        """Write a text from column x on. A character two cells wide is either written or covered as a whole."""
        for sign in text:
            width = cell_len(sign)
            if width == 0:
                if 0 < x <= self.width:
                    self._signs[x - 1] += sign
            elif x >= 0 and x + width <= self.width:
                self._uncover(x, width)
                self._signs[x : x + width] = [sign, *[""] * (width - 1)]
                self._inks[x : x + width] = [ink] * width
                self._taken[x : x + width] = [True] * width
            x += width

    def fill(self, x: int, signs: Sequence[str], ink: Style) -> None:
        """Write signs of one cell each, from column x on."""
        self._signs[x : x + len(signs)] = signs
        self._inks[x : x + len(signs)] = [ink] * len(signs)
        self._taken[x : x + len(signs)] = [True] * len(signs)

    def strip(self) -> Strip:
        return Strip(merged(self._signs, self._inks), self.width)

    def _uncover(self, x: int, width: int) -> None:
        """Blank the other half of a wide character that is covered by half."""
        if self._signs[x] == "":
            self._signs[x - 1] = " "
        if x + width < self.width and self._signs[x + width] == "":
            self._signs[x + width] = " "
