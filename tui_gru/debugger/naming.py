"""What the axes of a value count, and how one entry of it is said: h[row 2, unit 1], Wz[“M”, unit 1]."""

from __future__ import annotations

from collections.abc import Sequence

from tui_gru.debugger.formula import screen_name
from tui_gru.debugger.moment import SCALARS

OVER_VOCABULARY = frozenset({"x", "y", "logits", "y_hat", "term1", "dlogits"})


def axes_of(name: str) -> tuple[str, ...]:
    """What each axis of a value counts: row (of the batch), unit, or character; () for a number."""
    if name in SCALARS or name == "term3":
        return ()
    if name == "term2":
        return ("row",)
    parameter = name.removeprefix("d")
    if parameter[0] in "WUb":
        last = "character" if parameter in ("Wy", "by") else "unit"
        if parameter[0] == "b":
            return (last,)
        return ("unit" if parameter[0] == "U" or parameter == "Wy" else "character", last)
    return ("row", "character" if name in OVER_VOCABULARY else "unit")


def spoken_index(name: str, index: Sequence[int], vocabulary: str) -> str:
    """`row 2, unit 1`; characters as they are: `“M”, unit 1`. Empty for a number."""
    return ", ".join(_spoken(axis, i, vocabulary) for axis, i in zip(axes_of(name), index, strict=True))


def spoken(name: str, index: Sequence[int], vocabulary: str) -> str:
    """One entry as it is said on screen, counted from 1: `h[row 2, unit 1]`."""
    where = spoken_index(name, index, vocabulary)
    return f"{screen_name(name)}[{where}]" if where else screen_name(name)


def _spoken(axis: str, i: int, vocabulary: str) -> str:
    return f"“{printable(vocabulary[i])}”" if axis == "character" else f"{axis} {i + 1}"


def printable(char: str) -> str:
    """A character that can stand in a line of text: a newline as \\n."""
    return char if char.isprintable() else char.encode("unicode_escape").decode()


def joined(terms: Sequence[str]) -> list[str]:
    """Summands with the sign that joins each to those before: `a`, `+ b`, `− c`."""
    rest = [f"− {term[1:]}" if term.startswith("−") else f"+ {term}" for term in terms[1:]]
    return [*terms[:1], *rest]
