"""The errors of session files. Each message is one line that says what to do."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.safe_text import safe_text


class SessionFileError(TuiGruError):
    """A session could not be read or written. The file is unchanged."""


class SessionMissingError(SessionFileError):
    """The file does not exist."""


class NotASessionError(SessionFileError):
    """The file is not a session."""


class DamagedSessionError(SessionFileError):
    """The file is a session, but not all of its contents are as they were written."""


class NewerSessionError(SessionFileError):
    """The file was written by a later version of tui-gru."""


class OlderSessionError(SessionFileError):
    """The file was written by an earlier version of tui-gru, in a format that is no longer read."""


class SessionInUseError(SessionFileError):
    """The file is open in another program, or in another session of this program."""


class UnwritableSessionError(SessionFileError):
    """The file cannot be written at this path."""


class UnreadableSessionError(SessionFileError):
    """The file cannot be read because of the disk, its permissions or the memory. It may be intact."""


# SQLite errors caused by the machine, not by the file.
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
_FORBIDDEN = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)
_FAILED = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_NOLFS)
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def missing(path: Path) -> SessionMissingError:
    return SessionMissingError(f"there is no file {path}; check the name")


def damaged(path: Path, what: str) -> DamagedSessionError:
    return DamagedSessionError(f"{path} is damaged at {what}; go back to a copy of the file")


def in_use(path: Path) -> SessionInUseError:
    return SessionInUseError(f"{path} is open in another tui-gru; close it there, or work on a copy: open it and save it elsewhere")


def locked(path: Path) -> SessionFileError:
    """Return the error for a file that SQLite reports as locked, which it also does if the file system does not support locks."""
    return in_use(path) if has_locks(path.parent) else no_locks(path)


def no_locks(path: Path) -> UnwritableSessionError:
    return UnwritableSessionError(
        f"{path.parent} has no file locks, so another tui-gru could have {path.name} open unnoticed; save it on another disk"
    )


def has_locks(folder: Path) -> bool:
    """Return False if the file system of a folder does not support locks, as on some network drives; True if unknown."""
    try:
        import fcntl
        from tempfile import TemporaryFile  # imported late: rarely needed

        with TemporaryFile(dir=folder) as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # on Windows
        return True
    except OSError as error:
        return error.errno not in _NO_LOCKS
    return True


@contextmanager
def reading_errors(path: Path) -> Iterator[None]:
    """Convert errors while reading a file to a `SessionFileError`."""
    try:
        yield
    except UnicodeDecodeError:  # SQLite quotes damaged bytes in its message, which Python cannot decode
        raise damaged(path, "its layout") from None
    except (sqlite3.Error, OSError, MemoryError) as error:
        if _is_locked(path, error):
            raise locked(path) from None
        code = result_code(error)
        if code in _FORBIDDEN or isinstance(error, PermissionError):
            raise UnreadableSessionError(
                f"{path} cannot be opened ({reason(error)}); check its permissions, or copy it elsewhere"
            ) from None
        if not isinstance(error, sqlite3.Error) or code in _FAILED:
            raise UnreadableSessionError(f"{path} cannot be read: {reason(error)}; check the disk and the memory") from None
        raise _of_content(path, error) from None


@contextmanager
def writing_errors(path: Path) -> Iterator[None]:
    """Convert errors while writing a file to a `SessionFileError`."""
    try:
        yield
    except (sqlite3.Error, OSError, MemoryError) as error:
        if _is_locked(path, error):
            raise locked(path) from None
        if result_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise _of_content(path, error) from None
        raise UnwritableSessionError(f"{path} cannot be written: {reason(error)}; save it elsewhere") from None


def _is_locked(path: Path, error: Exception) -> bool:
    """Return True if a file is locked, or is on a file system without locks, which SQLite can report as an error of the disk."""
    code = result_code(error)
    return code in _LOCKED or (code == sqlite3.SQLITE_IOERR and not has_locks(path.parent))


def _of_content(path: Path, error: Exception) -> SessionFileError:
    if result_code(error) == sqlite3.SQLITE_NOTADB:
        return NotASessionError(f"{path} is not a tui-gru session; name another file")
    return DamagedSessionError(f"{path} is damaged ({reason(error)}); go back to a copy of the file")


def reason(error: Exception) -> str:
    """Return the cause of an error in a few words on one line; SQLite may quote bytes of a damaged file."""
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if result_code(error) == sqlite3.SQLITE_CANTOPEN:
        return "the folder is not there or cannot be written to"
    return safe_text(str(error))


def result_code(error: Exception) -> int:
    """Return SQLite's primary result code; 0 for errors of other kinds, and for errors raised by Python's module itself."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
