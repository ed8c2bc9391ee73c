"""How far a law is tried: less in the test suite than in `python -m tests.soak.laws`, which is run by hand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

Case = TypeVar("Case")

SOAK = "TUI_GRU_SOAK" in os.environ


def examples(few: int, *, soak: int) -> int:
    """How many examples Hypothesis tries."""
    return soak if SOAK else few


def spread(cases: Sequence[Case], count: int) -> Sequence[Case]:
    """So many of the cases, always the same, as far from each other in their order as possible; all of them in the soak."""
    if SOAK or count >= len(cases):
        return cases
    return [cases[i * (len(cases) - 1) // (count - 1)] for i in range(count)]


def share(cases: Sequence[Case], number: int, count: int) -> Sequence[Case]:
    """One of `count` shares of the cases, numbered from 0, which together have each case once; all of them in the soak."""
    return cases if SOAK else cases[number % count :: count]
