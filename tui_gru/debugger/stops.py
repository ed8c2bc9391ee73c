"""Breakpoints, watches and log points: their texts, where each is tested in a program, and the hits counted so far."""

from __future__ import annotations

import operator
import re
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache, partial
from threading import RLock
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from tui_gru import arguments, errors
from tui_gru.debugger.expressions import (
    QUOTED,
    AnyArray,
    CompiledExpression,
    ConditionError,
    Read,
    compile_expression,
    in_screen_spelling,
    refuse_unreadable,
)
from tui_gru.debugger.moment import Moment, equal_values, value_before
from tui_gru.debugger.position import Position
from tui_gru.debugger.program import NUMBERS, Program, in_line
from tui_gru.debugger.timeline import Timeline
from tui_gru.equations.syntax import did_you_mean
from tui_gru.errors import TuiGruError
from tui_gru.schema import Positive, Whole

# ------------------------------------------------------------------------------
# Breakpoints and watches as plain data, which a session saves.


@dataclass(frozen=True)
class Breakpoint:
    """Stops after the line whose target is `line` has been executed, if `condition` holds or is empty.

    Without a line, it is hit wherever a value that the condition reads is computed and the condition holds. `hits` is the text of
    a `HitCount`, `log` the template of a `LogPoint`; with a template, it writes to the log instead of stopping.
    """

    id: Positive
    line: str = ""
    condition: str = ""
    hits: str = ""
    log: str = ""
    enabled: bool = True


@dataclass(frozen=True)
class Watch:
    """An expression whose value is shown; with `stops`, runs stop when it is computed and its value has changed."""

    id: Positive
    expression: str
    stops: bool = False
    enabled: bool = True


Stop = Breakpoint | Watch
S = TypeVar("S", bound=Stop)


@dataclass(frozen=True)
class Stops:
    """All breakpoints and watches of a session, each kind in order of creation. Immutable.

    `last_id` is the highest id assigned so far; ids of deleted stops are not reused.
    """

    breakpoints: tuple[Breakpoint, ...] = ()
    watches: tuple[Watch, ...] = ()
    last_id: Whole = 0

    @property
    def all(self) -> tuple[Stop, ...]:
        """Breakpoints and watches in order of creation."""
        return tuple(sorted((*self.breakpoints, *self.watches), key=lambda stop: stop.id))

    def get(self, id: int) -> Stop:
        """Return the stop with an id. Raises `TuiGruError` if there is none."""
        id = arguments.integer("the number of a breakpoint or watch", id)
        for stop in self.all:
            if stop.id == id:
                return stop
        ids = ", ".join(str(stop.id) for stop in self.all)
        existing = f"there are {ids}" if ids else "there is none at all"
        raise TuiGruError(f"there is no breakpoint or watch {errors.shown(id)}; {existing}")

    def with_stop(self, stop: Stop) -> Stops:
        """Add a stop, or replace the one with the same id."""
        return self._of({**{existing.id: existing for existing in self.all}, stop.id: stop}.values(), max(self.last_id, stop.id))

    def without(self, id: int) -> Stops:
        """Remove the stop with an id. Raises `TuiGruError` if there is none."""
        removed = self.get(id)
        return self._of((stop for stop in self.all if stop is not removed), self.last_id)

    @staticmethod
    def _of(stops: Iterable[Stop], last_id: int) -> Stops:
        ordered = tuple(stops)
        breakpoints = tuple(stop for stop in ordered if isinstance(stop, Breakpoint))
        return Stops(breakpoints, tuple(stop for stop in ordered if isinstance(stop, Watch)), last_id)

    @property
    def active(self) -> tuple[Stop, ...]:
        """The stops that stop a run or write to the log: enabled breakpoints, and enabled watches with `stops`."""
        return tuple(stop for stop in self.all if stop.enabled and (isinstance(stop, Breakpoint) or stop.stops))


@dataclass(frozen=True, eq=False)
class Watched:
    """A watch at one moment: its `value`, None if not computed yet, and its value `before` that was computed.

    `error` is the message if it cannot be evaluated; otherwise empty.
    """

    watch: Watch
    value: Any = None
    before: Any = None
    error: str = ""


