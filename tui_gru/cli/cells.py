"""The output of `tui-gru cells`."""

from __future__ import annotations

from tui_gru.engine.model import names_of, shipped, text_of


def listed() -> str:
    """Return the names and titles of the built-in cells, one line each."""
    names = names_of("cell")
    width = max(map(len, names))
    return "".join(f"{name:<{width}}  {shipped('cell', name).title}\n" for name in names)


def printed(name: str) -> str:
    """Return the equations of a built-in cell as in its file. Raises `TuiGruError` for an unknown name."""
    return text_of("cell", name)
