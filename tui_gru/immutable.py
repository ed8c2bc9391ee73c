"""Frozen dataclasses that are created in a third of the time of `dataclasses.dataclass(frozen=True)`.

A program that starts creates about ninety of them. The standard library generates and compiles six methods for each, which takes
0.7 ms. Here it only collects the fields. `__init__` is generated for the first object, and the other methods are functions that all
classes share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields
from functools import partial
from operator import attrgetter
from reprlib import recursive_repr
from typing import Any, TypeVar, dataclass_transform, overload

T = TypeVar("T")


@overload
def immutable(cls: type[T], /) -> type[T]: ...


@overload
def immutable(*, eq: bool = ..., slots: bool = ..., weakref_slot: bool = ...) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def immutable(cls: type[T] | None = None, /, **options: bool) -> Any:
    """Decorate a class as `dataclass(frozen=True)` does, with the same meaning of the options and of `field`."""
    return partial(_completed, **options) if cls is None else _completed(cls)


def _completed(cls: type[T], /, *, eq: bool = True, slots: bool = False, weakref_slot: bool = False) -> type[T]:
    made = dataclass(init=False, repr=False, eq=False, slots=slots, weakref_slot=weakref_slot)(cls)
    methods = {"__init__": _initializer(made), "__repr__": _representation, "__setattr__": _set, "__delattr__": _delete}
    for name, method in (methods | (_comparison(made) if eq else {})).items():
        if cls.__dict__.get(name) is None:  # `__hash__` is None in a class that has `__eq__`
            setattr(made, name, method)
    return made


def _initializer(cls: Any) -> Callable[..., None]:
    """Return the method `__init__` of a dataclass, which is generated when it is first called."""

    def initialize(self: Any, *arguments: Any, **named: Any) -> None:
        cls.__init__ = _generated(cls)
        cls.__init__(self, *arguments, **named)

    return initialize


def _generated(cls: Any) -> Callable[..., None]:
    """Return the generated method `__init__`, which sets the fields in spite of `_set`."""
    known: dict[str, Any] = {"set_": object.__setattr__, "missing_": MISSING}
    by_place, lines = ["self"], []
    by_name: list[str] = []
    for each in fields(cls):
        name = value = parameter = each.name
        if each.default_factory is not MISSING:
            known[f"make_{name}"] = each.default_factory
            parameter = f"{name}=missing_"
            value = f"make_{name}() if {name} is missing_ else {name}"
        elif each.default is not MISSING:
            known[f"default_{name}"] = each.default
            parameter = f"{name}=default_{name}"
        (by_name if each.kw_only else by_place).append(parameter)
        lines.append(f"set_(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    parameters = ", ".join([*by_place, *(["*", *by_name] if by_name else [])])
    exec(f"def __init__({parameters}):\n " + "\n ".join(lines or ["pass"]), known)
    method: Callable[..., None] = known["__init__"]
    return method


@recursive_repr()
def _representation(self: Any) -> str:
    shown = (f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _set(self: Any, name: str, value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _delete(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _comparison(cls: Any) -> dict[str, Callable[..., Any]]:
    """Return the methods `__eq__` and `__hash__` of a dataclass."""
    names = [each.name for each in fields(cls) if each.compare]
    key: Callable[[Any], object] = (
        attrgetter(*names) if len(names) > 1 else lambda self: tuple(getattr(self, name) for name in names)
    )

    def equals(self: Any, other: object) -> bool:
        return key(self) == key(other) if other.__class__ is self.__class__ else NotImplemented

    def hashed(self: Any) -> int:
        return hash(key(self))

    return {"__eq__": equals, "__hash__": hashed}