class LogLine(NamedTuple):
    """A line that breakpoint `id` wrote to the log at `tick`."""

    tick: Whole
    id: Whole
    text: str


def is_plain(stop: Breakpoint) -> bool:
    """True if the breakpoint has only a line, so that it can be deleted without losing anything else."""
    return not (stop.condition or stop.hits or stop.log)


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
    clauses_shown = (
        (keyword, in_screen_spelling(text, program.spellings) if keyword == "if" else text) for keyword, text in clauses(stop)
    )
    when = "".join(f" {keyword} {text}" for keyword, text in clauses_shown if keyword != "log")
    kind = "log point" if stop.log else "breakpoint"
    log = f": {stop.log}" if stop.log else ""
    return f"{kind} {stop.id}{place}{when}{log}{'' if stop.enabled else ', disabled'}"


def changed(stop: S, changes: Mapping[str, Any]) -> S:
    """Return a stop with other fields. Raises `TuiGruError` if a field does not exist, has another type, or is the id."""
    can = {stop_field.name: type(getattr(stop, stop_field.name)) for stop_field in fields(stop) if stop_field.name != "id"}
    kind_name = type(stop).__name__.lower()
    for name, value in changes.items():
        if name not in can:
            raise TuiGruError(f"a {kind_name} has no {name!r} to change; it has {', '.join(can)}")
        if not isinstance(value, can[name]):
            kind = "a text" if can[name] is str else "True or False"
            raise TuiGruError(f"{name} of a {kind_name} is {kind}, not {errors.shown(value)}")
    return replace(stop, **changes)


# ------------------------------------------------------------------------------
# Hit counts: the hits at which a breakpoint stops.


# Patterns are compiled when they are first used: most sessions have no stop, and all of them load this module.

_FORM = r"\s*(?P<relation>==?|>=?|<=?|≥|≤|%)?\s*(?P<number>[0-9]{1,18})\s*"

#: How many of the first n hits stop.
_UP_TO: Mapping[str, Callable[[Any, int], Any]] = {
    "==": lambda n, number: n >= number,
    ">": lambda n, number: np.maximum(n - number, 0),
    ">=": lambda n, number: np.maximum(n - number + 1, 0),
    "<": lambda n, number: np.minimum(n, number - 1),
    "<=": np.minimum,
    "%": operator.floordiv,
}

_SYNONYMS = {None: "==", "=": "==", "≥": ">=", "≤": "<="}

_STOPS_NOWHERE = {("==", 0), ("<", 0), ("<", 1), ("<=", 0), ("%", 0)}


@dataclass(frozen=True)
class HitCount:
    """A rule for hits to stop at: `5` and `==5` stop at the fifth, `>5` after it, `%5` at every fifth; also `>=`, `<`, `<=`.

    Hits are counted in time, from the start of the run and from 1, not in the order in which they are met: the fifth hit is the
    same moment whether reached forwards or backwards.
    """

    source: str
    _relation: str = field(repr=False)
    _number: int = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> HitCount:
        """Parse a hit count. Raises `ConditionError` if it is invalid or never stops."""
        form = re.fullmatch(_FORM, text)
        if form is None:
            raise ConditionError("a hit count is a number, or one after ==, >, >=, <, <= or %, as in %5", 1)
        relation, number = _SYNONYMS.get(form["relation"], form["relation"]), int(form["number"])
        if (relation, number) in _STOPS_NOWHERE:
            raise ConditionError(f"{text.strip()} never stops; hits are counted from 1", form.start("number") + 1)
        return cls(text, relation, number)

    def stops(self, n: int) -> bool:
        """Return True if the n-th hit in time stops, n from 1."""
        return bool(self.stops_between(n - 1, n))

    def stops_between(self, after: Any, upto: Any) -> Any:
        """Return True if one of the hits `after` + 1 … `upto` stops; for integers, or arrays of them."""
        count = _UP_TO[self._relation]
        return count(upto, self._number) != count(after, self._number)


# ------------------------------------------------------------------------------
# Log points: templates such as `loss {loss:.3f} z {z[0, 1]}`, written to the log when a run passes, without stopping.


NOT_COMPUTED = "·"
"""The text for a value that is not computed yet."""

MAX_WIDTH = 80
MAX_PRECISION = 20

