"""The `:` line's commands for what stops a run: their arguments, parsed into what the screen does with its stops."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.typed import TypedError, shortened, whole_number
from tui_gru.debugger.state.stops import Breakpoint, Watch
from tui_gru.engine.errors import TuiGruError
from tui_gru.tui.examples import example

if TYPE_CHECKING:
    from tui_gru.tui.screens.stopping import StoppingScreen

_ID = re.compile(r"#(\d+)\s*")
_KEYWORDS = re.compile(r"(?<!\S)(?:if|hits|log)(?!\S)")
_CLAUSES = {"if": "condition", "hits": "hits", "log": "log"}
_KEYWORD = {field: keyword for keyword, field in _CLAUSES.items()}
_EXAMPLE = "break loss if loss < 0.5 hits >3 log {loss:.3f}"


def break_(screen: StoppingScreen, rest: str) -> None:
    """`[#ID] [LINE] [if CONDITION] [hits COUNT] [log TEMPLATE]`; without anything, what `b` does."""
    if not rest:
        screen.action_breakpoint()
        return
    id, start = _id(screen, rest, Breakpoint)
    fields, columns = _clauses(rest, start)
    fields["line"] = _line(screen.session.program, fields["line"], columns["line"])
    _check(screen, fields, columns)
    if id is None:
        screen.add_breakpoint(**fields)
    else:
        screen.change_stop(id, **fields)


def watch(screen: StoppingScreen, rest: str) -> None:
    """`[#ID] EXPRESSION [stop]`."""
    id, start = _id(screen, rest, Watch)
    match = re.fullmatch(r"(?s)(.*?)(?:\s+(stop))?", rest[start:])
    assert match is not None
    expression, stops = match[1], match[2] is not None
    if not expression or expression == "stop":
        raise TuiGruError(example(screen.session.program, "name what to watch: watch loss, watch max(abs($h)), watch $z[0,1] stop"))
    _check(screen, {"expression": expression}, {"expression": start})
    if id is None:
        screen.add_watch(expression, stops=stops)
    else:
        screen.change_stop(id, expression=expression, stops=stops)


def delete(screen: StoppingScreen, rest: str) -> None:
    """Stops by their ids and marks by their letters."""
    for name in _names(rest, "delete 3, delete a"):
        if name.isalpha():
            screen.delete_mark(name)
        else:
            screen.delete_stop(_number(name))


def enable(screen: StoppingScreen, rest: str) -> None:
    for name in _names(rest, "enable 3"):
        screen.change_stop(_number(name), enabled=True)


def disable(screen: StoppingScreen, rest: str) -> None:
    for name in _names(rest, "disable 3"):
        screen.change_stop(_number(name), enabled=False)


def mark(screen: StoppingScreen, rest: str) -> None:
    screen.mark(_names(rest, "mark a")[0])


def jump(screen: StoppingScreen, rest: str) -> None:
    screen.jump(_names(rest, "jump a, jump '")[0])


def _names(rest: str, example: str) -> list[str]:
    names = rest.replace(",", " ").split()
    if not names:
        raise TuiGruError(f"name which, as in {example}; :stops lists all")
    return names


def _number(name: str) -> int:
    number = whole_number(name.removeprefix("#"))
    if number is None:
        raise TuiGruError(f"{shortened(name)} is no number of a breakpoint or watch; :stops lists all")
    return number


def _id(screen: StoppingScreen, rest: str, kind: type[Breakpoint] | type[Watch]) -> tuple[int | None, int]:
    """The id of the stop that is to be changed, if one is named, and where what is said of it begins."""
    match = _ID.match(rest)
    if match is None:
        return None, 0
    id = _number(match[1])
    if not isinstance(screen.session.stops.get(id), kind):
        other = "a watch; watch" if kind is Breakpoint else "a breakpoint; break"
        raise TypedError(f"{id} is {other} #{id} … changes it", 1)
    return id, match.end()


def _clauses(rest: str, start: int) -> tuple[dict[str, str], dict[str, int]]:
    """The text of each field of a breakpoint, and where in what was typed each begins, from 0."""
    fields = {"line": "", "condition": "", "hits": "", "log": ""}
    columns = dict.fromkeys(fields, start)
    field, begins = "line", start
    for match in _KEYWORDS.finditer(rest, start):
        if field == "log":  # in a template, words are text
            break
        _take(rest[begins : match.start()], field, begins, fields, columns)
        keyword, field, begins = match[0], _CLAUSES[match[0]], match.end()
        if fields[field]:
            raise TypedError(f"{keyword} is there twice; write it as {_EXAMPLE}", match.start() + 1)
    _take(rest[begins:], field, begins, fields, columns)
    return fields, columns


def _take(text: str, field: str, begins: int, fields: dict[str, str], columns: dict[str, int]) -> None:
    fields[field] = text.strip()
    columns[field] = begins + len(text) - len(text.lstrip())
    if field != "line" and not fields[field]:
        raise TypedError(f"what comes after {_KEYWORD[field]}? Write it as {_EXAMPLE}", begins + len(text) + 1)


def _line(program: Program, typed: str, column: int) -> str:
    """The target of a line named in code, as on screen, or as on screen in ASCII. Raises `TypedError`."""
    if not typed:
        return ""
    targets = [row.line.target for row in program.rows if row.line is not None]
    known = program.code_name(typed)
    if known not in targets:
        from difflib import get_close_matches

        close = get_close_matches(typed.split()[0], targets, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else example(program, "a line is named by what it computes: break $z")
        raise TypedError(f"no line computes {typed!r}; {hint}", column + 1)
    return known


def _check(screen: StoppingScreen, fields: dict[str, str], columns: dict[str, int]) -> None:
    """Raise a `TypedError`, by its column in what was typed, for a field that cannot be understood."""
    from tui_gru.debugger.breakpoints.hit_count import HitCount
    from tui_gru.debugger.breakpoints.log_points import LogPoint
    from tui_gru.debugger.expressions.conditions import compile_condition, compile_value

    names = screen.session.program.spellings
    checks: dict[str, Callable[[str], object]] = {
        "condition": lambda text: compile_condition(text, names),
        "hits": HitCount.parse,
        "log": lambda text: LogPoint.parse(text, names),
        "expression": lambda text: compile_value(text, names),
    }
    for name, text in fields.items():
        if text and name in checks:
            try:
                checks[name](text)
            except TypedError as error:
                raise error.moved(columns[name]) from None
