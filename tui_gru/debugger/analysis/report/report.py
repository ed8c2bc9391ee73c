"""What a report says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.analysis.findings.finding import Finding
from tui_gru.debugger.analysis.loss_places import Share
from tui_gru.engine.data.tokens import Text


@dataclass(frozen=True)
class UnitNote:
    """A unit (0-based): the class that it goes with, Pearson's correlation r with it, and after which characters it is strongest in
    that direction: as the text before it, the character, and the text after it."""

    unit: int
    goes_with: str
    r: float
    places: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, eq=False)
class Report:
    """All of it. `curve` has, for each point, the last batch (from 1) and the mean loss; `values` (units shown, characters) is the
    heat map of `name` over `text`, in the order of `units`. `of` is what the curve counts, in a word."""

    title: str
    options: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    curve: tuple[tuple[int, float], ...]
    lines: tuple[tuple[str, float], ...]
    findings: tuple[Finding, ...]
    units: tuple[UnitNote, ...]
    name: str
    text: Text
    values: NDArray[np.floating]
    classes: tuple[Share, ...]
    hardest: tuple[tuple[tuple[str, str, str], float], ...]
    samples: tuple[tuple[str, str], ...]
    of: str = "batches"
