"""The files of an SQLite database: the main file, its log (-wal) and the index of the log (-shm); how to read without changes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui_gru.debugger.storage.log_damage import LogDamage

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
    log, index = _beside(path, LOG), _beside(path, INDEX)
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
            shutil.copyfile(log, _beside(copy, LOG))
            yield copy, "ro"


def is_recorded(path: Path) -> bool:
    """Return True if this process or another has the database open for writing."""
    if inode_of(path) in recorded_here:  # do not open the index: closing it would release the locks of this process
        return True
    try:
        with _beside(path, INDEX).open("r+b") as index:
            return not _can_lock(index.fileno())
    except OSError:
        return False


def other_name(path: Path) -> Path | None:
    """Return the name by which this process records to a file, if it is not `path` but another hard link to the file."""
    name = recorded_here.get(inode_of(path))
    is_other = name is not None and os.path.realpath(name) != os.path.realpath(path) and name.exists()
    return name if is_other else None


def has_hard_links(path: Path) -> bool:
    return path.stat().st_nlink > 1


def sizes(path: Path) -> tuple[int, int]:
    """Return the sizes of a database and of its log, in bytes."""
    log = _beside(path, LOG)
    return path.stat().st_size, log.stat().st_size if log.exists() else 0


def has_lost_log(path: Path) -> bool:
    """Return True if the database was written with a log that is missing: it was copied without the log, or the log was deleted."""
    if is_recorded(path) or not _in_wal_mode(path) or _has_entries(_beside(path, LOG)):
        return False
    from tui_gru.debugger.storage.log_damage import frames_indexed  # imported late: only needed after a crash

    indexed = frames_indexed(_beside(path, INDEX))
    return indexed is None or indexed[0] > 0  # otherwise the process was killed before the first change


def log_damage(path: Path) -> LogDamage | None:
    """Return what is known of the changes that SQLite does not read from the log of a crashed session, because it is damaged."""
    log = _beside(path, LOG)
    if not _has_entries(log) or is_recorded(path) or not _in_wal_mode(path):
        return None
    from tui_gru.debugger.storage.log_damage import damage_of  # imported late: only needed after a crash

    return damage_of(path, log, _beside(path, INDEX))


def copy_aside(path: Path) -> Path:
    """Copy the files of a database to the first free name such as `math.tui-gru.damaged`, and return it."""
    n, to = 1, path.with_name(f"{path.name}.damaged")
    while any(os.path.lexists(_beside(to, end)) for end in ("", LOG, INDEX)):
        n += 1
        to = path.with_name(f"{path.name}.damaged-{n}")
    for end in ("", LOG, INDEX):
        if _beside(path, end).exists():
            shutil.copyfile(_beside(path, end), _beside(to, end))
            synchronise(_beside(to, end))
    return to


def has_foreign_log(path: Path) -> bool:
    """Return True if there is a log next to a closed database: it belongs to another file, and SQLite would merge it into this
    one."""
    return _has_entries(_beside(path, LOG)) and not is_recorded(path) and not _in_wal_mode(path)


def put_foreign_log_aside(path: Path) -> None:
    if has_foreign_log(path):
        log = _beside(path, LOG)
        log.rename(log.with_name(f"{log.name}-{os.urandom(4).hex()}"))


def synchronise(path: Path) -> None:
    """Flush a file to the disk, so that it survives a power cut. Windows does so only through a handle that can be written to."""
    handle = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def synchronise_folder(path: Path) -> None:
    """Flush the names in a folder to the disk, where the system can."""
    with suppress(OSError):  # Windows does not open folders, and some file systems do not synchronise them
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


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


def _beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def _in_wal_mode(path: Path) -> bool:
    """Return True if the database, which is not being written to, is in WAL mode."""
    with path.open("rb") as file:
        return file.read(20)[18:] == b"\2\2"


def _has_entries(log: Path) -> bool:
    return log.exists() and log.stat().st_size > LOG_HEADER
