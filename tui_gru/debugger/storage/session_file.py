"""The session file: how it is identified, read, replaced, recorded to and deleted.

It is an SQLite database with two tables: facts, JSON by key, and arrays, bytes by key and number (`encoding.pack`), each entry
with its hash. A closed session is in SQLite's rollback mode, so that it is a single file. While a session is recorded, its file
is in WAL mode, with a log next to it (-wal) and an index of the log (-shm). Other connections can read it then. Replacing a file
begins with leaving WAL mode, which SQLite refuses while another connection has the file open. This serves as the lock between two
programs on one session; it ends with the process that held it. Reading a file never changes it or the files next to it, even
after a crash.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from dataclasses import replace as replace_in
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

from tui_gru.debugger.storage import sqlite_files
from tui_gru.debugger.storage.encoding import seal
from tui_gru.debugger.storage.session_errors import (
    NewerSessionError,
    NotASessionError,
    OlderSessionError,
    SessionFileError,
    SessionInUseError,
    UnreadableSessionError,
    UnwritableSessionError,
    damaged,
    in_use,
    missing,
    reading_errors,
    reason,
    result_code,
    writing_errors,
)
from tui_gru.debugger.storage.sqlite_files import Inode, inode_of

if TYPE_CHECKING:
    from tui_gru.debugger.storage.log_damage import LogDamage

APPLICATION_ID = int.from_bytes(b"tGRU", "big")
VERSION = 2  # version 1 stored the whole record of a batch for every change
SCHEMA = (
    "CREATE TABLE facts (key TEXT PRIMARY KEY, json TEXT NOT NULL, hash BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE arrays (key TEXT, at INTEGER, data BLOB NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (key, at)) WITHOUT ROWID",
)
BUSY_SECONDS = 1.0
MOST_FACT, MOST_ARRAY = 2**27, 2**29  # bytes of an entry; the longest are the text that a model is trained on, and its weights
MOST_CHECKED = 2**28  # bytes of a file whose structure is checked
FREE_SHARE = 0.1  # of the pages of a file that may be free after a recording
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
            sqlite_files.recorded_here.pop(inode, None)
            return
        with suppress(sqlite3.Error, MemoryError):
            leave_wal_mode(self._connection)
            if self._free_share() > FREE_SHARE:
                self._connection.execute("VACUUM")
        self._connection.close()
        sqlite_files.recorded_here.pop(inode, None)

    def is_own(self) -> bool:
        """Return False in a copy (fork) of the process that has opened the file: SQLite files must not be used in both."""
        return os.getpid() == self._process

    def is_changed_outside(self) -> bool:
        """Return True if another program has changed the length of the file, or cut its log, since the last `note_sizes`.

        Only this connection writes to them. The file cannot be read to compare it: closing it would release SQLite's locks.
        """
        try:
            size, log = sqlite_files.sizes(self.path)
        except OSError:
            return False  # the file is gone, or in another place, which has errors of its own
        return self._sizes != (0, 0) and (size != self._sizes[0] or log < self._sizes[1])

    def note_sizes(self) -> None:
        with suppress(OSError):
            self._sizes = sqlite_files.sizes(self.path)

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

    def thin_arrays(self, prefix: str, spacing: int) -> dict[str, int]:
        """Remove, under all keys with a prefix, the arrays whose number is not a multiple of `spacing`.

        Returns the number of arrays left under each key.
        """
        self._connection.execute("DELETE FROM arrays WHERE key GLOB ? || '*' AND at % ?", (prefix, spacing))
        return dict(self._connection.execute("SELECT key, COUNT(*) FROM arrays WHERE key GLOB ? || '*' GROUP BY key", (prefix,)))

    def clear(self) -> None:
        self._connection.execute("DELETE FROM facts")
        self._connection.execute("DELETE FROM arrays")


# Writes the first file. The second is the existing file that it replaces, or None.
Fill = Callable[[SessionFile, SessionFile | None], None]


@contextmanager
def reading(path: Path) -> Iterator[SessionFile]:
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
        with sqlite_files.readable(path, with_index=with_index) as (at, mode), closing(connect(at, mode)) as connection:
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
    new = path.with_name(f".{os.urandom(8).hex()}.tui-gru-saving")
    try:
        with writing_errors(path), _exclusive(path) as old:
            _write_new(new, old, fill)
            sqlite_files.synchronise(new)
            if path.exists():
                shutil.copymode(path, new)
            inode = inode_of(new)
            _let_go(old, partial(os.replace, new, path))
            sqlite_files.synchronise_folder(path.parent)
            return inode
    finally:
        with suppress(OSError):  # for example, the path is invalid
            new.unlink(missing_ok=True)


def recording(path: Path, inode: Inode) -> SessionFile:
    """Open the file that `replace` has written at `path` for recording.

    Raises `SessionInUseError` if it has been replaced since.
    """
    with writing_errors(path):
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
        sqlite_files.recorded_here[inode] = path
        file = SessionFile(path, connection)
        file.note_sizes()
        return file


def is_at(path: Path, inode: Inode) -> bool:
    """Return True if the file at `path` is still the one with this inode."""
    return inode_of(path) == inode


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Connect to a database in one of SQLite's modes: `ro`, `rw` or `rwc`. Raises `sqlite3.Error`."""
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    # A session is used by one thread at a time, but not always by the same one.
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.text_factory = lambda text: text.decode("ascii", "replace")  # other characters are damage, which the hash detects
    return connection


def leave_wal_mode(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = DELETE")


def identify(path: Path) -> None:
    """Raise `SessionFileError` unless `path` is a session of this version. Changes no file, whatever `path` is."""
    _check_there(path)
    with reading_errors(path):
        try:
            application, version = _identification(path, "ro&immutable=1")
        except sqlite3.DatabaseError as error:
            if result_code(error) != sqlite3.SQLITE_CORRUPT:
                raise
            with sqlite_files.readable(path) as (at, mode):
                application, version = _identification(at, mode)  # its log may be only partly merged into the file
    if application != APPLICATION_ID:
        raise NotASessionError(f"{path} is a database of another program, not a tui-gru session; name another file")
    if version > VERSION:
        raise NewerSessionError(
            f"{path} is a session of format version {version}; this tui-gru knows those up to {VERSION}: use a newer one"
        )
    if version < VERSION:
        raise OlderSessionError(
            f"{path} is a session of format version {version}, which this tui-gru does not read: open it with the one that wrote it"
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
    if (other := sqlite_files.other_name(path)) is not None:
        raise SessionInUseError(f"{path} is another name (a hard link) of {other}, which is being recorded; open that one")
    is_missing = sqlite_files.has_lost_log(path)
    if is_missing and sqlite_files.has_hard_links(path):
        raise UnreadableSessionError(
            f"{path} has another name (a hard link), and its newest changes are in the log beside that one; open it by that name"
        )
    return LogState(is_missing, sqlite_files.log_damage(path), foreign=sqlite_files.has_foreign_log(path))


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
        log = replace_in(log, kept_as=sqlite_files.copy_aside(path))
    sqlite_files.put_foreign_log_aside(path)
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
