"""A session file as SQLite: read without changes, replaced whole, recorded to, and its errors."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from dataclasses import replace as replace_in
from functools import cache, lru_cache, partial
from hashlib import blake2b
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tui_gru.disk import synchronise, synchronise_folder, temporary
from tui_gru.errors import TuiGruError, safe_text

if TYPE_CHECKING:
    from tui_gru.storage.log_damage import LogDamage

# ------------------------------------------------------------------------------
# Encodes sessions as bytes: JSON for structure, raw little-endian numbers for arrays, and a hash of each. No pickle.


MOST_DEPTH = 32  # levels of nesting in a value saved with a session
_CODE = re.compile(r"[<|][if][1248]")  # whole and floating-point numbers


def to_json(value: Any) -> str:
    """Return `value` as JSON in ASCII. Raises TypeError or ValueError if JSON cannot represent it; NaN is not allowed."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def from_json(text: str) -> Any:
    """Parse the result of `to_json`. Raises ValueError for invalid JSON, and for more than MOST_DEPTH levels of nesting."""
    try:
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    level = [value]
    for _ in range(MOST_DEPTH):
        contents = (nested.values() if isinstance(nested, dict) else nested for nested in level if isinstance(nested, (dict, list)))
        level = [item for content in contents for item in content if isinstance(item, (dict, list))]
    if level:
        raise ValueError("is nested too deeply")
    return value


def _finite(number: str) -> float:
    if not math.isfinite(value := float(number)):
        raise ValueError(f"has the number {value}")
    return value


def pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Encode arrays: a line of JSON with [name, dtype, shape] of each, then the numbers of all."""
    little = [np.asarray(array, _little(array.dtype)) for array in arrays.values()]
    head = _head(tuple((name, array.dtype.str, array.shape) for name, array in zip(arrays, little, strict=True)))
    return b"".join([head, *(array.tobytes() for array in little)])


# Cached: a long run has thousands of checkpoints with the same head, and the user waits while they are written.
@cache
def _little(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("<")


@lru_cache
def _head(arrays: tuple[tuple[str, str, tuple[int, ...]], ...]) -> bytes:
    """Return the line of JSON that describes the arrays."""
    return f"{to_json(arrays)}\n".encode()


def unpack(data: bytes) -> dict[str, NDArray[Any]]:
    """Decode the result of `pack`. Returns read-only arrays by name. Raises ValueError for any other data."""
    head = data[: data.index(b"\n") + 1]
    at, arrays = len(head), {}
    for name, code, shape in from_json(head.decode("ascii")):
        if type(name) is not str or type(code) is not str or not _CODE.fullmatch(code):
            raise ValueError("has an array of another kind than numbers")
        if not all(type(size) is int and size >= 0 for size in shape):
            raise ValueError("has an array of invalid size")
        array = np.frombuffer(data, np.dtype(code), math.prod(shape), at).reshape(shape)
        arrays[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
        at += array.nbytes
    if at != len(data):
        raise ValueError("has more data than its arrays")
    return arrays


def seal(key: str, at: int, data: bytes) -> bytes:
    """Return the hash of an entry, its key and its number, so that an entry in the place of another is detected as well."""
    digest = blake2b(f"{key} {at}\n".encode(), digest_size=16)
    digest.update(data)
    return digest.digest()


# ------------------------------------------------------------------------------
# The errors of session files. Each message is one line that says what to do.


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


def damaged(path: Path, part: str) -> DamagedSessionError:
    return DamagedSessionError(f"{path} is damaged at {part}; go back to a copy of the file")


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


# ------------------------------------------------------------------------------
# The files of an SQLite database: the main file, its log (-wal) and the index of the log (-shm); how to read without changes.


Inode = tuple[int, int]  # including the device

LOG, INDEX = "-wal", "-shm"
LOG_HEADER = 32  # bytes; a log of this size or less is empty
LIVE = 128  # the byte of the index that every connection keeps locked

recorded_here: dict[Inode, Path] = {}  # the main files that this process is writing to, by the name that they were opened by


@contextmanager
def readable(path: Path, *, with_index: bool = True) -> Iterator[tuple[Path, str]]:
    """Give the file that SQLite should open instead of `path`, and the mode, so that nothing is written next to `path`.

    `with_index`: the log and its index may be read as they are; otherwise SQLite takes a damaged log for one in use.
    """
    log, index = _companion(path, LOG), _companion(path, INDEX)
    if is_recorded(path):
        yield path, "ro"
    elif not _in_wal_mode(path) or not _has_entries(log):
        yield path, "ro&immutable=1"
    elif with_index and index.exists():
        yield path, "ro&readonly_shm=1"
    else:
        from tempfile import TemporaryDirectory  # imported late: only needed after a crash

        with TemporaryDirectory(prefix="tui-gru-") as folder:
            copy = Path(folder, path.name)
            shutil.copyfile(path, copy)
            shutil.copyfile(log, _companion(copy, LOG))
            yield copy, "ro"


def is_recorded(path: Path) -> bool:
    """Return True if this process or another has the database open for writing."""
    if inode_of(path) in recorded_here:  # do not open the index: closing it would release the locks of this process
        return True
    try:
        with _companion(path, INDEX).open("r+b") as index:
            return not _can_lock(index.fileno())
    except OSError:
        return False


def other_name(path: Path) -> Path | None:
    """Return the name by which this process records to a file, if it is not `path` but another hard link to the file."""
    name = recorded_here.get(inode_of(path))
    is_other = name is not None and os.path.realpath(name) != os.path.realpath(path) and name.exists()
    return name if is_other else None


def left_at(path: Path) -> int:
    """Return the time, in microseconds since 1970, at which the log of a session was last written that was not closed, since its
    process was killed; 0 if there is none. The log itself can be large, and is not read."""
    log = _companion(path, LOG)
    try:
        return log.stat().st_mtime_ns // 1000 if _has_entries(log) and not is_recorded(path) else 0
    except OSError:  # it was closed at this moment
        return 0


def log_of(path: Path) -> Path:
    """Return the path of the log of a database."""
    return _companion(path, LOG)


def sizes(path: Path) -> tuple[int, int]:
    """Return the sizes of a database and of its log, in bytes."""
    log = _companion(path, LOG)
    return path.stat().st_size, log.stat().st_size if log.exists() else 0


def has_lost_log(path: Path) -> bool:
    """Return True if the database was written with a log that is missing: it was copied without the log, or the log was deleted."""
    if is_recorded(path) or not _in_wal_mode(path) or _has_entries(_companion(path, LOG)):
        return False
    from tui_gru.storage.log_damage import frames_indexed

    indexed = frames_indexed(_companion(path, INDEX))
    return indexed is None or indexed[0] > 0  # otherwise the process was killed before the first change


def log_damage(path: Path) -> LogDamage | None:
    """Return what is known of the changes that SQLite does not read from the log of a crashed session, because it is damaged."""
    log = _companion(path, LOG)
    if not _has_entries(log) or is_recorded(path) or not _in_wal_mode(path):
        return None
    from tui_gru.storage.log_damage import damage_of

    return damage_of(path, log, _companion(path, INDEX))


def copy_aside(path: Path) -> Path:
    """Copy the files of a database to the first free name such as `math.tui-gru.damaged`, and return it."""
    n, to = 1, path.with_name(f"{path.name}.damaged")
    while any(os.path.lexists(_companion(to, end)) for end in ("", LOG, INDEX)):
        n += 1
        to = path.with_name(f"{path.name}.damaged-{n}")
    try:
        for end in ("", LOG, INDEX):
            if _companion(path, end).exists():
                shutil.copyfile(_companion(path, end), _companion(to, end))
                synchronise(_companion(to, end))
    except BaseException:
        for end in ("", LOG, INDEX):
            with suppress(OSError):
                _companion(to, end).unlink(missing_ok=True)
        raise
    return to


def has_foreign_log(path: Path) -> bool:
    """Return True if there is a log next to a closed database: it belongs to another file, and SQLite would merge it into this
    one."""
    return _has_entries(_companion(path, LOG)) and not is_recorded(path) and not _in_wal_mode(path)


def put_foreign_log_aside(path: Path) -> None:
    if has_foreign_log(path):
        log = _companion(path, LOG)
        log.rename(log.with_name(f"{log.name}-{os.urandom(4).hex()}"))


def _can_lock(index: int) -> bool:
    """Return True if no process has locked the byte of an index that every connection keeps locked."""
    try:
        import fcntl
    except ImportError:  # on Windows, where the index stays after a crash as well
        import msvcrt

        os.lseek(index, LIVE, os.SEEK_SET)
        try:
            msvcrt.locking(index, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        except OSError:
            return False
        os.lseek(index, LIVE, os.SEEK_SET)
        msvcrt.locking(index, msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        return True
    try:
        fcntl.lockf(index, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, LIVE)
    except BlockingIOError:
        return False
    return True


def inode_of(path: Path) -> Inode:
    status = path.stat()
    return status.st_dev, status.st_ino


def _companion(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def _in_wal_mode(path: Path) -> bool:
    """Return True if the database, which is not being written to, is in WAL mode."""
    with path.open("rb") as file:
        return file.read(20)[18:] == b"\2\2"


def _has_entries(log: Path) -> bool:
    return log.exists() and log.stat().st_size > LOG_HEADER


# ------------------------------------------------------------------------------
# The session file: how it is identified, read, replaced, recorded to and deleted.
#
# It is an SQLite database with two tables: facts, JSON by key, and arrays, bytes by key and number (`pack`), each entry
# with its hash. A closed session is in SQLite's rollback mode, so that it is a single file. While a session is recorded, its file
# is in WAL mode, with a log next to it (-wal) and an index of the log (-shm). Other connections can read it then. Replacing a
# file begins with leaving WAL mode, which SQLite refuses while another connection has the file open. This serves as the lock
# between two programs on one session; it ends with the process that held it. Reading a file never changes it or the files next to
# it, even after a crash.


APPLICATION_ID = int.from_bytes(b"tGRU", "big")
VERSION = 3  # of the format; versions before 3 are older than 0.1.0 and are not read
SCHEMA = (
    "CREATE TABLE facts (key TEXT PRIMARY KEY, json TEXT NOT NULL, hash BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE arrays (key TEXT, at INTEGER, data BLOB NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (key, at)) WITHOUT ROWID",
)
BUSY_SECONDS = 1.0
MOST_FACT, MOST_ARRAY = 2**27, 2**29  # bytes of an entry; the longest are the text that a model is trained on, and its weights
MOST_CHECKED = 2**28  # bytes of a file whose structure is checked
FREE_SHARE = 0.1  # of the pages of a file that may be free after a recording
DELETIONS = 3  # attempts to delete a log
PAUSES = (0.0, 0.05, 0.1, 0.2, 0.4)  # seconds between attempts to replace a file that another program has open


@dataclass(frozen=True)
class LogState:
    """What is missing of the log of a file: all of it, or what its damage has made unreadable; `kept_as` is the copy of the files
    that was made before the damaged log was merged. `foreign`: there is a log that belongs to another file."""

    missing: bool = False
    damage: LogDamage | None = None
    kept_as: Path | None = None
    foreign: bool = False


class SessionFile:
    """An open session file. Entries are checked against their hashes when they are read.

    `log` says whether later changes are missing, since they were recorded to a log (-wal) that is not there or not whole.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, log: LogState | None = None) -> None:
        self.path, self._connection, self.log = path, connection, log or LogState()
        self._process, self._sizes = os.getpid(), (0, 0)

    def end_recording(self, inode: Inode) -> None:
        """Close the file, and merge the log into it unless another connection reads it. `inode` is the result of `replace`."""
        if not self.is_own():
            return  # it is open in the process that this one is a copy of
        if self.is_changed_outside():
            if hasattr(self._connection, "setconfig"):  # from Python 3.12 on: nothing is merged into what is there now
                self._connection.setconfig(vars(sqlite3)["SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE"], True)
            self._connection.close()
            recorded_here.pop(inode, None)
            return
        with suppress(sqlite3.Error, OSError, MemoryError):
            self._connection.execute("PRAGMA synchronous = FULL")  # what follows changes the file itself
            leave_wal_mode(self._connection)
            if self._free_share() > FREE_SHARE:
                self._connection.execute("VACUUM")
        self._connection.close()
        recorded_here.pop(inode, None)

    def is_own(self) -> bool:
        """Return False in a copy (fork) of the process that has opened the file: SQLite files must not be used in both."""
        return os.getpid() == self._process

    def is_changed_outside(self) -> bool:
        """Return True if another program has changed the length of the file, or cut its log, since the last `note_sizes`.

        Only this connection writes to them. The file cannot be read to compare it: closing it would release SQLite's locks.
        """
        try:
            size, log = sizes(self.path)
        except OSError:
            return False  # the file is gone, or in another place, which has errors of its own
        return self._sizes != (0, 0) and (size != self._sizes[0] or log < self._sizes[1])

    def note_sizes(self) -> None:
        with suppress(OSError):
            self._sizes = sizes(self.path)

    def release(self) -> None:
        """Close the connection, and with it release the lock."""
        self._connection.close()

    def compact_into(self, path: Path) -> bool:
        """Write the same contents without free pages to another file. Returns False, and writes nothing, if there are none."""
        if self._free_share() == 0:
            return False
        self._connection.execute("VACUUM INTO ?", (str(path),))
        return True

    def _free_share(self) -> float:
        free, pages = (self._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count"))
        return float(free / pages)

    def fact(self, key: str) -> str:
        """Return the JSON under `key`. Raises `DamagedSessionError` if it is missing or damaged."""
        row = self._connection.execute("SELECT json, hash FROM facts WHERE key = ?", (key,)).fetchone()
        if row is None or not isinstance(row[0], str) or seal(key, 0, row[0].encode()) != row[1]:
            raise damaged(self.path, key)
        return str(row[0])

    def arrays(self, key: str) -> Iterator[tuple[int, bytes]]:
        """Yield all arrays under `key`, as (number, bytes), in order of the numbers.

        Raises `DamagedSessionError` if one is damaged.
        """
        for at, data, was in self._connection.execute("SELECT at, data, hash FROM arrays WHERE key = ? ORDER BY at", (key,)):
            if not isinstance(data, bytes) or seal(key, at, data) != was:
                raise damaged(self.path, key)
            yield at, data

    @property
    def changes(self) -> int:
        """The number of entries written or removed so far."""
        return self._connection.total_changes

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Execute a transaction: all changes within it are written, or none."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # SQLite may have rolled back by itself
                self._connection.execute("ROLLBACK")
            raise

    def put_fact(self, key: str, json: str) -> None:
        _check_size(key, len(json), MOST_FACT)
        self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", (key, json, seal(key, 0, json.encode())))

    def put_arrays(self, key: str, entries: Iterable[tuple[int, bytes]]) -> None:
        def rows() -> Iterator[tuple[str, int, bytes, bytes]]:
            for at, data in entries:
                _check_size(key, len(data), MOST_ARRAY)
                yield key, at, data, seal(key, at, data)

        self._connection.executemany("INSERT OR REPLACE INTO arrays VALUES (?, ?, ?, ?)", rows())

    def drop_arrays(self, key: str) -> None:
        self._connection.execute("DELETE FROM arrays WHERE key = ?", (key,))

    def check_sizes(self) -> None:
        """Raise `DamagedSessionError` for an entry that is larger than any that is written.

        SQLite reads such an entry whole for every key that it looks up beside it; the lengths alone it knows without.
        """
        usual = self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_FACT)
        try:
            self._connection.execute("SELECT MAX(LENGTH(json)) FROM facts").fetchone()
        except sqlite3.DataError:
            raise damaged(self.path, f"an entry of more than {MOST_FACT} bytes") from None
        finally:
            self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, usual)
        largest = self._connection.execute("SELECT MAX(LENGTH(data)) FROM arrays WHERE typeof(data) = 'blob'").fetchone()[0]
        if largest is not None and largest > MOST_ARRAY:
            raise damaged(self.path, f"an array of {largest} bytes")

    def check_pages(self) -> None:
        """Raise `DamagedSessionError` if SQLite finds the structure of the file damaged.

        A very large file is not read twice: its entries have hashes of their own, and those that are missing are noticed.
        """
        pages, size = (self._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        if pages * size > MOST_CHECKED:
            return
        if self._connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise damaged(self.path, "its pages")

    def thin_arrays(self, prefix: str, spacing: int, keep: Mapping[str, Collection[int]]) -> dict[str, int]:
        """Remove, under all keys with a prefix, the arrays whose number is no multiple of `spacing` and not in `keep` of the key.

        Returns the number of arrays left under each key.
        """
        rows = self._connection.execute("SELECT key, at FROM arrays WHERE key GLOB ? || '*' AND at % ?", (prefix, spacing))
        removed = [(key, at) for key, at in rows.fetchall() if at not in keep.get(key, ())]
        self._connection.executemany("DELETE FROM arrays WHERE key = ? AND at = ?", removed)
        return dict(self._connection.execute("SELECT key, COUNT(*) FROM arrays WHERE key GLOB ? || '*' GROUP BY key", (prefix,)))

    def clear(self) -> None:
        self._connection.execute("DELETE FROM facts")
        self._connection.execute("DELETE FROM arrays")


# Writes the first file. The second is the existing file that it replaces, or None.
Fill = Callable[[SessionFile, SessionFile | None], None]


@contextmanager
def open_for_reading(path: Path) -> Iterator[SessionFile]:
    """Open a session file for reading, as it is at this moment. Writes nothing to it or next to it. Raises `SessionFileError`."""
    with glancing(path) as file:
        file.check_pages()
        yield file


@contextmanager
def glancing(path: Path) -> Iterator[SessionFile]:
    """Like `reading`, without checking the structure of the whole file first: for a few facts, which have their own hashes."""
    identify(path)
    with reading_errors(path):
        log = _log_state(path)
        with_index = log.damage is None
        with readable(path, with_index=with_index) as (at, mode), closing(connect(at, mode)) as connection:
            connection.execute("BEGIN")
            yield _checked(path, connection, log)


def remove(path: Path) -> None:
    """Delete a session of this version that is not open. Raises `SessionFileError`; other files are not deleted."""
    with writing_errors(path), _exclusive(path, keep_damaged=False) as session:
        if session is not None:
            _let_go(session, path.unlink)


def replace(path: Path, fill: Fill) -> Inode:
    """Replace the file at `path` by a new session file written by `fill`, completely or not at all. Returns its inode.

    `fill` is called with the new file and the existing one, if any. An existing file is replaced only if it is a session of this
    version; no other connection can open it meanwhile. Raises `SessionFileError`.
    """
    new = temporary(path)
    try:
        with writing_errors(path), _exclusive(path) as old:
            _write_new(new, old, fill)
            synchronise(new)
            if path.exists():
                shutil.copymode(path, new)
            inode = inode_of(new)
            _let_go(old, partial(os.replace, new, path))
            synchronise_folder(path.parent)
            return inode
    finally:
        with suppress(OSError):  # for example, the path is invalid
            new.unlink(missing_ok=True)


def recording(path: Path, inode: Inode) -> SessionFile:
    """Open the file that `replace` has written at `path` for recording.

    Raises `SessionInUseError` if it has been replaced since.
    """
    with writing_errors(path):
        put_foreign_log_aside(path)
        connection = connect(path, "rw")
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA user_version").fetchone()  # WAL mode, and with it the lock, takes effect with the first read
            if inode_of(path) != inode:
                raise in_use(path)
        except BaseException:
            connection.close()
            raise
        recorded_here[inode] = path
        file = SessionFile(path, connection)
        file.note_sizes()
        return file


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Connect to a database in one of SQLite's modes: `ro`, `rw` or `rwc`. Raises `sqlite3.Error`."""
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    # A session is used by one thread at a time, but not always by the same one.
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.text_factory = lambda text: text.decode("ascii", "replace")  # other characters are damage, which the hash detects
    return connection


def leave_wal_mode(connection: sqlite3.Connection) -> None:
    """Merge the log into the database, and delete it. Raises `OSError` if it cannot be deleted.

    SQLite says nothing then, and would merge the log into the next database of this name.
    """
    for _ in range(DELETIONS):
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA user_version").fetchone()  # a read enters WAL mode again if the log is there
        if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            return
    raise OSError(None, "its log (-wal) cannot be deleted")


def identify(path: Path) -> None:
    """Raise `SessionFileError` unless `path` is a session of this version. Changes no file, whatever `path` is."""
    _check_there(path)
    with reading_errors(path):
        try:
            application, version = _identification(path, "ro&immutable=1")
        except sqlite3.DatabaseError as error:
            if result_code(error) != sqlite3.SQLITE_CORRUPT:
                raise
            with readable(path) as (at, mode):
                application, version = _identification(at, mode)  # its log may be only partly merged into the file
    if application != APPLICATION_ID:
        raise NotASessionError(f"{path} is a database of another program, not a tui-gru session; name another file")
    if version > VERSION:
        raise NewerSessionError(
            f"{path} is a session of format version {version}; this tui-gru reads version {VERSION}: use a newer one"
        )
    if version < VERSION:
        raise OlderSessionError(
            f"{path} is a session of format version {version}, from before tui-gru 0.1.0, which is not read; "
            "open it with the version that wrote it"
        )


def _check_there(path: Path) -> None:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise missing(path) from None
    except OSError as error:
        raise SessionFileError(f"{path} cannot be opened: {reason(error)}; check the name") from None
    if not S_ISREG(status.st_mode):
        raise NotASessionError(f"{path} is {'a folder' if path.is_dir() else 'no file'}, not a session; name a file")
    if status.st_size == 0:
        raise NotASessionError(f"{path} is empty, so it is not a session; name another file")


def _let_go(session: SessionFile | None, work: Callable[[], None]) -> None:
    """Replace or delete a file by `work`, under the lock that `session` holds on it.

    Windows refuses to while any program has the file open, this one included: there the lock has to be released first.
    """
    try:
        return work()
    except PermissionError:
        if session is None:
            raise
        session.release()
    for pause in PAUSES:
        time.sleep(pause)
        with suppress(PermissionError):
            return work()
    raise UnwritableSessionError(
        f"{session.path} cannot be replaced: another program has it open; close it there, or save it elsewhere"
    )


def _log_state(path: Path) -> LogState:
    if (other := other_name(path)) is not None:
        raise SessionInUseError(f"{path} is another name (a hard link) of {other}, which is being recorded; open that one")
    is_missing = has_lost_log(path)
    if is_missing and path.stat().st_nlink > 1:
        raise UnreadableSessionError(
            f"{path} has another name (a hard link), and its newest changes are in the log beside that one; open it by that name"
        )
    return LogState(is_missing, log_damage(path), foreign=has_foreign_log(path))


def _checked(path: Path, connection: sqlite3.Connection, log: LogState) -> SessionFile:
    if tuple(row[0] for row in connection.execute("SELECT sql FROM sqlite_master ORDER BY rowid")) != SCHEMA:
        raise damaged(path, "its layout")
    file = SessionFile(path, connection, log)
    file.check_sizes()
    return file


def _check_size(key: str, size: int, most: int) -> None:
    if size > most:
        raise UnwritableSessionError(f"{key} has {size} bytes, more than {most} in a session file; use a smaller model or text")


def _identification(path: Path, mode: str) -> tuple[int, int]:
    with closing(connect(path, mode)) as connection:
        application, version = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        return application, version


@contextmanager
def _exclusive(path: Path, *, keep_damaged: bool = True) -> Iterator[SessionFile | None]:
    """Open the session at `path` for exclusive access; None if the file does not exist. If its log is damaged, the files are
    copied first, since SQLite deletes the log with all that it does not read."""
    if not path.exists():
        yield None
        return
    identify(path)
    log = _log_state(path)
    if log.damage is not None and keep_damaged:
        log = replace_in(log, kept_as=copy_aside(path))
    put_foreign_log_aside(path)
    with closing(connect(path, "rw")) as connection:
        leave_wal_mode(connection)  # merges the log into the file; refused if another connection has it open
        connection.execute("BEGIN EXCLUSIVE")
        with reading_errors(path):
            old = _checked(path, connection, log)
            old.check_pages()
        yield old


def _write_new(path: Path, old: SessionFile | None, fill: Fill) -> None:
    with closing(connect(path, "rwc&nolock=1")) as connection:
        # No other connection knows of this file, so it needs no locks. An incomplete file is deleted; it is enough that all of it
        # is on the disk before it gets its final name.
        connection.execute("PRAGMA journal_mode = MEMORY")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        for statement in SCHEMA:
            connection.execute(statement)
        file = SessionFile(path, connection)
        fill(file, old)
        compact = path.with_name(f"{path.name}-compact")
        try:
            is_smaller = file.compact_into(compact)
        except BaseException:
            compact.unlink(missing_ok=True)
            raise
    if is_smaller:
        os.replace(compact, path)
