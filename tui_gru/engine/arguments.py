"""Checks of arguments. Each function returns the value in its plain type, or raises a `TuiGruError` that names the argument."""

from __future__ import annotations

import math
import os
from typing import Any

from tui_gru.engine.errors import TuiGruError

LARGEST = 2**63 - 1  # the largest signed integer of 8 bytes
_SHOWN = 60  # characters of a value that a message quotes

FilePath = str | os.PathLike[str]


def whole(name: str, value: Any, *, least: int | None = None, most: int | None = None, option: str | None = None) -> int:
    """Return the value as an int from `least` to `most`; None means no bound. True and False are refused."""
    try:
        found = None if isinstance(value, bool) else int(value.__index__())
    except Exception:  # the __index__ of another type may raise anything
        found = None
    if found is None:
        raise TuiGruError(f"{name} must be a whole number, not {shown(value)}", option=option)
    if (least is not None and found < least) or (most is not None and found > most):
        upto = "2^63-1" if most == LARGEST else str(most)
        bounds = f"from {least} to {upto}" if most is not None else "0 or more" if least == 0 else f"at least {least}"
        raise TuiGruError(f"{name} must be {bounds}, not {shown(found)}", option=option)
    return found


def number(name: str, value: Any, *, option: str | None = None) -> float:
    """Return the value as a float; a number too large for a float becomes infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except Exception:  # the __float__ of another type may raise anything
        raise TuiGruError(f"{name} must be a number, not {shown(value)}", option=option) from None


def text(name: str, value: Any, *, option: str | None = None) -> str:
    """Return the value if it is a string."""
    if not isinstance(value, str):
        raise TuiGruError(f"{name} must be a text, not {shown(value)}", option=option)
    return value


def truth(name: str, value: Any, *, option: str | None = None) -> bool:
    """Return True, False, a NumPy boolean, 0 or 1 as a Python bool."""
    try:
        plain = value.item() if hasattr(value, "item") else value
    except ValueError:  # an array of several entries
        plain = None
    if not isinstance(plain, int) or plain not in (0, 1):
        raise TuiGruError(f"{name} must be True or False, not {shown(value)}", option=option)
    return bool(plain)


def shown(value: Any) -> str:
    """Return the `repr` of a value for a message, shortened; if `repr` fails, the name of its type."""
    try:
        written = repr(value)
    except Exception:  # an int of over 4,300 digits raises; the __repr__ of another type may raise anything
        written = f"a {type(value).__name__}"
    written = " ".join(written.split())
    return written if len(written) <= _SHOWN else f"{written[:_SHOWN]}…"
