"""What can be wrong with the file of a session, each with a name, in one line that says what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tui_gru.engine.errors import TuiGruError


class SessionFileError(TuiGruError):
    """A session could not be read or written. The file is as it was."""


class SessionMissingError(SessionFileError):
    """There is no such file."""


class NotASessionError(SessionFileError):
    """The file is something else."""


class DamagedSessionError(SessionFileError):
    """The file was a session, but not all of it is there as it was written."""


class NewerSessionError(SessionFileError):
    """The file was written by a later version."""


class OlderSessionError(SessionFileError):
    """The file was written by an earlier version, in a way that is not read any more."""


class SessionInUseError(SessionFileError):
    """Another program, or another session in this one, has the file open."""


class UnwritableSessionError(SessionFileError):
    """The file cannot be written where it was asked to be."""


def missing(path: Path) -> SessionMissingError:
    return SessionMissingError(f"there is no file {path}; check the name")


def damaged(path: Path, what: str) -> DamagedSessionError:
    return DamagedSessionError(f"{path} is damaged at {what}; go back to a copy of the file")


def in_use(path: Path) -> SessionInUseError:
    return SessionInUseError(f"{path} is open in another tui-gru; close it there, or work on a copy: open it and save it elsewhere")


@contextmanager
def reading_errors(path: Path) -> Iterator[None]:
    """What SQLite finds wrong with a file that is read, as a `SessionFileError`."""
    try:
        yield
    except UnicodeDecodeError:  # SQLite quotes the damaged bytes in its message, which is then none for Python
        raise damaged(path, "its layout") from None
    except sqlite3.Error as error:
        code = result_code(error)
        if code == sqlite3.SQLITE_NOTADB:
            raise NotASessionError(f"{path} is not a tui-gru session; name another file") from None
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise in_use(path) from None
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
            raise SessionFileError(
                f"{path} cannot be opened ({reason(error)}); check its permissions, or copy it elsewhere"
            ) from None
        raise DamagedSessionError(f"{path} is damaged ({reason(error)}); go back to a copy of the file") from None


@contextmanager
def writing_errors(path: Path) -> Iterator[None]:
    """What goes wrong with writing a file, as a `SessionFileError`."""
    try:
        yield
    except sqlite3.Error as error:
        if result_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise in_use(path) from None
        raise UnwritableSessionError(f"{path} cannot be written: {reason(error)}; save it elsewhere") from None
    except OSError as error:
        raise UnwritableSessionError(f"{path} cannot be written: {reason(error)}; save it elsewhere") from None


def reason(error: Exception) -> str:
    """What went wrong, in a few words on one line; SQLite may quote bytes of a damaged file."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, sqlite3.Error) and result_code(error) == sqlite3.SQLITE_CANTOPEN:
        return "the folder is not there or cannot be written to"
    return "".join(char if char.isprintable() else "?" for char in str(error))


def result_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 where Python's module found the fault itself."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
