"""Parsers of the arguments of `:break`, `:watch`, `:delete`, `:enable` and `:disable`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.typed import TypedError, shortened, whole_number
from tui_gru.debugger.state.stops import Breakpoint, Watch
from tui_gru.engine.errors import TuiGruError
from tui_gru.tui.verbs.verb import example

if TYPE_CHECKING:
    from tui_gru.debugger.session.session import Session

_ID = re.compile(r"#(\d+)\s*")
_KEYWORDS = re.compile(r"(?<!\S)(?:if|hits|log)(?!\S)")
_CLAUSES = {"if": "condition", "hits": "hits", "log": "log"}
_KEYWORD = {field: keyword for keyword, field in _CLAUSES.items()}
_EXAMPLE = "break loss if loss < 0.5 hits >3 log {loss:.3f}"


def breakpoint_of(session: Session, rest: str) -> tuple[int | None, dict[str, str]]:
    """Return the id of the breakpoint to change, None for a new one, and its fields. Raises `TypedError`, with the column."""
    id, start = _id(session, rest, Breakpoint)
    fields, columns = _clauses(rest, start)
    fields["line"] = _line(session.program, fields["line"], columns["line"])
    _check(session, fields, columns)
    return id, fields


def watch_of(session: Session, rest: str) -> tuple[int | None, str, bool]:
    """Return the id of the watch to change, None for a new one, its expression, and whether it stops runs.

    Raises `TuiGruError` if there is no expression or it cannot be compiled.
    """
    id, start = _id(session, rest, Watch)
    typed = rest[start:]
    before = typed.removesuffix("stop")
    stops = before != typed and before[-1:].isspace()
    expression = before.rstrip() if stops else typed
    if not expression or expression == "stop":
        raise TuiGruError(example(session.program, "type an expression to watch: loss, max(abs($h)), or $z[0,1] stop"))
    _check(session, {"expression": expression}, {"expression": start})
    return id, expression, stops


def names_of(rest: str, example: str) -> list[str]:
    """Split a list of words separated by spaces or commas. Raises `TuiGruError`, with the example, if it is empty."""
    names = rest.replace(",", " ").split()
    if not names:
        raise TuiGruError(f"type which, for example {example}; :stops lists all")
    return names


def number_of(name: str) -> int:
    """Parse the number of a breakpoint or watch, `3` or `#3`. Raises `TuiGruError` if it is no number."""
    number = whole_number(name.removeprefix("#"))
    if number is None:
        raise TuiGruError(f"{shortened(name)} is not the number of a breakpoint or watch; :stops lists all")
    return number


def _id(session: Session, rest: str, kind: type[Breakpoint] | type[Watch]) -> tuple[int | None, int]:
    """Return the id of the stop to change, None for a new one, and the column at which the other arguments begin."""
    match = _ID.match(rest)
    if match is None:
        return None, 0
    id = number_of(match[1])
    if not isinstance(session.stops.get(id), kind):
        other = "a watch; change it with watch" if kind is Breakpoint else "a breakpoint; change it with break"
        raise TypedError(f"{id} is {other} #{id} …", 1)
    return id, match.end()


def _clauses(rest: str, start: int) -> tuple[dict[str, str], dict[str, int]]:
    """Return the text of each field of a breakpoint, and the column at which each begins, 0-based."""
    fields = {"line": "", "condition": "", "hits": "", "log": ""}
    columns = dict.fromkeys(fields, start)
    field, begins = "line", start
    for match in _KEYWORDS.finditer(rest, start):
        if field == "log":  # in a template, keywords are text
            break
        _take(rest[begins : match.start()], field, begins, fields, columns)
        keyword, field, begins = match[0], _CLAUSES[match[0]], match.end()
        if fields[field]:
            raise TypedError(f"{keyword} is given twice; type, for example, {_EXAMPLE}", match.start() + 1)
    _take(rest[begins:], field, begins, fields, columns)
    return fields, columns


def _take(text: str, field: str, begins: int, fields: dict[str, str], columns: dict[str, int]) -> None:
    fields[field] = text.strip()
    columns[field] = begins + len(text) - len(text.lstrip())
    if field != "line" and not fields[field]:
        raise TypedError(f"nothing follows {_KEYWORD[field]}; type, for example, {_EXAMPLE}", begins + len(text) + 1)


def _line(program: Program, typed: str, column: int) -> str:
    """Return the target of a line, typed as in code, as on screen, or as in ASCII. Raises `TypedError` if no line has it."""
    if not typed:
        return ""
    known = program.code_name(typed)
    if known not in program.targets:
        from difflib import get_close_matches

        close = get_close_matches(typed.split()[0], program.targets, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else example(program, "name a line by its value: break $z")
        raise TypedError(f"no line computes {typed!r}; {hint}", column + 1)
    return known


def _check(session: Session, fields: dict[str, str], columns: dict[str, int]) -> None:
    """Raise a `TypedError`, with the column in the typed text, if a field cannot be parsed."""
    from tui_gru.debugger.breakpoints.hit_count import HitCount
    from tui_gru.debugger.breakpoints.log_points import LogPoint
    from tui_gru.debugger.expressions.conditions import compile_condition
    from tui_gru.debugger.expressions.parser import compile_expression

    names, shapes = session.program.spellings, session.program.shapes
    checks: dict[str, Callable[[str], object]] = {
        "condition": lambda text: compile_condition(text, names).check(shapes),
        "hits": HitCount.parse,
        "log": lambda text: LogPoint.parse(text, names).check(shapes),
        "expression": lambda text: compile_expression(text, names).check(shapes),
    }
    for name, text in fields.items():
        if text and name in checks:
            try:
                checks[name](text)
            except TypedError as error:
                raise error.moved(columns[name]) from None
