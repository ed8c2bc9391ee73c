"""Finds out whether the log (-wal) of a crashed session has lost changes that were recorded.

SQLite reads a log up to the last change (transaction) before the first damaged frame, and ignores the rest without an error. That
is right after a crash, which can leave an unfinished change at the end, and wrong if the log was damaged or cut later. A frame is
one page: page number, size of the database after a change (0 except in the last frame of a change), two salts, two checksums, data.
Each checksum continues the one before. A log that starts anew overwrites the old frames from the beginning, with new salts.

The evidence for lost changes: the index (-shm), which survives a crash and counts the frames; the end of a change after a damaged
frame; a header that is damaged; and zeros, which SQLite never writes as the header of a frame.
"""

from __future__ import annotations

import shutil
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HEADER, FRAME_HEADER, INDEX_HEADER = struct.Struct(">8I"), struct.Struct(">2I8s2I"), struct.Struct("=3I2BH4I8s2I")
MAGIC, VERSION = 0x377F0682, 3007000  # the last bit of the magic number: checksums are of big-endian words
SYSTEM_PAGE = 4096  # bytes; larger ones are multiples of it
NATIVE = sys.byteorder == "big"
Checksum = tuple[int, int]


@dataclass(frozen=True)
class _Frame:
    """A frame as it is in the file, from the position `at`. `is_whole` is False if the file ends within it."""

    at: int
    size: int  # of the database in pages, if the frame ends a change; otherwise 0
    salts: bytes
    checksum: Checksum
    sums: Checksum  # of its own words, as if the checksum before it were 0
    is_whole: bool
    is_zero: bool  # its header

    def fits(self, salts: bytes) -> bool:
        """Return True if the frame was written with these salts, one of which may be damaged: the frames from before the log
        started anew differ in both."""
        return self.is_whole and not self.is_zero and (self.salts[:4] == salts[:4] or self.salts[4:] == salts[4:])


