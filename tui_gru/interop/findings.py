"""What reading a file gives: the GRUs in it, and in one line each what looked like one and cannot be opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tui_gru.interop.containers.opened import Opened
from tui_gru.interop.found import FoundGRU


@dataclass(frozen=True)
class Findings:
    """`refused` has one line for each network in the file that cannot be opened, with the cure."""

    found: tuple[FoundGRU, ...] = ()
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """A file format: how it is recognised by its content, and what finds the GRUs in it.

    `find(file, order)` raises `ModelFileError` for what it refuses; `order` is the order of gates as the user gives it, or None.
    """

    name: str
    fits: Callable[[Opened], bool]
    find: Callable[[Opened, str | None], Findings]
