"""A reader of the wire format of Protocol Buffers: the fields of a message by number, as positions in the file, without a schema.

Format: Protocol Buffers' documentation, "Encoding".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TypeAlias

from tui_gru.interop.errors import ModelFileError

Buffer: TypeAlias = bytes | mmap
#: The start and end of a field of bytes in the buffer.
Span: TypeAlias = tuple[int, int]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MOST_FIELDS = 1_000_000


class DamagedMessageError(ModelFileError):
    """The data is not a message of Protocol Buffers, or it is cut off."""

    def __init__(self) -> None:
        super().__init__("it is damaged or cut off; get the file again")


class Message:
    """A message in `buffer[start:end]`. Its fields are read once; each number has a list of values in their order."""

    def __init__(self, buffer: Buffer, span: Span, budget: list[int] | None = None) -> None:
        self.buffer, self.span = buffer, span
        self._budget = [MOST_FIELDS] if budget is None else budget
        self._numbers: dict[int, list[int]] = {}
        self._spans: dict[int, list[Span]] = {}
        for number, value in self._fields():
            if isinstance(value, int):
                self._numbers.setdefault(number, []).append(value)
            else:
                self._spans.setdefault(number, []).append(value)

    def _fields(self) -> Iterator[tuple[int, int | Span]]:
        at, end = self.span
        while at < end:
            self._budget[0] -= 1
            if self._budget[0] < 0:
                raise ModelFileError(f"it has more than {MOST_FIELDS} fields; it is not read")
            key, at = self._varint(at, end)
            number, wire = key >> 3, key & 7
            if wire == VARINT:
                value, at = self._varint(at, end)
                yield number, value
            elif wire == BYTES:
                length, at = self._varint(at, end)
                yield number, (at, at + length)
                at += length
            elif wire in (FIXED32, FIXED64):
                length = 4 if wire == FIXED32 else 8
                if at + length > end:
                    raise DamagedMessageError
                yield number, int.from_bytes(self.buffer[at : at + length], "little")
                at += length
            else:
                raise DamagedMessageError
            if at > end or not number:
                raise DamagedMessageError

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                raise DamagedMessageError
            byte = self.buffer[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value & (2**64 - 1), at
        raise DamagedMessageError

    def numbers(self, number: int) -> list[int]:
        """Return the unsigned integers of a repeated field, packed or not."""
        packed = []
        for at, end in self._spans.get(number, ()):
            while at < end:
                self._budget[0] -= 1
                if self._budget[0] < 0:
                    raise ModelFileError(f"it has more than {MOST_FIELDS} fields; it is not read")
                value, at = self._varint(at, end)
                packed.append(value)
        return self._numbers.get(number, []) + packed

    def signed(self, number: int) -> list[int]:
        """Return the signed integers of a repeated field of type int64."""
        return [value - 2**64 if value >= 2**63 else value for value in self.numbers(number)]

    def floats(self, number: int) -> list[float]:
        """Return the floats of a repeated field, packed or not."""
        loose = [struct.unpack("<f", bits.to_bytes(4, "little"))[0] for bits in self._numbers.get(number, []) if bits < 2**32]
        packed = b"".join(self.buffer[start:end] for start, end in self.spans(number))
        if len(packed) % 4:
            raise DamagedMessageError
        return [*loose, *struct.unpack(f"<{len(packed) // 4}f", packed)]

    def spans(self, number: int) -> list[Span]:
        return self._spans.get(number, [])

    def messages(self, number: int) -> list[Message]:
        return [Message(self.buffer, span, self._budget) for span in self.spans(number)]

    def texts(self, number: int) -> list[str]:
        return [bytes(self.buffer[start:end]).decode("utf-8", "replace") for start, end in self.spans(number)]

    def text(self, number: int) -> str:
        """Return the text of a field, "" if it is missing. The last of several wins, as in every reader of Protocol Buffers."""
        return (self.texts(number) or [""])[-1]


def whole_file(path: Path) -> Message:
    """Return the file as one message. It is mapped into memory, not read. Raises `ModelFileError`."""
    with path.open("rb") as file:
        buffer = mmap(file.fileno(), 0, access=ACCESS_READ)
    return Message(buffer, (0, len(buffer)))
