"""A file whose format is to be recognised: its path, size and first bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from tui_gru.interop.containers.zip_archive import Member, members
from tui_gru.interop.errors import ModelFileError

HEAD_SIZE = 512


@dataclass(frozen=True)
class OpenedFile:
    """The path of a regular file, its size in bytes and its first bytes."""

    path: Path
    size: int
    head: bytes

    @cached_property
    def members(self) -> dict[str, Member]:
        """The files in a zip archive by name; empty for any other file."""
        return members(self.path) if self.head.startswith(b"PK\x03\x04") else {}


def open_file(path: Path, head_size: int = HEAD_SIZE) -> OpenedFile:
    """Read the size and the first `head_size` bytes of a file. Raises `ModelFileError` if there is no file to read."""
    try:
        mode = path.stat().st_mode
        if S_ISREG(mode):
            with path.open("rb", buffering=0) as file:
                head, size = file.read(head_size), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise ModelFileError(f"it cannot be opened: {(error.strerror or str(error)).lower()}; check the name") from None
    except ValueError:  # a null byte in the name
        raise ModelFileError("it is not a file name; check the name") from None
    if not S_ISREG(mode):
        raise ModelFileError(f"it is {'a folder' if S_ISDIR(mode) else 'no file'}; name the file that holds the weights")
    if not head:
        raise ModelFileError("it is empty; get the file again")
    return OpenedFile(path, size, head)
