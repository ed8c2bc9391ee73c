"""A reader of the members of a zip file. Nothing is unpacked to disk, and sizes are checked before memory is allocated."""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from tui_gru.interop.errors import ModelFileError, printable

LOCAL_HEADER = struct.Struct("<4s5H3I2H")
STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
#: Weights hardly compress. A member that inflates to more than MOST_RATIO times its size and to more than HARMLESS_SIZE bytes is
#: refused.
MOST_RATIO, HARMLESS_SIZE = 100, 1 << 24
DAMAGED = "its zip directory is damaged or cut off; get the file again"


@dataclass(frozen=True)
class Member:
    """One file in a zip archive. Every read opens the archive, checks it, and closes it."""

    path: Path
    name: str
    header: int  # position of its local header
    compressed: int
    size: int
    method: int
    crc: int

    @property
    def stored(self) -> bool:
        return self.method == STORED

    def read(self) -> bytes:
        """Read the complete member and check its checksum. Raises `ModelFileError`."""
        data = self.read_span(0, self.size)
        # torch can be configured to write no checksums; it then writes 0.
        if self.crc and zlib.crc32(data) != self.crc:
            raise ModelFileError(f"{printable(self.name)} in it does not match its checksum; get the file again")
        return data

    def read_span(self, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`. Compressed data is inflated only up to the end of this range. Raises
        `ModelFileError`."""
        if not 0 <= start <= start + length <= self.size:
            raise ModelFileError(f"{printable(self.name)} in it ends before it should; get the file again")
        with self.path.open("rb") as file:
            if self.stored:
                file.seek(self.data_offset() + start)
                data = file.read(length)
            else:
                file.seek(self.data_offset())
                data = _inflate(file.read(self.compressed), start + length)[start:]
        if len(data) != length:
            raise ModelFileError(f"{printable(self.name)} in it is cut off; get the file again")
        return data

    def data_offset(self) -> int:
        """Return the position of its data in the archive."""
        with self.path.open("rb") as file:
            file.seek(self.header)
            header = file.read(LOCAL_HEADER.size)
        if len(header) < LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
            raise ModelFileError(DAMAGED)
        *_, name_length, extra_length = LOCAL_HEADER.unpack(header)
        return int(self.header + LOCAL_HEADER.size + name_length + extra_length)


def _inflate(data: bytes, most: int) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, most) if most else b""
    except zlib.error:
        raise ModelFileError("the compressed data in it is damaged; get the file again") from None


def members(path: Path) -> dict[str, Member]:
    """Return the files in the archive by name. Raises `ModelFileError` if one is out of bounds, overlaps another, or would inflate
    to too many bytes."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.filename.endswith("/")]
    except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError, EOFError, struct.error):
        raise ModelFileError(DAMAGED) from None
    end = path.stat().st_size
    found: dict[str, Member] = {}
    for info in infos:
        name = printable(info.filename)
        if info.flag_bits & 1:
            raise ModelFileError(f"{name} in it is encrypted; decrypt it first")
        if info.compress_type not in (STORED, DEFLATED):
            raise ModelFileError(
                f"{name} in it is compressed by method {info.compress_type}; write it with deflate or uncompressed"
            )
        if info.compress_type == STORED and info.compress_size != info.file_size:
            raise ModelFileError(DAMAGED)
        if info.file_size > max(HARMLESS_SIZE, MOST_RATIO * info.compress_size):
            raise ModelFileError(f"{name} in it would inflate {info.compress_size} bytes to {info.file_size}; it is not read")
        if info.filename in found:
            raise ModelFileError(f"{name} is in it twice; get the file again")
        found[info.filename] = Member(
            path, info.filename, info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC
        )
    _check_disjoint(found, end)
    return found


def _check_disjoint(found: dict[str, Member], end: int) -> None:
    taken = 0
    for member in sorted(found.values(), key=lambda member: member.header):
        if member.header < taken:
            raise ModelFileError(f"{printable(member.name)} in it overlaps another entry; get the file again")
        taken = member.header + LOCAL_HEADER.size + member.compressed
    if taken > end:
        raise ModelFileError(DAMAGED)
