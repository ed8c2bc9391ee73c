"""The result of reading a file: the GRUs in it, and a line for each network that cannot be opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tui_gru.interop.containers.opened import Opened
from tui_gru.interop.found import FoundGRU


@dataclass(frozen=True)
class Findings:
    """The GRUs found in a file. `refused` has one line for each network that cannot be opened, which says what to do."""

    found: tuple[FoundGRU, ...] = ()
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """A file format: `fits` recognises it by its content, and `find` finds the GRUs in it.

    `find(file, order)` raises `ModelFileError` if it refuses the file; `order` is the order of gates given by the user, or None.
    """

    name: str
    fits: Callable[[Opened], bool]
    find: Callable[[Opened, str | None], Findings]