EDGE = 3
"""Elements shown at each end of a long axis of an array."""

_LARGEST_IN_FULL = 1e15

_FORMAT = (
    r"(?P<layout>(?:[^{}]?[<>^])?)(?P<sign>[-+ ]?)(?P<zero>0?)(?P<width>(?:[1-9][0-9]{0,5})?)"
    r"(?:\.(?P<precision>[0-9]{1,5}))?(?P<type>[defgEFG%]?)"
)

_BRACES = r"\{\{|\}\}|[{}]"
_MARKS = rf"{QUOTED}|[()\[\]{{}}:]"


class ValueFormat(NamedTuple):
    """The format of one value. The fields are those of Python's format specifications; `layout` is fill and alignment."""

    layout: str
    sign: str
    zero: str
    width: str
    precision: str
    type: str

    @classmethod
    def parse(cls, text: str, column: int) -> ValueFormat:
        """Parse a format such as `+8.3f`, typed at `column`. Raises `ConditionError` if it is invalid or too wide."""
        form = re.fullmatch(_FORMAT, text)
        if form is None:
            raise ConditionError(f"{text} is not a format; write one such as .3f, +8.4f or >6", column)
        if int(form["width"] or 0) > MAX_WIDTH or int(form["precision"] or 0) > MAX_PRECISION:
            raise ConditionError(f"a format is at most {MAX_WIDTH} wide, with {MAX_PRECISION} decimals", column)
        return cls(**form.groupdict(default=""))

    def apply(self, value: AnyArray | float | str | None) -> str:
        """Format a value. A value that does not fit the type of the format uses its fill, alignment and width only."""
        if isinstance(value, np.ndarray):
            return self._array(value)
        if value is None:
            return format(NOT_COMPUTED, (self.layout or ">") + self.width)
        if isinstance(value, bool | str):
            return format("".join(map(in_line, str(value))), self.layout + self.width)
        return self._number(value)

    def _array(self, array: AnyArray) -> str:
        shown = [self.apply(item.item() if item.ndim == 0 else item) for item in map(np.asarray, _ends(array))]
        if len(array) > len(shown):
            shown.insert(EDGE, "…")
        return f"[{' '.join(shown)}]"

    def _number(self, number: float) -> str:
        before = self.layout + self.sign + self.zero + self.width
        general = self.type in ("", "d")
        if general and not self.precision and float(number).is_integer() and abs(number) < _LARGEST_IN_FULL:
            return format(int(number), before + "d")
        return format(float(number), f"{before}.{self.precision or 6}{'g' if general else self.type}")


class _Field(NamedTuple):
    expression: CompiledExpression
    format: ValueFormat

    def render(self, read: Read, read_previous: Read | None) -> str:
        return self.format.apply(self.expression.value(read, read_previous))


