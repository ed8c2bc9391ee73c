"""Short helpers to read equations in tests."""

from __future__ import annotations

import pytest

from tui_gru.equations.axes import infer_axes
from tui_gru.equations.page import Page, read_page
from tui_gru.equations.syntax import EquationError, Expression, Symbols
from tui_gru.equations.writing import Writer

CELL = "input x : V\nstate h : H\nparameters Wz Uz bz\n"  # the first three lines of a page that can be inferred alone


def page(text: str, source: str = "mine.cell") -> Page:
    """Return the page of a text."""
    return read_page(text, source)


def formula(text: str) -> Expression:
    """Return the tree of one formula."""
    return page(f"y = {text}").lines[0].formula


def written(text: str) -> str:
    """Return a formula as it is written on screen."""
    return Writer(Symbols()).text(formula(text))


def refused(text: str) -> str:
    """Return the error of an invalid page: the message with its place, and the marked text."""
    with pytest.raises(EquationError) as caught:
        infer_axes(page(text))
    return said(caught.value)


def said(error: EquationError) -> str:
    """Return the message of an error, and the marked text."""
    span = error.span
    marked = span.file.lines[span.line - 1][span.start : span.stop] if span is not None else ""
    return f"{error} | {marked}".rstrip()
