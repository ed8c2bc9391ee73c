"""The one way in which the package writes files: whole or not at all, or growing by whole pieces, and flushed to the disk."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EACCES, EEXIST, EINVAL, ENOSYS, ENOTSUP, EOPNOTSUPP
from pathlib import Path
from typing import BinaryIO

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
        self._lock, self._flushing = threading.RLock(), threading.RLock()  # a signal handler can come while its thread is in here
        self._due: dict[Path, None] = {}
        self._timer: threading.Timer | None = None

    def soon(self, path: Path) -> None:
        """Flush a file that has changed, or a folder that has another file, within a second."""
        with self._lock:
            self._due[path] = None
            if self._timer is None:
                timer = threading.Timer(SOON, self._flush)
                timer.daemon = True
                with suppress(RuntimeError):  # there can be no thread, as at the end of the interpreter: `now` does it
                    timer.start()
                    self._timer = timer

    def now(self) -> None:
        """Flush all that is due."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
        self._flush()

    def _flush(self) -> None:
        with self._flushing:
            with self._lock:
                due, self._due, self._timer = self._due, {}, None
            for path in due:
                try:
                    (synchronise_folder if path.is_dir() else synchronise)(path)
                except FileNotFoundError:
                    pass  # it was deleted, or merged into another file, which was flushed before
                except OSError as error:
                    self.failure = self.failure or error


# ------------------------------------------------------------------------------
# A file that is written whole: under a temporary name in its folder, flushed, and renamed. An existing file does not change before.


OLD = 3600.0  # seconds since the last change, after which a temporary file is that of a process that was killed
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tui-gru-saving(-\w+)?|step-\d+\.rank\d+\.safetensors\.part|run\.json\.\d+\.part")
_swept = set[Path]()  # folders


@contextmanager
def saving(path: Path, *, overwrite: bool = True, durable: bool = True) -> Iterator[BinaryIO]:
    """Give a stream; what is written to it becomes the file `path` when the block ends without an error, all of it or nothing.

    A link stays, and its target is replaced; a device or a pipe is written to. Without `durable`, it is not flushed to the disk.
    Raises `OSError`, `FileExistsError` if the file exists and not `overwrite`.
    """
    if not overwrite and os.path.lexists(path):
        raise FileExistsError(EEXIST, os.strerror(EEXIST), str(path))
    with suppress(FileNotFoundError):
        path.stat()  # raises OSError for a circle of links
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():  # devices and pipes cannot be replaced; opening a directory raises
        with path.open("wb") as out:
            yield out
        return
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(EACCES, os.strerror(EACCES), str(path))
    new = temporary(path)
    try:
        with new.open("xb") as out:
            yield out
            if durable:
                out.flush()
                flush(out.fileno())
        if path.exists():
            shutil.copymode(path, new)
        (os.replace if overwrite else _move_to_free_name)(new, path)
    except BaseException:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise
    if durable:
        synchronise_folder(path.parent)


def save_bytes(path: Path, content: bytes, *, overwrite: bool = True, durable: bool = True) -> None:
    """Write a file, whole or not at all; see `saving`."""
    with saving(path, overwrite=overwrite, durable=durable) as out:
        out.write(content)


def temporary(path: Path) -> Path:
    """Return a name in the folder of a file for its new contents. Deletes those that killed processes have left there."""
    if path.parent not in _swept:
        _swept.add(path.parent)
        sweep(path.parent)
    return path.with_name(f".{os.urandom(8).hex()}.tui-gru-saving")


def sweep(folder: Path) -> None:
    """Delete the temporary files in a folder that have not changed for an hour."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY.fullmatch(entry.name) and time.time() - entry.stat(follow_symlinks=False).st_mtime > OLD:
                with suppress(OSError):
                    os.unlink(entry)


def _move_to_free_name(new: Path, path: Path) -> None:
    """Rename a file. Raises `FileExistsError` if another process has created a file of that name meanwhile."""
    try:
        os.link(new, path)
    except FileExistsError:
        raise
    except OSError:  # this file system has no links
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        try:
            os.replace(new, path)
        except BaseException:
            path.unlink()
            raise
    else:
        new.unlink()


# ------------------------------------------------------------------------------
# A file that grows.


class GrowingFile:
    """A new file that grows by pieces, each of which is in it completely or not at all, unless the process is killed meanwhile."""

    def __init__(self, path: Path) -> None:
        """Create the file. Raises `OSError`, `FileExistsError` if it exists."""
        self.path = path.absolute()
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | _BINARY, 0o666)
        self._is_torn = False

    def append(self, piece: bytes) -> None:
        """Add a piece, on a line of its own. Raises `OSError`."""
        size, rest = os.fstat(self._handle).st_size, memoryview(b"\n" + piece if self._is_torn else piece)
        try:
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except OSError:
            self._is_torn = True
            with suppress(OSError):
                if os.fstat(self._handle).st_size > size:
                    os.ftruncate(self._handle, size)
                self._is_torn = False
            raise
        self._is_torn = False

    def close(self) -> None:
        """Close the file. Raises `OSError` if it is closed already."""
        os.close(self._handle)
