"""The explanations of panels: what a panel shows, and what its own keys do.

Each class of a panel has its own, `ABOUT`. A verb in angle brackets stands for the key that is bound to it.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from inspect import isclass
from pkgutil import walk_packages

import tui_gru.tui.panels as panels

#: The words by which panels are known on the screen and in commands, where they are not the name of the class.
WORDS = {
    "training loop": "Listing", "program": "Listing", "the current line": "CurrentLine", "values": "Gates", "ŷ": "Softmax",
    "loss": "LossTerms", "loss, term by term": "LossTerms", "weights": "Overview", "gradients": "Overview", "origin": "OriginPanel",
    "derivation": "OriginPanel", "stops": "StopsList", "marks": "StopsList", "branches": "BranchList", "apart": "BranchesApart",
    "check": "CheckReport", "what if": "WhatIfPanel", "what-if": "WhatIfPanel", "findings": "FindingsList", "arrays": "ArrayList",
    "units": "UnitsMap", "influence": "InfluenceMap", "losses": "LossPlaces",
}  # fmt: skip


def about_panel(panel: object) -> str:
    """Return the explanation of a panel; empty if it has none."""
    return str(getattr(panel, "ABOUT", ""))


@cache
def explanations() -> dict[str, str]:
    """Return the explanation of every class of a panel by its name."""
    found = {}
    for info in walk_packages(panels.__path__, f"{panels.__name__}."):
        for kind in vars(import_module(info.name)).values():
            if isclass(kind) and kind.__module__ == info.name and "ABOUT" in vars(kind):
                found[kind.__name__] = about_panel(kind)
    return found
