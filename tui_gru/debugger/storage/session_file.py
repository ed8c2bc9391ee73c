"""The file of a session: what it is recognised by, how it is read, replaced and recorded to, and what can be wrong with it.

It is an SQLite database with two tables: facts, JSON by key, and arrays, bytes by key and number (`encoding.pack`), each entry
with its hash. A file at rest is in SQLite's rollback mode, so that it is one file. While it is recorded to, it is in WAL mode,
with a log beside it (-wal) and an index of that (-shm): readers are let in, and leaving WAL mode, which replacing the file
begins with, is refused as long as another connection has it open. This is the lock between two programs on one session; it
goes with the process that held it. Reading a file leaves no trace, whatever a crash has left beside it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from stat import S_ISREG

from tui_gru.debugger.storage import sqlite_files
from tui_gru.debugger.storage.encoding import seal
from tui_gru.debugger.storage.session_errors import (
    NewerSessionError,
    NotASessionError,
    OlderSessionError,
    SessionFileError,
    damaged,
    in_use,
    missing,
    reading_errors,
    reason,
    result_code,
    writing_errors,
)
from tui_gru.debugger.storage.sqlite_files import Inode, inode_of

APPLICATION_ID = int.from_bytes(b"tGRU", "big")
VERSION = 2  # 1 held the whole record of a batch for every change
SCHEMA = (
    "CREATE TABLE facts (key TEXT PRIMARY KEY, json TEXT NOT NULL, hash BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE arrays (key TEXT, at INTEGER, data BLOB NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (key, at)) WITHOUT ROWID",
)
BUSY_SECONDS = 1.0


class SessionFile:
    """An open session file. Entries are checked against their hashes as they are read.

    `log_missing` says that newer work was recorded to a log that is not beside it.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, *, log_missing: bool = False) -> None:
        self.path, self._connection, self.log_missing = path, connection, log_missing

    def end_recording(self, inode: Inode) -> None:
        """Close it and leave one file behind, where nobody else is reading it. `inode` is as from `replace`."""
        with suppress(sqlite3.Error, MemoryError):
            _leave_wal_mode(self._connection)
        self._connection.close()
        sqlite_files.recorded_here.discard(inode)

    def fact(self, key: str) -> str:
        """The JSON under `key`. Raises `DamagedSessionError` where there is none."""
        row = self._connection.execute("SELECT json, hash FROM facts WHERE key = ?", (key,)).fetchone()
        if row is None or not isinstance(row[0], str) or seal(key, 0, row[0].encode()) != row[1]:
            raise damaged(self.path, key)
        return str(row[0])

    def arrays(self, key: str) -> Iterator[tuple[int, bytes]]:
        """Everything under `key`, by number."""
        for at, data, was in self._connection.execute("SELECT at, data, hash FROM arrays WHERE key = ? ORDER BY at", (key,)):
            if not isinstance(data, bytes) or seal(key, at, data) != was:
                raise damaged(self.path, key)
            yield at, data

    @property
    def changes(self) -> int:
        """How many entries have been written or removed so far."""
        return self._connection.total_changes

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written in it is written, or none of it."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # where SQLite has rolled back by itself
                self._connection.execute("ROLLBACK")
            raise

    def put_fact(self, key: str, json: str) -> None:
        self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", (key, json, seal(key, 0, json.encode())))

    def put_arrays(self, key: str, entries: Iterable[tuple[int, bytes]]) -> None:
        rows = ((key, at, data, seal(key, at, data)) for at, data in entries)
        self._connection.executemany("INSERT OR REPLACE INTO arrays VALUES (?, ?, ?, ?)", rows)

    def drop_arrays(self, key: str, below: int | None = None) -> None:
        """Remove what is under `key`; what is numbered below `below` only, where that is given."""
        self._connection.execute("DELETE FROM arrays WHERE key = ? AND (? IS NULL OR at < ?)", (key, below, below))

    def check_pages(self) -> None:
        """Raises `DamagedSessionError` where the pages of the file do not hang together."""
        if self._connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise damaged(self.path, "its pages")

    def thin_arrays(self, prefix: str, spacing: int) -> dict[str, int]:
        """Remove, under all keys with a prefix, what is numbered by no multiple of `spacing`. How many are left under each key."""
        self._connection.execute("DELETE FROM arrays WHERE key GLOB ? || '*' AND at % ?", (prefix, spacing))
        return dict(self._connection.execute("SELECT key, COUNT(*) FROM arrays WHERE key GLOB ? || '*' GROUP BY key", (prefix,)))

    def clear(self) -> None:
        self._connection.execute("DELETE FROM facts")
        self._connection.execute("DELETE FROM arrays")


# Writes the first file, given the second, which is there already or None.
Fill = Callable[[SessionFile, SessionFile | None], None]