class _Log:
    """The contents of a log. `is_sound`: SQLite accepts its header; `committed` is the number of frames that it reads."""

    def __init__(self, data: bytes, page: int) -> None:
        """`page` is the size of a page in the database, for a header that is damaged."""
        magic, version, own_page, self.starts, *_, first, second = HEADER.unpack_from(data)
        self.data, self.page, self.is_big, self.salts, self.checksum = data, page, bool(magic & 1), data[16:24], (first, second)
        self.is_sound = (magic & ~1, version, own_page) == (MAGIC, VERSION, page) and self.follows((0, 0), data[:24], self.checksum)
        if not self.is_sound:  # the first frame is never an old one
            self.is_big, self.salts = NATIVE, data[HEADER.size + 8 : HEADER.size + 16]
        self.frames = list(self._frames())
        self.read = self._read() if self.is_sound else 0
        self.committed = max((i + 1 for i, frame in enumerate(self.frames[: self.read]) if frame.size), default=0)

    def _frames(self) -> Iterator[_Frame]:
        for at in range(HEADER.size, len(self.data), FRAME_HEADER.size + self.page):
            head = self.data[at : at + FRAME_HEADER.size].ljust(FRAME_HEADER.size, b"\0")
            _, size, salts, first, second = FRAME_HEADER.unpack(head)
            is_whole = at + FRAME_HEADER.size + self.page <= len(self.data)
            sums = _sums(head[:8] + self.numbers(at), self.is_big) if is_whole else (0, 0)
            yield _Frame(at, size, salts, (first, second), sums, is_whole, not any(head))

    def numbers(self, at: int) -> bytes:
        """Return the page of the frame that begins at a position."""
        return self.data[at + FRAME_HEADER.size : at + FRAME_HEADER.size + self.page]

    def follows(self, before: Checksum, words: bytes, checksum: Checksum) -> bool:
        return _chained(before, *_sums(words, self.is_big), len(words) // 8) == checksum

    def _read(self) -> int:
        before = self.checksum
        for i, frame in enumerate(self.frames):
            is_next = frame.is_whole and frame.salts == self.salts
            if not is_next or _chained(before, *frame.sums, 1 + self.page // 8) != frame.checksum:
                return i
            before = frame.checksum
        return len(self.frames)

    def has_lost_an_end(self) -> bool:
        """Return True if the first frame that is not read is sound but for one bit of its size, which said that it is an end."""
        if self.read == len(self.frames) or (frame := self.frames[self.read]).size or not frame.fits(self.salts):
            return False
        before = self.frames[self.read - 1].checksum if self.read else self.checksum
        page_number, rest = self.data[frame.at : frame.at + 4], self.numbers(frame.at)
        sizes = (struct.pack(">I", 1 << bit) for bit in range(32))
        return any(self.follows(before, page_number + size + rest, frame.checksum) for size in sizes)

    def is_cut(self) -> bool:
        """Return True if the log ends within a page, at a place where a process that is killed does not end it: SQLite writes the
        header of a frame, then the page, and the system breaks off a write only at a multiple of its own pages."""
        last = self.frames[-1]
        return not last.is_whole and len(self.data) - last.at > FRAME_HEADER.size and len(self.data) % SYSTEM_PAGE != 0


@dataclass(frozen=True)
class LogDamage:
    """The damage of the log of a database. `lost` is the number of changes that are not read and have left a trace in it."""

    path: Path
    lost: int
    log: _Log

    @contextmanager
    def pieced_together(self) -> Iterator[Path]:
        """Give a copy of the database with a log of all frames that are left, and checksums that fit them.

        What SQLite reads from it may be damaged or mixed; only an entry that has a hash of its own can be trusted.
        """
        from tempfile import TemporaryDirectory

        log = self.log
        head = struct.pack(">4I", MAGIC | NATIVE, VERSION, log.page, 0) + log.salts
        checksum = _chained((0, 0), *_sums(head, NATIVE), 3)
        parts = [head, struct.pack(">2I", *checksum)]
        for frame in log.frames:
            if frame.fits(log.salts):
                about, numbers = log.data[frame.at : frame.at + 8], log.numbers(frame.at)
                checksum = _chained(checksum, *_sums(about + numbers, NATIVE), 1 + log.page // 8)
                parts += [about, log.salts, struct.pack(">2I", *checksum), numbers]
        with TemporaryDirectory(prefix="tui-gru-") as folder:
            copy = Path(folder, self.path.name)
            shutil.copyfile(self.path, copy)
            copy.with_name(f"{copy.name}-wal").write_bytes(b"".join(parts))
            yield copy


def damage_of(path: Path, log_path: Path, index: Path) -> LogDamage | None:
    """Return the damage of the log of a database that no program has open; None if no recorded change can have been lost."""
    with path.open("rb") as file:
        page = int.from_bytes(file.read(18)[16:], "big")
    page = 65536 if page == 1 else page
    data = log_path.read_bytes()
    if len(data) <= HEADER.size or page < 512 or page & (page - 1):
        return None  # the database itself is damaged, or nothing was recorded
    log = _Log(data, page)
    rest = log.frames[log.committed :]
    fitting = [frame for frame in rest if frame.fits(log.salts)]
    ends, index_entry = [frame for frame in fitting if frame.size], frames_indexed(index)
    indexed = index_entry[0] if index_entry is not None and index_entry[1] == log.salts else None
    if indexed is not None and log.committed >= indexed and log.is_sound and log.starts and ends == fitting[-1:]:
        ends = []  # the last frame was being written over an old one when the process ended
    is_lost = (
        not log.is_sound
        or bool(ends)
        or any(frame.is_zero for frame in rest)
        or (log.is_cut() if indexed is None else log.committed < indexed)
        or log.has_lost_an_end()
    )
    return LogDamage(path, len(ends), log) if is_lost else None


def frames_indexed(index: Path) -> tuple[int, bytes] | None:
    """Return the number of frames according to the index, and the salts of their log; None if it is missing or damaged."""
    try:
        with index.open("rb") as file:
            first, second = file.read(INDEX_HEADER.size), file.read(INDEX_HEADER.size)
    except OSError:
        return None
    if first != second or len(first) < INDEX_HEADER.size:
        return None
    version, _, _, is_begun, _, _, frames, *_, salts, one, two = INDEX_HEADER.unpack(first)
    is_sound = _chained((0, 0), *_sums(first[:40], NATIVE), 5) == (one, two)
    return (int(frames), bytes(salts)) if version == VERSION and is_begun and is_sound else None


# SQLite's checksum: for each pair of words, first += word + second, then second += next word + first, modulo 2**32. It is linear,
# so the sums over the words of a frame are computed at once: the pair (word, word + next word) counts A**(pairs after it) times,
# with A = [[1, 1], [1, 2]], whose powers are numbers of Fibonacci.


@lru_cache
def _powers(pairs: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]]:
    """Return the entries a, b, d of A**k = [[a, b], [b, d]], for k from `pairs` down to 0."""
    entries, a, b, d = [], 1, 0, 1
    for _ in range(pairs + 1):
        entries.append((a, b, d))
        a, b, d = (a + b) & 0xFFFFFFFF, (b + d) & 0xFFFFFFFF, (b + 2 * d) & 0xFFFFFFFF
    a_k, b_k, d_k = np.array(entries[::-1], np.uint32).T
    return a_k, b_k, d_k


def _sums(data: bytes, big: bool) -> Checksum:
    words = np.frombuffer(data, ">u4" if big else "<u4").astype(np.uint32).reshape(-1, 2)
    a, b, d = _powers(len(words))
    one, two = words[:, 0], words[:, 0] + words[:, 1]
    first, second = a[1:] * one + b[1:] * two, b[1:] * one + d[1:] * two
    return int(first.sum(dtype=np.uint32)), int(second.sum(dtype=np.uint32))


def _chained(before: Checksum, first: int, second: int, pairs: int) -> Checksum:
    """Return the checksum after a number of pairs of words, whose own sums are `first` and `second`."""
    a, b, d = (int(power[0]) for power in _powers(pairs))
    return (a * before[0] + b * before[1] + first) & 0xFFFFFFFF, (b * before[0] + d * before[1] + second) & 0xFFFFFFFF
