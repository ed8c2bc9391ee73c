"""How one entry of a value is said: h[row 2, unit 1], Wz[“M”, unit 1]."""

from __future__ import annotations

from collections.abc import Sequence

from tui_gru.debugger.program import Program


def spoken_index(program: Program, name: str, index: Sequence[int]) -> str:
    """`row 2, unit 1`; characters as they are: `“M”, unit 1`. Empty for a number."""
    counted = program.names[name].counted
    return ", ".join(said(axis, i, program.config.vocabulary) for axis, i in zip(counted, index, strict=True))


def spoken(program: Program, name: str, index: Sequence[int]) -> str:
    """One entry as it is said on screen, counted from 1: `h[row 2, unit 1]`."""
    where = spoken_index(program, name, index)
    return f"{program.writer.name(name)}[{where}]" if where else program.writer.name(name)


def said(axis: str, i: int, vocabulary: str) -> str:
    """One index (0-based) along an axis, `row`, `unit` or `character`."""
    return f"“{printable(vocabulary[i])}”" if axis == "character" else f"{axis} {i + 1}"


def printable(char: str) -> str:
    """A character that can stand in a line of text: a newline as \\n."""
    return char if char.isprintable() else char.encode("unicode_escape").decode()


def joined(terms: Sequence[str]) -> list[str]:
    """Summands with the sign that joins each to those before: `a`, `+ b`, `− c`."""
    rest = [f"− {term[1:]}" if term.startswith("−") else f"+ {term}" for term in terms[1:]]
    return [*terms[:1], *rest]