@contextmanager
def reading(path: Path) -> Iterator[SessionFile]:
    """A session file to read from, as it is at this moment. Raises `SessionFileError`. Nothing is written to it or beside it."""
    with glancing(path) as file:
        file.check_pages()
        yield file


@contextmanager
def glancing(path: Path) -> Iterator[SessionFile]:
    """As `reading`, without looking at all of its pages first: for a few facts, each of which has a hash of its own."""
    identify(path)
    with reading_errors(path):
        log_missing = sqlite_files.log_missing(path)
        with sqlite_files.readable(path) as (at, mode), closing(connect(at, mode)) as connection:
            connection.execute("BEGIN")
            yield _checked(path, connection, log_missing)


def remove(path: Path) -> None:
    """Delete a session of this version that nobody has open. Raises `SessionFileError`; any other file is left as it is."""
    with writing_errors(path), _claimed(path) as session:
        if session is not None:
            path.unlink()


def replace(path: Path, fill: Fill) -> Inode:
    """Put a new session file, written by `fill`, in the place of `path`: all of it or nothing. Returns its inode.

    `fill` is given the new file and the one that is there, if any. That is only replaced if it is a session of this version, and
    nobody else can have it open meanwhile.
    """
    new = path.with_name(f".{os.urandom(8).hex()}.tui-gru-saving")
    try:
        with writing_errors(path), _claimed(path) as old:
            _write_new(new, old, fill)
            _synchronise(new)
            if path.exists():
                shutil.copymode(path, new)
            inode = inode_of(new)
            os.replace(new, path)
            with suppress(OSError):  # where folders cannot be
                _synchronise(path.parent)
            return inode
    finally:
        with suppress(OSError):  # of a path that cannot be one
            new.unlink(missing_ok=True)


def recording(path: Path, inode: Inode) -> SessionFile:
    """The file that `replace` has just put at `path`, to add to. Raises `SessionInUseError` where another has taken its place."""
    with writing_errors(path):
        connection = connect(path, "rw")
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA user_version").fetchone()  # WAL mode, and with it the lock, begins with the first reading
            if inode_of(path) != inode:
                raise in_use(path)
        except BaseException:
            connection.close()
            raise
        sqlite_files.recorded_here.add(inode)
        return SessionFile(path, connection)


def is_at(path: Path, inode: Inode) -> bool:
    """Whether the file at `path` is still the one that was put there."""
    return inode_of(path) == inode


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """A connection to a file, in a mode of SQLite's: `ro`, `rw` or `rwc`. Raises `sqlite3.Error`."""
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    # A session is used by one thread at a time, but not always by the same.
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.text_factory = lambda text: text.decode("ascii", "replace")  # what is not ASCII is damaged, and the hash will tell
    return connection


def _leave_wal_mode(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = DELETE")


def identify(path: Path) -> None:
    """Raise `SessionFileError` where `path` is no session of this version. Leaves no trace, whatever the file is."""
    _check_there(path)
    with reading_errors(path):
        try:
            application, version = _marks(path, "ro&immutable=1")
        except sqlite3.DatabaseError as error:
            if result_code(error) != sqlite3.SQLITE_CORRUPT:
                raise
            with sqlite_files.readable(path) as (at, mode):
                application, version = _marks(at, mode)  # its log may be half taken into the file
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


def _checked(path: Path, connection: sqlite3.Connection, log_missing: bool) -> SessionFile:
    if tuple(row[0] for row in connection.execute("SELECT sql FROM sqlite_master ORDER BY rowid")) != SCHEMA:
        raise damaged(path, "its layout")
    return SessionFile(path, connection, log_missing=log_missing)


def _marks(path: Path, mode: str) -> tuple[int, int]:
    with closing(connect(path, mode)) as connection:
        application, version = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        return application, version


@contextmanager
def _claimed(path: Path) -> Iterator[SessionFile | None]:
    """The session at `path`, if there is one; nobody else reads or writes it meanwhile."""
    if not path.exists():
        yield None
        return
    identify(path)
    log_missing = sqlite_files.log_missing(path)
    sqlite_files.put_foreign_log_aside(path)
    with closing(connect(path, "rw")) as connection:
        _leave_wal_mode(connection)  # takes the log into the file; refused if another has it open
        connection.execute("BEGIN EXCLUSIVE")
        with reading_errors(path):
            old = _checked(path, connection, log_missing)
            old.check_pages()
        yield old


def _write_new(path: Path, old: SessionFile | None, fill: Fill) -> None:
    with closing(connect(path, "rwc&nolock=1")) as connection:
        # Nobody else knows of it, so it needs no locks. A file that is not finished is thrown away: it is enough that all of it is
        # on the disk before it has its name.
        connection.execute("PRAGMA journal_mode = MEMORY")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        for statement in SCHEMA:
            connection.execute(statement)
        fill(SessionFile(path, connection), old)


def _synchronise(path: Path) -> None:
    """Make what has been written to a file, or a renaming in a folder, last through a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
