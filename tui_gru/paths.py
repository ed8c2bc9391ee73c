"""Names of files that users and web pages give. The only folder whose files a debugger in a browser reads, writes and lists is that
of its server, since a web page types their names."""

from __future__ import annotations

import os
from pathlib import Path

from tui_gru.errors import TuiGruError, shown

FilePath = str | os.PathLike[str]
SERVED_FOLDER = "TUI_GRU_SERVED_FOLDER"  # the environment variable by which `tui-gru serve` names the folder that a page may use
_folder: Path | None = None  # None in a terminal and in a library, which may use every file of the user


def confine(folder: str | os.PathLike[str] | None) -> None:
    """Confine this process to a folder; None ends that."""
    global _folder
    _folder = None if folder is None else Path(os.path.realpath(folder))


def served_folder() -> Path | None:
    """Return the folder that this process is confined to; None if it is not confined."""
    return _folder


def permitted(path: str | os.PathLike[str]) -> Path:
    """Return a path as it was typed, with `~` expanded; in a confined process the absolute path without links.

    There, a relative path is relative to the folder. Raises `TuiGruError` if the path, or the target of a link in it, is outside of
    the folder, or is hidden, as the settings of other programs are.
    """
    try:
        expanded = Path(os.path.expanduser(os.fsdecode(path)))
        if _folder is None:
            return expanded
        real = Path(os.path.realpath(_folder / expanded))
    except ValueError:  # a zero byte
        raise TuiGruError(f"{shown(str(path))} is not a valid file name; type, for example, here.txt") from None
    if not real.is_relative_to(_folder):
        raise TuiGruError(f"{shown(str(path))} is outside of {_folder}, the only folder that a page may use; name a file in it")
    if any(part.startswith(".") for part in real.relative_to(_folder).parts):
        raise TuiGruError(f"{shown(str(path))} is a hidden file, which a page may not use; choose a name without a leading dot")
    return real


def is_permitted(path: str | os.PathLike[str]) -> bool:
    """Return True if `permitted` allows a path."""
    try:
        permitted(path)
    except TuiGruError:
        return False
    return True
