"""The opening of sessions by name, and the list of all sessions."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from tui_gru.cli.failures import option_name
from tui_gru.cli.model import shortened
from tui_gru.debugger.session import opening
from tui_gru.debugger.session.session import Session
from tui_gru.debugger.storage import library
from tui_gru.debugger.storage.session_errors import SessionInUseError
from tui_gru.debugger.storage.store import sessions_folder
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.safe_text import safe_text


def found(name: str) -> Path | None:
    """Return the file of an existing session; None if it does not exist."""
    path = library.find(name)
    return path if os.path.lexists(path) else None


def existing(name: str) -> Path:
    """Return the file of a session. Raises `TuiGruError` if it does not exist, with the spelling of a file in this folder."""
    path = found(name)
    if path is None:
        here = f"; to open the file of this name, write ./{name}" if os.path.lexists(name) else ""
        raise TuiGruError(f"there is no session {name}; `tui-gru sessions` lists them{here}")
    return path


def reopened(path: Path, given: Mapping[str, Any], *, copy: bool, history_memory: int | None) -> Session:
    """Open the session in a file.

    With `copy`, the session is recorded to a copy. Otherwise it is recorded to the file if the file is in the user's folder, or not
    recorded until the user decides. `given` has the options of the model on the command line. Raises `TuiGruError` if options
    differ from the session, or the session cannot be opened.
    """
    if given:
        _check_same(Session.open(path), path, given)
    try:
        return opening.copied(path, history_memory) if copy else opening.opened(path, history_memory)
    except SessionInUseError:
        _ask_for_a_copy(path)
    return opening.copied(path, history_memory)


def looked_at(name: str, given: Mapping[str, Any]) -> Session:
    """Open a session whose file is not changed. Raises `TuiGruError` if it cannot be opened, or options differ from it."""
    path = existing(name)
    session = Session.open(path)
    _check_same(session, path, given)
    session.notice = ""
    return session


def begun(session: Session, name: str) -> Session:
    """Record a new session under a name, and return it. Raises `TuiGruError` if the folder does not exist."""
    path = library.find(name)
    if path.parent != sessions_folder() and not path.parent.is_dir():
        raise TuiGruError(f"there is no folder {path.parent}; create it first", option="session")
    opening.record(session, path)
    return session


def table() -> Iterator[str]:
    """Yield the lines of the list of sessions, newest first."""
    sessions = library.listed()
    if not sessions:
        yield safe_text(f"no sessions in {sessions_folder()} yet; `tui-gru --session NAME` creates one")
        return
    rows = [("SESSION", "WRITTEN", "SIZE", "LEFT AT", "BRANCHES")]
    for each in sessions:
        written = datetime.fromtimestamp(each.written).strftime("%Y-%m-%d %H:%M") if each.written else "?"
        rows.append((safe_text(each.name), written, _size(each.size), safe_text(each.place), safe_text(", ".join(each.branches))))
    widths = [max(len(row[i]) for row in rows if i != 3 or row[4]) for i in range(4)]
    for name, written, size, place, branches in rows:
        yield f"{name:<{widths[0]}}  {written:<{widths[1]}}  {size:>{widths[2]}}  {place:<{widths[3]}}  {branches}".rstrip()


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return shortened(value) if isinstance(value, str) else str(value)


def _size(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{-(-size // 2**10)} KiB"


def _ask_for_a_copy(path: Path) -> None:
    if sys.stdin is None or not sys.stdin.isatty():
        raise SessionInUseError(f"{path.stem} is open in another tui-gru; --copy opens a copy of it") from None
    if not click.confirm(f"{safe_text(path.stem)} is open in another tui-gru. Open a copy of it?", default=True):
        raise click.exceptions.Exit(0) from None


def _check_same(session: Session, path: Path, given: Mapping[str, Any]) -> None:
    """Raise `TuiGruError` if options of the model differ from those of the session."""
    its: dict[str, Any] = {**vars(session.config), "file": session.config.text, "learn": session.learning}
    others = [
        f"{option_name(field)} is {_shown(its[field])}, not {_shown(value)}"
        for field, value in given.items()
        if its[field] != value
    ]
    if others:
        raise TuiGruError(f"in the session {path.stem} {'; '.join(others)}: remove the option, or name another session")
