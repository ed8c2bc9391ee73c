"""What `tui-gru cells` prints."""

from __future__ import annotations

from tui_gru.engine.model import names_of, shipped, text_of


def listed() -> str:
    """The cells that ship, a line each: the name, and what it is."""
    names = names_of("cell")
    width = max(map(len, names))
    return "".join(f"{name:<{width}}  {shipped('cell', name).title}\n" for name in names)


def printed(name: str) -> str:
    """The equations of one cell, as its file has them. Raises `TuiGruError` for a name that there is not."""
    return text_of("cell", name)
