"""The saved sessions in the user's folders: those with a name, and the newest of those recorded automatically."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from tui_gru.debugger.storage import session_file
from tui_gru.debugger.storage.contents import facts
from tui_gru.debugger.storage.session_errors import SessionFileError, SessionMissingError, damaged
from tui_gru.debugger.storage.session_file import SessionFile
from tui_gru.debugger.storage.store import (
    SUFFIX,
    automatic_folder,
    named_files,
    own_files,
    place_in,
    session_path,
    sessions_folder,
    written,
    written_in,
)
from tui_gru.engine.errors import TuiGruError

LAST = "last"  # the name that stands for the newest session
STAY = 20  # automatic recordings are kept; older ones are deleted
LONGEST = 16  # characters of the text in the name of an automatic recording


@dataclass(frozen=True)
class ListedSession:
    """A session in a list. `place` is the place where it was left, or the error if it cannot be read; it then has no `branches`.

    `size` is in bytes, `written` in seconds since 1970.
    """

    path: Path
    size: int
    written: float
    place: str
    branches: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name by which the session can be opened."""
        return self.path.stem


def automatic_path(text: str, today: date) -> Path:
    """Return a path for a new session on a text, which does not exist yet: `2026-11-25-Math.tui-gru`."""
    return free_path(automatic_folder() / f"{today.isoformat()}-{_title(text)}{SUFFIX}")


def free_path(path: Path) -> Path:
    """Return `path`, or if it exists, the first with a number that does not: math, math-2, math-3."""
    free, n = path, 1
    while free.exists():
        n += 1
        free = path.with_name(f"{path.stem}-{n}{path.suffix}")
    return free


def _title(text: str) -> str:
    """Return the first word of a text, without repetitions: Math for MathMathMath."""
    head = text[:256]
    period = (head + head).find(head, 1)
    words = re.findall(r"[^\W_]+", head[:period] if period <= len(head) // 2 else head)
    return words[0][:LONGEST] if words else "text"


def prune() -> None:
    """Delete the oldest automatic recordings. Files that are not sessions, and sessions that are open, are not deleted."""
    for path in sorted(own_files(automatic_folder()), key=written, reverse=True)[STAY:]:
        with suppress(SessionFileError):
            session_file.remove(path)


def find(name: str) -> Path:
    """Return the path of a session, from its name or path; `last` is the newest. Raises `SessionFileError` if there is none."""
    if name != LAST:
        return session_path(name)
    newest = max(named_files(), key=written, default=None)
    if newest is None:
        raise SessionMissingError(f"there is no session in {sessions_folder()} yet; leave out --session to begin one")
    return newest


def listed() -> list[ListedSession]:
    """Return all sessions in the user's folders, newest first."""
    return sorted(map(_listed, own_files()), key=lambda each: each.written, reverse=True)


def _listed(path: Path) -> ListedSession:
    size = 0
    for each in (path, path.with_name(f"{path.name}-wal")):  # while the session is open, or after a crash, part of it is in the log
        with suppress(OSError):
            size += each.stat().st_size
    try:
        with session_file.glancing(path) as file:
            return ListedSession(path, size, *_glance(file))
    except TuiGruError as error:
        return ListedSession(path, size, 0.0, str(error).removeprefix(f"{path} "))


def _glance(file: SessionFile) -> tuple[float, str, tuple[str, ...]]:
    """Return the time at which a session was written, in seconds since 1970, and where it was left; and its branches.

    The current branch comes first.
    """
    here = facts.read(file, "here", facts.HERE)
    names = [name for name, *_ in facts.read(file, "branches", facts.BRANCHES)]
    if here["branch"] not in names or here["tick"] > here["newest"]:
        raise damaged(file.path, "the place where it was left")
    place = place_in(file) + (", later changes lost in a damaged log" if file.log.damage is not None else "")
    return written_in(file) / 1e6, place, (here["branch"], *(name for name in names if name != here["branch"]))
