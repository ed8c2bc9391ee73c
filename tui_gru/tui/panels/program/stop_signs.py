"""Signs and descriptions of breakpoints and watches, and the commands that set them."""

from __future__ import annotations

from collections.abc import Iterable

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.state.stops import Breakpoint, Watch
from tui_gru.tui.look.glyphs import Glyphs


def sign_of(stop: Breakpoint | Watch, glyphs: Glyphs) -> str:
    """Return the sign of a stop, which shows whether it is enabled, stops only sometimes, or only logs."""
    if isinstance(stop, Breakpoint) and stop.log:
        return glyphs.log_point if stop.enabled else glyphs.log_point_off
    if not stop.enabled:
        return glyphs.breakpoint_off
    return glyphs.breakpoint_sometimes if isinstance(stop, Breakpoint) and sometimes(stop) else glyphs.breakpoint


def sometimes(stop: Breakpoint) -> bool:
    """True if the breakpoint has a condition or a hit count, so it does not stop every time."""
    return bool(stop.condition or stop.hits)


def plain(stop: Breakpoint) -> bool:
    """True if the breakpoint has only a line, so that it can be deleted without losing anything else."""
    return not (stop.condition or stop.hits or stop.log)


def foremost(stops: Iterable[Breakpoint]) -> Breakpoint | None:
    """Return the breakpoint whose sign is shown if a line has several: enabled first, then stopping, then unconditional."""
    return min(stops, key=lambda stop: (not stop.enabled, bool(stop.log), sometimes(stop)), default=None)


def clauses(stop: Breakpoint) -> tuple[tuple[str, str], ...]:
    """Return the clauses after the line as pairs of keyword (`if`, `hits`, `log`) and text."""
    parts = (("if", stop.condition), ("hits", stop.hits), ("log", stop.log))
    return tuple((keyword, text) for keyword, text in parts if text)


def command_of(stop: Breakpoint | Watch, *, id: bool = False) -> str:
    """Return the command that sets a stop, with `id` the command that changes it."""
    number = f"#{stop.id}" if id else ""
    if isinstance(stop, Watch):
        words = ["watch", number, stop.expression, "stop" if stop.stops else ""]
    else:
        words = ["break", number, stop.line, *(word for clause in clauses(stop) for word in clause)]
    return " ".join(word for word in words if word)


def described(stop: Breakpoint, program: Program) -> str:
    """Describe a breakpoint for the border or a tooltip: `breakpoint 2 on h̃ if any(h > 0.9), disabled`."""
    place = f" on {program.writer.name(stop.line)}" if stop.line else ""
    when = "".join(f" {keyword} {what}" for keyword, what in clauses(stop) if keyword != "log")
    kind = "log point" if stop.log else "breakpoint"
    log = f": {stop.log}" if stop.log else ""
    return f"{kind} {stop.id}{place}{when}{log}{'' if stop.enabled else ', disabled'}"
