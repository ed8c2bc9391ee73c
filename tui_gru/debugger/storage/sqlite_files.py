"""The files of an SQLite database: the main file, its log (-wal) and the index of the log (-shm); how to read without changes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

Inode = tuple[int, int]  # including the device

LOG, INDEX = "-wal", "-shm"
LOG_HEADER = 32  # bytes; a log of this size or less is empty
LIVE = 128  # the byte of the index that every connection keeps locked

recorded_here: set[Inode] = set()  # the main files that this process is writing to


@contextmanager
def readable(path: Path) -> Iterator[tuple[Path, str]]:
    """Give the file that SQLite should open instead of `path`, and the mode, so that nothing is written next to `path`."""
    log, index = _beside(path, LOG), _beside(path, INDEX)
    if is_recorded(path):
        yield path, "ro"
    elif not _in_wal_mode(path) or not _has_entries(log):
        yield path, "ro&immutable=1"
    elif index.exists():
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
        import fcntl

        with _beside(path, INDEX).open("r+b") as index:
            fcntl.lockf(index, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, LIVE)
    except ImportError:  # on Windows
        return _beside(path, INDEX).exists()
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def log_missing(path: Path) -> bool:
    """Return True if the database was written with a log that is missing: it was copied without the log, or the log was deleted."""
    return not is_recorded(path) and _in_wal_mode(path) and not _has_entries(_beside(path, LOG))


def put_foreign_log_aside(path: Path) -> None:
    """Rename a log next to a closed database: it belongs to another file, and SQLite would merge it into this one."""
    log = _beside(path, LOG)
    if _has_entries(log) and not is_recorded(path) and not _in_wal_mode(path):
        log.rename(log.with_name(f"{log.name}-{os.urandom(4).hex()}"))


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