@dataclass(frozen=True)
class LogPoint:
    """A compiled template: text and `{expression:format}` fields; `{{` and `}}` stand for braces."""

    source: str
    _pieces: tuple[str | _Field, ...] = field(repr=False)

    @classmethod
    def parse(cls, template: str, names: Collection[str]) -> LogPoint:
        """Compile a template whose expressions may read `names`. Raises `ConditionError`, with the column, if it is invalid."""
        refuse_unreadable(template)
        return cls(template, tuple(_compiled(template, names, piece) for piece in _pieces(template)))

    @property
    def names(self) -> frozenset[str]:
        """The names that it reads, including those in `prev()`."""
        return frozenset().union(*(piece.expression.names for piece in self._fields()))

    @property
    def previous(self) -> frozenset[str]:
        """The names that it reads through `prev()`."""
        return frozenset().union(*(piece.expression.previous for piece in self._fields()))

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raise `ConditionError` if an expression cannot be evaluated on values of these shapes, whatever the values are."""
        for compiled_field in self._fields():
            compiled_field.expression.check(shapes)

    def render(self, read: Read, read_previous: Read | None = None) -> str:
        """Return the line at one moment, with `·` for values not computed yet.

        Raises `ConditionError` if a value cannot be evaluated.
        """
        return "".join(piece if isinstance(piece, str) else piece.render(read, read_previous) for piece in self._pieces)

    def _fields(self) -> Iterator[_Field]:
        return (piece for piece in self._pieces if isinstance(piece, _Field))


def _pieces(template: str) -> Iterator[str | tuple[int, int, int]]:
    """Yield the text of a template, with double braces as they are, and its fields: where the expression begins, where it ends, and
    where the text after the closing brace begins. Raises `ConditionError` for a brace that is none of a pair."""
    done = 0
    while brace := re.compile(_BRACES).search(template, done):
        yield template[done : brace.start()]
        done = brace.end()
        if brace[0] == "}":
            raise ConditionError("} closes nothing; write }} for a brace", brace.start() + 1)
        if brace[0] == "{":
            end, done = _field_ends(template, done)
            yield brace.end(), end, done
        else:
            yield brace[0]
    yield template[done:]


def _compiled(template: str, names: Collection[str], piece: str | tuple[int, int, int]) -> str | _Field:
    if isinstance(piece, str):
        return piece[:1] if piece in ("{{", "}}") else piece
    start, end, after = piece
    expression = compile_expression(template[start:end], names, first_column=start + 1)
    return _Field(expression, ValueFormat.parse(template[end + 1 : after - 1], end + 2))


def _field_ends(template: str, start: int) -> tuple[int, int]:
    """Return the index at which the expression that begins at `start` ends, and the index after the closing brace of its field."""
    depth = 0
    for mark in re.compile(_MARKS).finditer(template, start):
        match mark[0]:
            case "(" | "[":
                depth += 1
            case ")" | "]":
                depth -= 1
            case "{":
                raise ConditionError("{ is not allowed in an expression", mark.start() + 1)
            case "}":
                return mark.start(), mark.end()
            case ":" if depth <= 0 and (close := template.find("}", mark.end())) >= 0:
                return mark.start(), close + 1
    raise ConditionError("{ is never closed; write {{ for a brace", start)


def _ends(array: AnyArray) -> AnyArray:
    return array if len(array) <= 2 * EDGE else np.concatenate([array[:EDGE], array[-EDGE:]])


# ------------------------------------------------------------------------------
# Stops resolved in a program: the ticks at which each is tested, and its compiled texts.


@dataclass(frozen=True, eq=False)
class ResolvedStop:
    """A breakpoint or watch in one program.

    `ticks` are the ticks within a batch at which it is tested, by whether the batch learns. It is hit at each of them if it has
    no condition; where the condition holds; or where the value of `watched` differs from the one computed before. Stops with the
    same `key` are hit at the same places.
    """

    stop: Stop
    key: HitKey
    ticks: Mapping[bool, tuple[int, ...]]
    condition: CompiledExpression | None = None
    watched: CompiledExpression | None = None
    count: HitCount | None = None
    log: LogPoint | None = None

    def check(self, program: Program) -> None:
        """Raise `ConditionError` if one of its texts cannot be evaluated in the program, whatever the values are."""
        for text in (self.condition, self.watched, self.log):
            if text is not None:
                text.check(program.shapes)

    def tested_between(self, after: int, upto: int, batch_ticks: int) -> bool:
        """Return True if it may be tested at one of the ticks after `after`, up to `upto`."""
        following = self.next_tested(after, batch_ticks)
        return following is not None and following <= upto

    def next_tested(self, after: int, batch_ticks: int) -> int | None:
        """Return the next tick after `after` at which it may be tested; None if it is tested nowhere."""
        places = self._places
        if not places:
            return None
        batch, k = divmod(after, batch_ticks)
        i = bisect_right(places, k)
        return batch * batch_ticks + places[i] if i < len(places) else (batch + 1) * batch_ticks + places[0]

    @cached_property
    def _places(self) -> list[int]:
        return sorted({*self.ticks[False], *self.ticks[True]})

    @property
    def plain(self) -> bool:
        """True if it is hit at each of its ticks."""
        return self.condition is None and self.watched is None

    @property
    def reads(self) -> CompiledExpression:
        """What is evaluated at each of its ticks: the condition, or the watched expression."""
        reads = self.watched if self.condition is None else self.condition
        assert reads is not None
        return reads


_NOWHERE: Mapping[bool, tuple[int, ...]] = {False: (), True: ()}


def resolve(stop: Stop, program: Program) -> ResolvedStop:
    """Resolve a stop in a program, with its texts compiled.

    Raises `TuiGruError` if it does not fit, `ConditionError`, with the column, for invalid texts.
    """
    names = program.spellings
    if isinstance(stop, Watch):
        compiled_watch = compile_expression(stop.expression, names)
        ticks = _tested(program, compiled_watch.names) if compiled_watch.names else _NOWHERE  # a constant never changes
        return ResolvedStop(stop, ("watch", stop.expression), ticks, watched=compiled_watch)
    condition = compile_expression(stop.condition, names, test=True) if stop.condition else None
    if stop.line:
        ticks = _executed(program, stop.line)
    elif condition is None:
        raise TuiGruError("a breakpoint needs a line to stop at, or a condition such as loss < 0.5")
    else:
        ticks = _tested(program, condition.names)
    if condition is not None and not condition.names:
        with suppress(ConditionError):  # a constant that cannot be evaluated is refused wherever it is tested
            ticks = ticks if condition.test(lambda name: None) else _NOWHERE
            condition = None
    count, log = HitCount.parse(stop.hits) if stop.hits else None, LogPoint.parse(stop.log, names) if stop.log else None
    return ResolvedStop(stop, ("breakpoint", stop.line, stop.condition), ticks, condition, count=count, log=log)


def line_named(program: Program, name: str) -> str:
    """Return the target of the line with a name, in code or as on screen (`h̃`). Raises `TuiGruError` if there is no such line."""
    target = program.code_name(name) if isinstance(name, str) else ""
    if target in program.targets:
        return target
    raise TuiGruError(f"there is no line that computes {name!r}; {did_you_mean(str(name), program.targets)}")


def _executed(program: Program, line: str) -> dict[bool, tuple[int, ...]]:
    target = line_named(program, line)
    ticks = {program.tick_of(target, t) for t in range(program.seq_length)}
    executed = tuple(sorted(tick for tick in ticks if tick is not None))
    return {True: executed, False: tuple(tick for tick in executed if tick <= program.loss_tick)}


def _tested(program: Program, names: frozenset[str]) -> dict[bool, tuple[int, ...]]:
    return {learns: tested_ticks(program, names, learns) for learns in (False, True)}


_WORD = r"[A-Za-z_]\w*"


def tested_ticks(program: Program, names: frozenset[str], learns: bool) -> tuple[int, ...]:
    """Return the ticks within a batch at which a value in `names` is computed, in order.

    Gradients are tested once they are complete; parameters at the end of a batch that does not learn; counters only if nothing
    else is read: `t` when a timestep begins, the others at the first line.
    """
    T, last = program.seq_length, program.ticks if learns else program.loss_tick
    begins = [program.readable_from(next(iter(program.model.page.inputs)), t) for t in range(T)]
    ticks: set[int | None] = set()
    for name in names:
        kind = program.names[name].kind
        match kind.tested:
            case "timestep":
                ticks.update(begins)
            case "read":
                ticks.update(program.readable_from(name, t) for t in range(T))
            case "whole":
                ticks.add(program.complete_at(name))
            case "line" if name == "max_weight" or (kind.is_weight and not (learns and program.update)):
                ticks.add(last)
            case "line" if name in NUMBERS and name not in program.lines:  # the loss is given, not computed
                ticks.add(program.loss_tick if name == "loss" else program.backward_end)
            case "line":
                ticks.update(program.tick_of(name, t) for t in range(T))
    computed = ticks - {None}
    if not computed:
        computed = set(begins) if "t" in names else {1}
    return tuple(sorted(tick for tick in computed if tick is not None and tick <= last))


def computed_here(expression: str, program: Program, position: Position, *, learns: bool) -> bool:
    """Return True if a value that the expression reads is computed at `position`; `learns` is True if its batch learns."""
    return position.offset in _ticks(expression, program, learns)


@lru_cache(maxsize=256)
def _ticks(expression: str, program: Program, learns: bool) -> frozenset[int]:
    names = frozenset(re.findall(_WORD, expression)) & frozenset(program.readable)
    return frozenset(tested_ticks(program, names, learns))


# ------------------------------------------------------------------------------
# Watched values: their value at a moment, and the one computed before.


class WatchedValues(Sequence[Watched]):
    """The watches at a moment. Each is evaluated when it is first read, so that watches that are not shown cost nothing.

    Evaluating may replay batches, which must not happen during a verb: the lock `idle` is held meanwhile. If a verb in another
    thread holds it, a watch that has not been evaluated has no value.
    """

    def __init__(self, watches: Sequence[Watch], evaluate: Callable[[Watch], Watched], idle: RLock) -> None:
        self._watches, self._evaluate, self._idle = watches, evaluate, idle
        self._known: dict[int, Watched] = {}

    def __len__(self) -> int:
        return len(self._watches)

    @overload
    def __getitem__(self, index: int) -> Watched: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Watched]: ...
    def __getitem__(self, index: int | slice) -> Watched | Sequence[Watched]:
        if isinstance(index, slice):
            return tuple(self[at] for at in range(*index.indices(len(self))))
        watch = self._watches[index]
        if watch.id not in self._known:
            if not self._idle.acquire(blocking=False):
                return Watched(watch)
            try:
                self._known[watch.id] = self._evaluate(watch)
            finally:
                self._idle.release()
        return self._known[watch.id]


def watched(resolved: ResolvedStop, timeline: Timeline, moment: Moment) -> Watched:
    """Return a watch evaluated at a moment of a timeline."""
    watch = resolved.stop
    assert isinstance(watch, Watch)
    if not watch.enabled:
        return Watched(watch)
    tick, error, value = moment.position.tick, "", None
    try:
        value = value_at(resolved, timeline, tick)
    except ConditionError as problem:
        error = str(problem)
    return Watched(watch, value, _before(resolved, timeline, tick, value), error)


def watched_alone(resolved: ResolvedStop, moment: Moment) -> Watched:
    """Return a watch evaluated from a moment alone, without the value before; without a value if it reads what was before."""
    watch = resolved.stop
    assert isinstance(watch, Watch)
    if not watch.enabled or resolved.reads.previous:
        return Watched(watch)
    try:
        return Watched(watch, resolved.reads.value(moment.in_conditions))
    except ConditionError as problem:
        return Watched(watch, error=str(problem))


def _before(resolved: ResolvedStop, timeline: Timeline, tick: int, value: Any) -> Any:
    """Return the watched value computed before `value`; if `value` was not computed in this batch, the last one before the tick."""
    begin = timeline.position(tick).number * timeline.program.ticks
    last = place = last_computed(resolved, timeline, tick + 1)
    while value is not None and place is not None and place[0] > begin:
        before = last_computed(resolved, timeline, place[0])
        if equal_values(place[1], value):
            return None if before is None else before[1]
        place = before
    return None if last is None else last[1]


def value_at(resolved: ResolvedStop, timeline: Timeline, tick: int) -> Any:
    """Return the watched value at a tick; None if not computed yet. Raises `ConditionError` if it cannot be evaluated."""
    return resolved.reads.value(*readers(resolved.reads, timeline, tick))


def readers(reads: CompiledExpression | LogPoint, timeline: Timeline, tick: int) -> tuple[Read, Read]:
    """Return the functions that read the values of names at a tick, and those of `prev()`."""
    moment = timeline.moment(tick)
    previous = timeline.before(moment.position.number) if reads.previous else None
    return moment.in_conditions, partial(value_before, moment, previous)


def last_computed(resolved: ResolvedStop, timeline: Timeline, before: int) -> tuple[int, Any] | None:
    """Return the last tick before `before` at which the watched value was computed, and the value.

    None if it never was, or could not be evaluated where it would have been computed last.
    """
    N = timeline.program.ticks
    # Goes back batch by batch, since a value such as a gradient is computed in batches that learn only.
    batch = max(before - 1, 0) // N if any(resolved.ticks.values()) else -1
    while batch >= 0:
        learns = timeline.learns(batch)
        for tick in (batch * N + k for k in reversed(resolved.ticks[learns])):
            if tick < before:
                try:
                    value = value_at(resolved, timeline, tick)
                except ConditionError:
                    return None
                if value is not None:
                    return tick, value
        in_part = before <= (batch + 1) * N
        batch = batch - 1 if learns or in_part or timeline.changed_in(batch) else _next_to_test(timeline, batch)
    return None


def _next_to_test(timeline: Timeline, batch: int) -> int:
    """Return the last batch before `batch` that may have a value, if `batch`, which does not learn, has none; −1 if there is none.

    Other batches that do not learn have no more values, except one right after a batch that learns.
    """
    learned = np.flatnonzero(timeline.learned(0, batch - 1))
    likely = [min(int(last_learned) + 1, batch - 1) for last_learned in learned[-1:]]
    return max((*likely, *timeline.changed_batches(0, batch - 1)[-1:]), default=-1)


# ------------------------------------------------------------------------------
# The number of hits of each stop in each batch, and their places. Counted once and stored, because computed batches never change.
#
# On another machine, a condition may hold at other places by the last digits of its numbers. The hits that were counted remain:
# the fifth hit is the same place on every machine.


UNKNOWN = -1
MOST_TIMELINES = 4

HitKey = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Hits:
    """The ticks of a batch at which a stop is hit, in order; and the ticks at which it could not be evaluated, with the errors."""

    batch: int
    ticks: tuple[int, ...] = ()
    errors: tuple[tuple[int, ConditionError], ...] = ()


class HitCounts:
    """The number of hits of one stop in each batch of a timeline, as far as the hits have been counted."""

    def __init__(self) -> None:
        self._counts = np.full(0, UNKNOWN, np.int32)
        self._sums = np.zeros(1, np.int64)  # hits before each batch
        self._summed = 0  # the number of batches, from the first on, that are in the sums
        self._failed: set[int] = set()  # batches with a place at which the stop could not be evaluated
        # The ticks of the hits in batches that were tested by their records, batch by batch in the order of testing; and by batch,
        # where its ticks begin. A run can have millions of hits, so that an object for each would take too much.
        self._ticks, self._begins = array("q"), np.full(0, UNKNOWN, np.int64)
        self.tested = False  # True if a batch had to be tested by its record, so that counting again would take long

    @classmethod
    def of(
        cls,
        counts: NDArray[np.int32],
        failed: Iterable[int],
        batches: NDArray[np.int64] | None = None,
        ticks: NDArray[np.int64] | None = None,
    ) -> HitCounts:
        """Create from known counts: the number of hits in each batch, or UNKNOWN. `failed` are batches with errors. `batches` and
        `ticks` are those of `places`."""
        hit_counts = cls()
        hit_counts._counts, hit_counts._failed, hit_counts.tested = counts.copy(), set(failed), True
        if batches is not None and ticks is not None:
            hit_counts._ticks = array("q", ticks.tobytes())
            hit_counts._begins = np.full(len(counts), UNKNOWN, np.int64)
            hit_counts._begins[batches] = np.cumsum(counts[batches], dtype=np.int64) - counts[batches]
        return hit_counts

    @property
    def places(self) -> dict[str, NDArray[np.int64]]:
        """The `batches` with hits that were tested, (n), and the `ticks` of these hits, batch by batch."""
        batches = np.flatnonzero(self._begins != UNKNOWN)
        ticks = np.frombuffer(self._ticks, np.int64) if self._ticks else np.empty(0, np.int64)
        parts = [ticks[at : at + count] for at, count in zip(self._begins[batches], self._counts[batches], strict=True)]
        return {"batches": batches.astype(np.int64), "ticks": np.concatenate(parts or [ticks[:0]])}

    @property
    def known_counts(self) -> NDArray[np.int32]:
        """The number of hits in each batch, up to the last that is known, (n); UNKNOWN for others."""
        counted_batches = np.flatnonzero(self._counts != UNKNOWN)
        return self._counts[: counted_batches[-1] + 1 if counted_batches.size else 0]

    def counts(self, first: int, last: int) -> NDArray[np.int32]:
        """Return the counts of the batches `first` … `last`, (last + 1 − first), UNKNOWN if not counted: a writable view."""
        self._counts = _lengthened(self._counts, last + 1)
        return self._counts[first : last + 1]

    def is_counted(self, batch: int) -> bool:
        return batch < len(self._counts) and bool(self._counts[batch] != UNKNOWN)

    def store(self, hits: Hits) -> None:
        """Store the hits in a batch, unless they have been counted before: on another machine they may be at other places now."""
        self.tested = True
        if not self.is_counted(hits.batch):
            self.counts(hits.batch, hits.batch)[0] = len(hits.ticks)
            if hits.ticks:
                self._begins = _lengthened(self._begins, hits.batch + 1)
                self._begins[hits.batch] = len(self._ticks)
                self._ticks.extend(hits.ticks)
        if hits.errors:
            self._failed.add(hits.batch)

    def stored(self, batch: int) -> Hits | None:
        """Return the hits in a batch, as they were counted; None if it was not tested by its record, or there were errors in it."""
        begin = int(self._begins[batch]) if batch < len(self._begins) and batch not in self._failed else UNKNOWN
        return None if begin == UNKNOWN else Hits(batch, tuple(self._ticks[begin : begin + int(self._counts[batch])]))

    def failed(self, first: int, last: int) -> list[int]:
        """Return the batches among `first` … `last` in which the stop could not be evaluated at some place."""
        return [batch for batch in self._failed if first <= batch <= last]

    def before(self, batch: int) -> int | None:
        """Return the number of hits before a batch; None if not known."""
        if batch > self._summed:
            counts = self.counts(self._summed, batch - 1)
            unknown = np.flatnonzero(counts == UNKNOWN)
            counts = counts[: unknown[0]] if unknown.size else counts
            upto = self._summed + len(counts)
            self._sums = _lengthened(self._sums, upto + 1)
            self._sums[self._summed + 1 : upto + 1] = self._sums[self._summed] + np.cumsum(counts)
            self._summed = upto
        return int(self._sums[batch]) if batch <= self._summed else None

    def shared(self, batches: int) -> HitCounts:
        """Return the counts for a timeline that shares the first `batches` batches with this one."""
        shared = HitCounts()
        shared._counts, shared._begins = self._counts[:batches].copy(), self._begins[:batches].copy()
        shared._ticks = array("q", self._ticks)
        shared._failed = {batch for batch in self._failed if batch < batches}
        shared.tested = self.tested
        return shared


def _lengthened(values: NDArray[Any], length: int) -> NDArray[Any]:
    """Return an array of at least so many elements, with UNKNOWN after `values`; a quarter more, so that few are copied often."""
    missing = length - len(values)
    if missing <= 0:
        return values
    return np.concatenate((values, np.full(max(missing, len(values) // 4, 64), UNKNOWN, values.dtype)))


class HitCache:
    """A cache of hit counts, by timeline and key of the stop. Only the timelines used last are kept; others are counted again."""

    def __init__(self) -> None:
        self._of: OrderedDict[Timeline, dict[HitKey, HitCounts]] = OrderedDict()

    def put(self, timeline: Timeline, counts: Mapping[HitKey, HitCounts]) -> None:
        """Store the counts of a timeline."""
        self._of[timeline] = dict(counts)

    def of(self, timeline: Timeline, key: HitKey) -> HitCounts:
        """Return the counts of a stop on a timeline; those of batches shared with a cached timeline are copied from it."""
        if timeline not in self._of:
            self._of[timeline] = self._taken_over(timeline)
            while len(self._of) > MOST_TIMELINES:
                self._of.popitem(last=False)
        self._of.move_to_end(timeline)
        return self._of[timeline].setdefault(key, HitCounts())

    def _taken_over(self, timeline: Timeline) -> dict[HitKey, HitCounts]:
        # A change in the past gives a new timeline; what was counted before the change holds on it as well.
        nearest = max(self._of, key=lambda other: _in_common(other, timeline), default=timeline)
        batches = _in_common(nearest, timeline)
        return {key: counts.shared(batches) for key, counts in self._of.get(nearest, {}).items()} if batches else {}


def _in_common(one: Timeline, other: Timeline) -> int:
    """Return the number of leading batches that two timelines share."""
    # The batch within which the first segment that differs begins is not shared: the change has an effect in it.
    same = one.chain.shared(other.chain)
    parted = (timeline.segments[same].first_batch for timeline in (one, other) if same < len(timeline.segments))
    return min(parted, default=max(one.computed, other.computed) + 1) if same else 0
