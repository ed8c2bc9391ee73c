"""The output of a command: standard output, or a file that is replaced only when the new content is complete."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from tui_gru.engine.errors import TuiGruError

STANDARD_OUTPUT = "-"


@contextmanager
def opened(target: str, *, option: str | None = None) -> Iterator[BinaryIO]:
    """Open a binary stream to `target`. Raises a `TuiGruError` about `option` if it cannot be written."""
    try:
        with _standard_output() if target == STANDARD_OUTPUT else _file(Path(target)) as out:
            yield out
    except BrokenPipeError:
        raise
    except OSError as error:
        if target == STANDARD_OUTPUT:
            if os.name == "nt" and error.errno == errno.EINVAL:  # how Windows reports a pipe that its reader has closed
                raise BrokenPipeError from None
            abandon_standard_output()
        where = "standard output" if target == STANDARD_OUTPUT else target or "to an empty name"
        raise TuiGruError(f"cannot write {where}: {error.strerror}; write somewhere else", option=option) from None


def abandon_standard_output() -> None:
    """Discard buffered output, so that the interpreter reports no error for it at exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _standard_output() -> Iterator[BinaryIO]:
    if sys.stdout is None:  # the shell closed it with >&-
        raise OSError(errno.EBADF, "it is closed")
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()


@contextmanager
def _file(path: Path) -> Iterator[BinaryIO]:
    with suppress(FileNotFoundError):
        path.stat()  # raises OSError for a circle of links
    path = path.resolve()  # write to the target of a link, and keep the link
    if path.exists() and not path.is_file():  # devices and pipes cannot be replaced; opening a directory raises
        with path.open("wb") as out:
            yield out
        return
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("xb") as out:
            yield out
        if path.exists():
            shutil.copymode(path, partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
