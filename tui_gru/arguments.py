"""Checks of arguments. Each function returns the value in its plain type, or raises a `TuiGruError` that names the argument."""

from __future__ import annotations

import math
from typing import Any, TypeVar

from tui_gru.errors import TuiGruError, shown

LARGEST = 2**63 - 1  # the largest signed integer of 8 bytes

T = TypeVar("T")


def integer(name: str, value: Any, *, least: int | None = None, most: int | None = None, option: str | None = None) -> int:
    """Return the value as an int from `least` to `most`; None means no bound. True and False are refused."""
    try:
        number = None if isinstance(value, bool) else int(value.__index__())
    except Exception:  # the __index__ of another type may raise anything
        number = None
    if number is None:
        raise TuiGruError(f"{name} must be a whole number, not {shown(value)}", option=option)
    if (least is not None and number < least) or (most is not None and number > most):
        upto = "2^63-1" if most == LARGEST else str(most)
        bounds = f"from {least} to {upto}" if most is not None else "0 or more" if least == 0 else f"at least {least}"
        raise TuiGruError(f"{name} must be {bounds}, not {shown(number)}", option=option)
    return number


def real_number(name: str, value: Any, *, option: str | None = None) -> float:
    """Return the value as a float; a number too large for a float becomes infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except Exception:  # the __float__ of another type may raise anything
        raise TuiGruError(f"{name} must be a number, not {shown(value)}", option=option) from None


def string(name: str, value: Any, *, option: str | None = None) -> str:
    """Return the value if it is a string."""
    if not isinstance(value, str):
        raise TuiGruError(f"{name} must be a text, not {shown(value)}", option=option)
    return value


def boolean(name: str, value: Any, *, option: str | None = None) -> bool:
    """Return True, False, a NumPy boolean, 0 or 1 as a Python bool."""
    try:
        plain = value.item() if hasattr(value, "item") else value
    except ValueError:  # an array of several entries
        plain = None
    if not isinstance(plain, int) or plain not in (0, 1):
        raise TuiGruError(f"{name} must be True or False, not {shown(value)}", option=option)
    return bool(plain)


def integers(name: str, values: Any) -> tuple[int, ...]:
    """Return whole numbers from a sequence or an array of them."""
    try:
        entries = tuple(values)
    except TypeError:
        raise TuiGruError(f"{name} must be a list of whole numbers, not {shown(values)}") from None
    return tuple(integer(f"each of {name}", value) for value in entries)


def instance(name: str, value: Any, kind: type[T], description: str) -> T:
    """Return the value if it is one of a class; `description` says in words where such a value comes from."""
    if not isinstance(value, kind):
        raise TuiGruError(f"{name} must be {description}, not {shown(value)}")
    return value


def callback(name: str, value: Any) -> None:
    """Raise `TuiGruError` unless the value is None or can be called."""
    if value is not None and not callable(value):
        raise TuiGruError(f"{name} must be a function that is called with what has been done, or None, not {shown(value)}")
