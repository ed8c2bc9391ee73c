"""The data of a file as dataclasses, whose annotations say how each field is written, read and checked.

A field without a default must be there, one with a default may be missing, and no other may be there. A number or text has exactly
the type of its annotation; `Annotated` narrows it by checks, which raise a `ValueError` that says what is wrong.
Files name the version of the project that wrote them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

__version__ = "0.1.0"

FieldReader = Callable[[Any], Any]  # returns the value, or raises a `ValueError`

MOST = 2**53  # the largest tick, batch or number of bytes


def within(least: float, most: float | None = MOST, *, below: float = math.inf) -> Callable[[float], None]:
    """Return a check for a number in a range; `most` None: no upper limit."""

    def check(value: float) -> None:
        if not least <= value < below or (most is not None and value > most):
            raise ValueError(f"is not a number from {least}{'' if most is None else f' to {most}'}")

    return check


def one_line(longest: int) -> Callable[[str], None]:
    """Return a check for a text on one line without control characters."""

    def check(value: str) -> None:
        if not 0 < len(value) <= longest or not value.isprintable():
            raise ValueError(f"is not a printable text of 1 to {longest} characters")

    return check


def one_of(*choices: str) -> Callable[[str], None]:
    """Return a check for one of some texts."""

    def check(value: str) -> None:
        if value not in choices:
            raise ValueError(f"is not one of {', '.join(map(repr, choices))}")

    return check


Whole = Annotated[int, within(0)]
Positive = Annotated[int, within(1)]
Rate = Annotated[float, within(0, None)]
Tokens = str | tuple[str, ...]  # a text, or tokens that may be longer than a character


def encoded(value: Any) -> Any:
    """Return a value in a form that JSON can represent. An optional field that is None or empty is not written."""
    if is_dataclass(value) and not isinstance(value, type):
        written = {field.name: getattr(value, field.name) for field in fields(value)}
        left_out = {field.name for field in fields(value) if _is_optional(field) and written[field.name] in (None, (), {})}
        return {name: encoded(part) for name, part in written.items() if name not in left_out}
    if isinstance(value, Mapping):
        return {name: encoded(part) for name, part in value.items()}
    return [encoded(part) for part in value] if isinstance(value, (tuple, list)) else value


@cache
def reader(kind: Any) -> FieldReader:
    """Return the function that checks data from JSON and creates a value of `kind`: a dataclass, a named tuple, or an annotation.

    It raises a `ValueError` that says what is wrong, as the end of a sentence about the value.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return lambda value: value
    if kind in _PLAIN:
        return _PLAIN[kind]
    if origin is Annotated:
        return _narrowed(reader(arguments[0]), arguments[1:])
    if origin is Literal:
        return _narrowed(_PLAIN[str], (one_of(*arguments),))
    if origin in (Union, UnionType):
        return _either(arguments)
    if origin is tuple:
        return _listed(reader(arguments[0])) if arguments[1:] == (...,) else _row(tuple(map(reader, arguments)), lambda *row: row)
    if origin in (dict, Mapping):
        return _by_name(reader(arguments[1]))
    hints = get_type_hints(kind, include_extras=True)
    if not is_dataclass(kind):  # a named tuple
        return _row(tuple(map(reader, hints.values())), kind)
    return _object(kind, {field.name: reader(hints[field.name]) for field in fields(kind)})


def partly(kind: Any) -> Callable[[Mapping[str, Any]], None]:
    """Return a check for an object that has some of the fields of a dataclass, and no others."""

    def check(value: Mapping[str, Any]) -> None:
        hints = get_type_hints(kind, include_extras=True)
        if unknown := value.keys() - {field.name for field in fields(kind)}:
            raise ValueError(f"has the unknown fields {', '.join(sorted(map(repr, unknown)))}")
        for name, part in value.items():
            _field(name, reader(hints[name]), part)

    return check


def _of_type(kind: type, otherwise: str) -> FieldReader:
    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(otherwise)
        return value

    return read


def _number(value: Any) -> Any:
    """Check a finite number; an integer stays one."""
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError("is not a finite number")
    return value


_PLAIN: dict[Any, FieldReader] = {
    bool: _of_type(bool, "is neither true nor false"),
    int: _of_type(int, "is not a whole number"),
    float: _number,
    str: _of_type(str, "is not a text"),
}
_list, _dict = _of_type(list, "is not a list"), _of_type(dict, "is not an object")


def _narrowed(read: FieldReader, checks: tuple[Callable[[Any], None], ...]) -> FieldReader:
    def narrowed(value: Any) -> Any:
        result = read(value)
        for check in checks:
            check(result)
        return result

    return narrowed


def _either(kinds: tuple[Any, ...]) -> FieldReader:
    """Return the reader of the kind that fits the type of the value: null, a text, or another one."""
    can_be_null, other = type(None) in kinds, [reader(kind) for kind in kinds if kind not in (type(None), str)]
    texts = [_PLAIN[str]] if str in kinds else []

    def read(value: Any) -> Any:
        if value is None and can_be_null:
            return None
        return (texts if texts and (type(value) is str or not other) else other)[0](value)

    return read


def _listed(read: FieldReader) -> FieldReader:
    return lambda value: tuple([read(item) for item in _list(value)])


def _row(reads: tuple[FieldReader, ...], create: Callable[..., Any]) -> FieldReader:
    def read(value: Any) -> Any:
        if len(_list(value)) != len(reads):
            raise ValueError(f"is not a list of {len(reads)}")
        return create(*(read_entry(item) for read_entry, item in zip(reads, value, strict=True)))

    return read


def _by_name(read: FieldReader) -> FieldReader:
    return lambda value: {name: read(item) for name, item in _dict(value).items()}


def _object(kind: Any, reads: Mapping[str, FieldReader]) -> FieldReader:
    required = {field.name: None for field in fields(kind) if not _is_optional(field)}

    def read(value: Any) -> Any:
        if type(value) is not dict or not required.keys() <= value.keys() <= reads.keys():
            raise ValueError(f"does not have the fields {', '.join(required)}")
        return kind(**{name: _field(name, reads[name], item) for name, item in value.items()})

    return read


def _field(name: str, read: FieldReader, value: Any) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def _is_optional(field: Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING
