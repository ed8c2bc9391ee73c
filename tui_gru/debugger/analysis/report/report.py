"""The contents of a report, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.analysis.findings.finding import Finding, counted
from tui_gru.debugger.analysis.loss_places import Share
from tui_gru.engine.data.tokens import Text


@dataclass(frozen=True)
class UnitNote:
    """A unit (0-based): the class that it correlates with, Pearson's correlation r, and the places where it is strongest in that
    direction, each as the text before the character, the character, and the text after it.
    """

    unit: int
    goes_with: str
    r: float
    places: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, eq=False)
class RunReport:
    """The contents of a report. `curve` has the last batch (from 1) and the mean loss of each point; `values` (units shown,
    characters) is the heat map of `name` over `text`, in the order of `units`. `of` is the word for what the curve counts.
    """

    title: str
    options: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    curve: tuple[tuple[int, float], ...]
    findings: tuple[Finding, ...]
    name: str
    lines: tuple[tuple[str, float], ...] = ()
    units: tuple[UnitNote, ...] = ()
    text: Text = ""
    values: NDArray[np.floating] = field(default_factory=lambda: np.empty((0, 0)))
    classes: tuple[Share, ...] = ()
    hardest: tuple[tuple[tuple[str, str, str], float], ...] = ()
    samples: tuple[tuple[str, str], ...] = ()
    of: str = "batches"

    def __repr__(self) -> str:
        return f"<report on {self.title}: {counted(len(self.findings), 'finding')}, {counted(len(self.samples), 'sample')}>"
