"""The one way in which the package writes files: whole or not at all, or growing by whole pieces, and flushed to the disk."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from errno import EINVAL, ENOSYS, ENOTSUP, EOPNOTSUPP
from pathlib import Path

# ------------------------------------------------------------------------------
# Flushes files to the disk, so that they survive a power cut: at once, or soon, in another thread.


SOON = 1.0  # seconds
_CANNOT = (EINVAL, ENOSYS, ENOTSUP, EOPNOTSUPP)  # the errors of a file system that does not flush files
_BINARY = getattr(os, "O_BINARY", 0)


def synchronise(path: Path) -> None:
    """Flush a file to the disk, as far as its file system can. Raises `OSError`."""
    handle = os.open(path, os.O_RDWR | _BINARY)  # Windows flushes only a file that can be written to
    try:
        flush(handle)
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


def flush(handle: int) -> None:
    """Flush an open file to the disk, as far as its file system can. Raises `OSError`."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise


class Flusher:
    """Flushes files and folders within a second of their change, in another thread, which exists only while there is work.

    `failure` is the first error of the disk, None if there was none.
    """

    def __init__(self) -> None:
        self.failure: OSError | None = None
        self._lock = threading.RLock()  # a signal handler can change a file while its own thread is here
        self._due: dict[Path, None] = {}
        self._timer: threading.Timer | None = None

    def soon(self, path: Path) -> None:
        """Flush a file that has changed, or a folder that has another file, within a second."""
        with self._lock:
            self._due[path] = None
            if self._timer is None:
                self._timer = threading.Timer(SOON, self._flush)
                self._timer.daemon = True
                self._timer.start()

    def now(self) -> None:
        """Flush all that is due."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
        self._flush()

    def _flush(self) -> None:
        with self._lock:
            due, self._due, self._timer = self._due, {}, None
        for path in due:
            if path.is_dir():
                synchronise_folder(path)
                continue
            try:
                synchronise(path)
            except FileNotFoundError:
                pass  # it was deleted, or merged into another, which was flushed before
            except OSError as error:
                self.failure = self.failure or error


# ------------------------------------------------------------------------------
# A file that grows.


class GrowingFile:
    """A new file that grows by pieces, each of which is in it completely or not at all, unless the process is killed meanwhile."""

    def __init__(self, path: Path) -> None:
        """Create the file. Raises `OSError`, `FileExistsError` if it exists."""
        self.path = path
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | _BINARY, 0o666)
        self._is_torn = False

    def append(self, piece: bytes) -> None:
        """Add a piece, on a line of its own. Raises `OSError`."""
        size, rest = os.fstat(self._handle).st_size, memoryview(b"\n" + piece if self._is_torn else piece)
        try:
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except OSError:
            self._is_torn = os.fstat(self._handle).st_size > size
            with suppress(OSError):
                os.ftruncate(self._handle, size)
                self._is_torn = False
            raise
        self._is_torn = False

    def close(self) -> None:
        """Close the file. Raises `OSError` if it is closed already."""
        os.close(self._handle)
