"""The explanations of panels: what a panel shows, and what its own keys do.

Each class of a panel has its own, `ABOUT`. A verb in angle brackets stands for the key that is bound to it.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from inspect import isclass
from pkgutil import walk_packages

import tui_gru.tui.panels as panels


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
