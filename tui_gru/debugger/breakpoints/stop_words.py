"""The message that says why a run stopped, such as `stopped at h̃ = tanh(…): breakpoint 2, hit 5 · loss < 0.5`."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import numpy as np

from tui_gru.debugger.breakpoints.resolved import ResolvedStop
from tui_gru.debugger.breakpoints.stop_search import SearchEnd
from tui_gru.debugger.breakpoints.watching import last_computed, value_at
from tui_gru.debugger.expressions.text import ConditionError
from tui_gru.debugger.program.position import Position
from tui_gru.debugger.state.stops import Watch
from tui_gru.debugger.timeline.moment import value_before
from tui_gru.debugger.timeline.timeline import Timeline

_CALL = re.compile(r"([^()]*\w)\((.*)\)")  # a formula that is a single function call
LONGEST = 48


def why(found: SearchEnd, timeline: Timeline) -> str:
    """Return the message for the end of a search."""
    reasons = "; ".join(_by(resolved, hit, found, timeline) for resolved, hit in found.by)
    if all(isinstance(resolved.stop, Watch) for resolved, _ in found.by):
        return f"stopped: {reasons}"
    return f"stopped at {_line(timeline.position(found.tick))}: {reasons}"


def _by(resolved: ResolvedStop, hit: int | None, found: SearchEnd, timeline: Timeline) -> str:
    stop = resolved.stop
    what = f"{'watch' if isinstance(stop, Watch) else 'breakpoint'} {stop.id}"
    if found.error is not None:
        return f"{what} cannot be evaluated, {found.error}"
    if isinstance(stop, Watch):
        return f"{what}, {stop.expression} {_change(resolved, found.tick, timeline)}"
    counted = "" if hit is None else f", hit {hit}"
    elsewhere = "" if _holds(resolved, found.tick, timeline) else " (a hit on the machine that recorded it; here it does not hold)"
    return f"{what}{counted}{' · ' * bool(stop.condition)}{stop.condition}{elsewhere}"


def _holds(resolved: ResolvedStop, tick: int, timeline: Timeline) -> bool:
    """Return True unless another machine counted a hit there and the condition does not hold with the numbers of this one."""
    batch = timeline.position(tick).number
    if resolved.condition is None or timeline.is_exact(batch):
        return True
    moment = timeline.moment(tick)
    try:
        return resolved.condition.test(moment.value, partial(value_before, moment, timeline.before(batch)))
    except ConditionError:
        return False


def _line(position: Position) -> str:
    """Return the line just executed, shortened."""
    text = "the beginning" if position.line is None else position.line.text
    if (call := _CALL.fullmatch(text)) is not None:
        text = f"{call[1]}(…)"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _change(resolved: ResolvedStop, tick: int, timeline: Timeline) -> str:
    try:
        now = value_at(resolved, timeline, tick)
        if now is None or isinstance(now, np.ndarray):  # the value before it need not be computed
            return "changed"
        last = last_computed(resolved, timeline, tick)
    except ConditionError:
        return "changed"
    before = None if last is None else last[1]
    if before is None or isinstance(before, np.ndarray):
        return "changed"
    return " → ".join(told_apart(before, now))


def told_apart(before: Any, now: Any) -> tuple[str, str]:
    """Return two numbers with the fewest digits that tell them apart."""
    if not isinstance(now, float) or not isinstance(before, float):
        return str(before), str(now)
    for digits in (4, 6, 9, 17):
        kind = "f" if 10.0 ** (1 - digits) <= abs(now) < 1e6 or now == 0 else "g"
        shown = f"{before:.{digits}{kind}}", f"{now:.{digits}{kind}}"
        if shown[0] != shown[1]:
            break
    return shown
