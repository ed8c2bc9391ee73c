"""Stops as they are written: the sign of each, and the words of the command that makes it."""

from __future__ import annotations

from collections.abc import Iterable

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.state.stops import Breakpoint, Watch
from tui_gru.tui.look.glyphs import Glyphs


def sign_of(stop: Breakpoint | Watch, glyphs: Glyphs) -> str:
    """Its sign: full where it is enabled; a breakpoint that does not always stop, and one that only logs, have their own."""
    if isinstance(stop, Breakpoint) and stop.log:
        return glyphs.log_point if stop.enabled else glyphs.log_point_off
    if not stop.enabled:
        return glyphs.breakpoint_off
    return glyphs.breakpoint_sometimes if isinstance(stop, Breakpoint) and sometimes(stop) else glyphs.breakpoint


def sometimes(stop: Breakpoint) -> bool:
    """Whether it does not stop each time."""
    return bool(stop.condition or stop.hits)


def plain(stop: Breakpoint) -> bool:
    """Whether it says no more than on which line it is, so that nothing is lost with it."""
    return not (stop.condition or stop.hits or stop.log)


def foremost(stops: Iterable[Breakpoint]) -> Breakpoint | None:
    """Of several on one line, the one whose sign is shown: what stops before what logs, enabled before disabled."""
    return min(stops, key=lambda stop: (not stop.enabled, bool(stop.log), sometimes(stop)), default=None)


def clauses(stop: Breakpoint) -> tuple[tuple[str, str], ...]:
    """What is said of it besides its line, each with its keyword: `if`, `hits`, `log`."""
    parts = (("if", stop.condition), ("hits", stop.hits), ("log", stop.log))
    return tuple((keyword, said) for keyword, said in parts if said)


def command_of(stop: Breakpoint | Watch, *, id: bool = False) -> str:
    """The command that makes it; with its `id`, the one that changes it."""
    number = f"#{stop.id}" if id else ""
    if isinstance(stop, Watch):
        words = ["watch", number, stop.expression, "stop" if stop.stops else ""]
    else:
        words = ["break", number, stop.line, *(word for clause in clauses(stop) for word in clause)]
    return " ".join(word for word in words if word)


def described(stop: Breakpoint, program: Program) -> str:
    """In words, for the border or a tooltip: `breakpoint 2 on h̃ if any(h > 0.9), off`."""
    place = f" on {program.writer.name(stop.line)}" if stop.line else ""
    said = "".join(f" {keyword} {what}" for keyword, what in clauses(stop) if keyword != "log")
    kind = "log point" if stop.log else "breakpoint"
    log = f": {stop.log}" if stop.log else ""
    return f"{kind} {stop.id}{place}{said}{log}{'' if stop.enabled else ', off'}"
