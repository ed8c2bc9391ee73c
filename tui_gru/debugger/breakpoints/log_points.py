"""Log points: templates such as `loss {loss:.3f} z {z[0, 1]}`, written to the log when a run passes, without stopping."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from tui_gru.debugger.expressions.parser import CompiledExpression, Read, compile_expression
from tui_gru.debugger.expressions.text import QUOTED, ConditionError, refuse_unreadable
from tui_gru.debugger.expressions.values import AnyArray
from tui_gru.debugger.program.naming import printable

NOT_COMPUTED = "·"
"""The text for a value that is not computed yet."""

MAX_WIDTH = 80
MAX_PRECISION = 20

EDGE = 3
"""Elements shown at each end of a long axis of an array."""

_LARGEST_IN_FULL = 1e15

_FORMAT = re.compile(
    r"(?P<layout>(?:[^{}]?[<>^])?)(?P<sign>[-+ ]?)(?P<zero>0?)(?P<width>(?:[1-9][0-9]{0,5})?)"
    r"(?:\.(?P<precision>[0-9]{1,5}))?(?P<type>[defgEFG%]?)"
)

_BRACES = re.compile(r"\{\{|\}\}|[{}]")
_MARKS = re.compile(rf"{QUOTED}|[()\[\]{{}}:]")


@dataclass(frozen=True, slots=True)
class ValueFormat:
    """The format of one value. The fields are those of Python's format specifications; `layout` is fill and alignment."""

    layout: str
    sign: str
    zero: str
    width: str
    precision: str
    type: str

    @classmethod
    def parse(cls, text: str, column: int) -> "ValueFormat":
        """Parse a format such as `+8.3f`, typed at `column`. Raises `ConditionError` if it is invalid or too wide."""
        form = _FORMAT.fullmatch(text)
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
            return format("".join(map(printable, str(value))), self.layout + self.width)
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


@dataclass(frozen=True, slots=True)
class _Field:
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
    def parse(cls, template: str, names: Collection[str]) -> "LogPoint":
        """Compile a template whose expressions may read `names`. Raises `ConditionError`, with the column, if it is invalid."""
        refuse_unreadable(template)
        return cls(template, tuple(_pieces(template, names)))

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
        for each in self._fields():
            each.expression.check(shapes)

    def render(self, read: Read, read_previous: Read | None = None) -> str:
        """Return the line at one moment, with `·` for values not computed yet.

        Raises `ConditionError` if a value cannot be evaluated.
        """
        return "".join(piece if isinstance(piece, str) else piece.render(read, read_previous) for piece in self._pieces)

    def _fields(self) -> Iterator[_Field]:
        return (piece for piece in self._pieces if isinstance(piece, _Field))


def _pieces(template: str, names: Collection[str]) -> Iterator[str | _Field]:
    done = 0
    while brace := _BRACES.search(template, done):
        yield template[done : brace.start()]
        done = brace.end()
        if brace[0] == "}":
            raise ConditionError("} closes nothing; write }} for a brace", brace.start() + 1)
        if brace[0] == "{":
            end, done = _field_ends(template, done)
            yield _field(template, brace.end(), end, done, names)
        else:
            yield brace[0][0]
    yield template[done:]


def _field(template: str, start: int, end: int, after: int, names: Collection[str]) -> _Field:
    expression = compile_expression(template[start:end], names, first_column=start + 1)
    return _Field(expression, ValueFormat.parse(template[end + 1 : after - 1], end + 2))


def _field_ends(template: str, start: int) -> tuple[int, int]:
    """Return the index at which the expression that begins at `start` ends, and the index after the closing brace of its field."""
    depth = 0
    for mark in _MARKS.finditer(template, start):
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
