"""Selection of a GRU in a file by name."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

from tui_gru.equations.errors import did_you_mean
from tui_gru.interop.errors import ModelFileError, printable
from tui_gru.interop.found import FoundGRU

_SHOWN = 8


def chosen(found: Sequence[FoundGRU], path: str | PathLike[str], name: str | None) -> FoundGRU:
    """Return the GRU of this name, by default the only one. Raises a `ModelFileError` that lists the names."""
    names = [gru.name for gru in found]
    if name is None and len(found) == 1:
        return found[0]
    if name is None:
        listed = ", ".join(names[:_SHOWN]) + (f" … {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        raise ModelFileError(f"{printable(path, 1000)}: there are {len(names)} GRUs in it; name one of {listed}", option="name")
    if name not in names:
        near = did_you_mean(str(name), names)
        raise ModelFileError(f"{printable(path, 1000)}: there is no GRU {name!r} in it; {near}", option="name")
    return found[names.index(name)]
