"""Opens saved sessions: recorded to their own file, as a copy, or in memory only if no file can be written."""

from __future__ import annotations

from pathlib import Path

from tui_gru.debugger.session.session import REOPENED, Session
from tui_gru.debugger.storage.library import free_path
from tui_gru.debugger.storage.session_errors import SessionFileError, SessionInUseError, UnwritableSessionError
from tui_gru.debugger.storage.store import is_own


def opened(path: Path, history_memory: int | None = None) -> Session:
    """Open the session in a file. It is recorded to the file if that is in one of the user's folders; other files are not changed.

    For such other files, the first change makes the session `undecided`. Raises `SessionFileError` if the file cannot be read, or
    is in one of the user's folders and open elsewhere.
    """
    if is_own(path):
        return reopened(path, history_memory)
    session = Session.open(path, history_memory=history_memory)
    session.record_later(lambda: None)
    return session


def reopened(path: Path, history_memory: int | None = None) -> Session:
    """Open the session in a file and record it there. Raises `SessionFileError` if it cannot be read or is open elsewhere.

    If the file cannot be written, the session continues in memory only, and its notice says so.
    """
    try:
        return Session.open(path, record=True, history_memory=history_memory)
    except UnwritableSessionError as error:
        session = Session.open(path, history_memory=history_memory)
        session.notice = ""
        session.stay_in_memory(str(error))
        return session


def copied(path: Path, history_memory: int | None = None) -> Session:
    """Open a copy of the session in a file, recorded next to it under a free name. Raises `SessionFileError` like `reopened`."""
    session, to = Session.open(path, history_memory=history_memory), free_path(path)
    left, session.notice = session.outcome.notice, ""
    record(session, to)
    if session.recording is not None and left is not None:
        session.add_notice(
            f"a copy of {path.stem}, recorded as {to.stem}: {left.text.removeprefix(REOPENED)}", warning=left.warning
        )
    return session


def record(session: Session, path: Path) -> None:
    """Record a session to a file; if it cannot be written, continue in memory.

    Raises `SessionInUseError` if it is open elsewhere.
    """
    try:
        session.record_to(path)
    except SessionInUseError:
        raise
    except SessionFileError as error:
        session.stay_in_memory(str(error))
