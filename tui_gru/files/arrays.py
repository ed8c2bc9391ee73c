"""Arrays of a model file before they are a run: tensors, opened files, and what was found in them."""

from __future__ import annotations

import math
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tui_gru.errors import ModelFileError, printable
from tui_gru.files.kinds import KINDS, Blocks, Cell, CellKind, Convention, canonical, checked_convention, options_of

# ------------------------------------------------------------------------------
# A tensor in a file, whose shape and type are known and whose numbers are read on demand.


AnyArray: TypeAlias = NDArray[Any]
ByteOrder: TypeAlias = Literal["<", ">"]

#: The types that `read` returns as float32 or float64.
FLOATS = ("float64", "float32", "float16", "bfloat16")
#: Bytes per entry, for the types whose size is checked here.
ITEM_SIZE = {
    **{f"{kind}{bits}": bits // 8 for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8": 1,
    "bool": 1,
    "complex64": 8,
    "complex128": 16,
}
MOST_DIMENSIONS = 32
_ZERO = bytes(8)  # the memory of an array of zeros of any shape


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor; `read()` returns an array of `shape`, float32, or float64 for a float64 tensor. It raises `ModelFileError`."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], AnyArray]


Tensors: TypeAlias = Mapping[str, Tensor]


def checked_shape(shape: Sequence[object]) -> tuple[int, ...]:
    """Return `shape` as a tuple of whole numbers ≥ 0. Raises `ModelFileError` for any other value."""
    if len(shape) > MOST_DIMENSIONS or not all(type(size) is int and 0 <= size < 2**63 for size in shape):
        raise ModelFileError(f"a tensor has the shape {printable(list(shape), 40)}; the file is damaged: get it again")
    return tuple(size for size in shape if isinstance(size, int))


def byte_size(shape: Sequence[int], dtype: str) -> int:
    """Return the size of a dense tensor in bytes, computed without overflow."""
    return math.prod(shape) * ITEM_SIZE[dtype]


def decode(data: bytes | memoryview, dtype: str, shape: tuple[int, ...], byte_order: ByteOrder = "<") -> AnyArray:
    """Return the numbers in `data`, which has exactly `byte_size(shape, dtype)` bytes. Half precision becomes float32.

    Of the integer types only int64 is read, for row lengths and indices.
    """
    if dtype == "int64":
        return np.frombuffer(data, f"{byte_order}i8").reshape(shape)
    if dtype not in FLOATS:
        raise ModelFileError(not_float(dtype))
    if dtype == "bfloat16":  # the upper half of a float32
        return (np.frombuffer(data, f"{byte_order}u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
    array = np.frombuffer(data, np.dtype(dtype).newbyteorder(byte_order)).reshape(shape)
    return array.astype(np.float64 if dtype == "float64" else np.float32, copy=False)


def precision_of(array: AnyArray) -> str:
    """Return the type with the fewest bits that represents every number of an array, such as half precision that was converted."""
    with np.errstate(all="ignore"):
        single = array.astype(np.float32)
        if not np.array_equal(single, array, equal_nan=True):
            return "float64"
        if np.array_equal(single.astype(np.float16), single, equal_nan=True):
            return "float16"
    return "float32" if (np.ascontiguousarray(single).view(np.uint32) & 0xFFFF).any() else "bfloat16"


def without_numbers(tensor: Tensor) -> Tensor:
    """Return the same tensor with zeros instead of its numbers, which take no memory."""

    def read() -> AnyArray:
        if tensor.dtype not in (*FLOATS, "int64"):
            raise ModelFileError(not_float(tensor.dtype))
        return np.ndarray(tensor.shape, "i8" if tensor.dtype == "int64" else "f4", _ZERO, strides=(0,) * len(tensor.shape))

    return Tensor(tensor.shape, tensor.dtype, read)


def not_float(dtype: str) -> str:
    """Return the message for a type that cannot be opened as weights."""
    if dtype.startswith(("int", "uint", "float8", "quantised")):
        return f"its weights are {printable(dtype)}, so it is quantised; open the model in float that it was made from"
    return f"its weights are of the type {printable(dtype)}, which is not supported; save them as float32"


# ------------------------------------------------------------------------------
# A reader of the members of a zip file. Nothing is unpacked to disk, and sizes are checked before memory is allocated.


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
    entries: dict[str, Member] = {}
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
        if info.filename in entries:
            raise ModelFileError(f"{name} is in it twice; get the file again")
        entries[info.filename] = Member(
            path, info.filename, info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC
        )
    _check_disjoint(entries, end)
    return entries


def _check_disjoint(entries: dict[str, Member], end: int) -> None:
    end_of_last = 0
    for member in sorted(entries.values(), key=lambda member: member.header):
        if member.header < end_of_last:
            raise ModelFileError(f"{printable(member.name)} in it overlaps another entry; get the file again")
        end_of_last = member.header + LOCAL_HEADER.size + member.compressed
    if end_of_last > end:
        raise ModelFileError(DAMAGED)


# ------------------------------------------------------------------------------
# A file whose format is to be recognised: its path, size and first bytes.


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


# ------------------------------------------------------------------------------
# What is found in a file: recurrent layers, each with its shape, convention, evidence and weights; and what is refused.


BlockSource: TypeAlias = Callable[[], Blocks]


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """The weights of recurrent layers in canonical form, and the first states and row lengths if the file has them."""

    cells: tuple[tuple[Cell, ...], ...]  # by layer, then by direction
    h0: AnyArray | None = None  # (layers · directions, B, H); of an LSTM (2, layers · directions, B, H), h and c
    lengths: AnyArray | None = None  # (B)


@dataclass(frozen=True)
class FoundGRU:
    """A GRU, an LSTM or a plain RNN of one or more layers of the same width, in one or two directions."""

    name: str
    format: str
    layers: int
    directions: tuple[str, ...]  # "forward", "reverse", or both
    input_size: int
    hidden_size: int
    convention: Convention
    biases: str  # "none", "one", "two", or "one and bhn"
    dtype: str  # as stored; weights() gives float32, or float64 for float64
    evidence: str  # what the convention is concluded from
    warning: str = ""  # a reason to doubt the convention
    batch_first: bool | None = None  # None if the file does not say
    path: Path = Path()
    sources: tuple[tuple[BlockSource, ...], ...] = field(default=(), repr=False, compare=False)  # by layer, then by direction
    h0: Tensor | None = field(default=None, repr=False, compare=False)
    lengths: Tensor | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        ways = "both directions" if self.bidirectional else self.directions[0]
        sizes = f"{self.layers} layer{'s' * (self.layers > 1)}, {ways}, {self.input_size} inputs, {self.hidden_size} units"
        return f"<{self.kind.upper()} {self.name!r} of {self.path.name}: {sizes}; {self.convention.without_order}>"

    @property
    def kind(self) -> str:
        """`gru`, `lstm` or `rnn`."""
        return self.convention.kind

    @property
    def cell_kind(self) -> CellKind:
        return KINDS[self.kind]

    @property
    def bidirectional(self) -> bool:
        return len(self.directions) == 2

    @property
    def order(self) -> str:
        return self.convention.order

    @property
    def reset(self) -> str:
        return self.convention.reset

    @property
    def z(self) -> str:
        return self.convention.z

    @property
    def gate(self) -> str:
        return self.convention.gate

    def blocks(self) -> tuple[tuple[Blocks, ...], ...]:
        """Return the numbers as stored, by layer and direction. Raises `ModelFileError` if the file has changed."""
        try:
            with np.errstate(all="ignore"):  # NaN and infinities are allowed
                return tuple(tuple(source() for source in layer) for layer in self.sources)
        except ModelFileError as error:
            raise ModelFileError(f"{printable(self.path, 250)}: {self.name}: {error}") from None
        except OSError as error:
            raise ModelFileError(
                f"{printable(self.path, 250)}: it cannot be read: {error.strerror or error}; open it again"
            ) from None

    def weights(self) -> LayerWeights:
        """Return the weights in canonical form. Raises `ModelFileError`."""
        blocks = self.blocks()
        with np.errstate(all="ignore"):
            cells = tuple(tuple(canonical(b, self.convention) for b in layer) for layer in blocks)
        return LayerWeights(cells, self.h0.read() if self.h0 else None, self.lengths.read() if self.lengths else None)

    def read_as(
        self,
        order: str | None = None,
        reset: str | None = None,
        z: str | None = None,
        gate: str | None = None,
    ) -> FoundGRU:
        """Return the same layers read in another convention; options that are None are unchanged. Raises `ModelFileError` for an
        invalid value, or an option that this kind of cell does not have."""
        options = options_of(self.cell_kind, checked_convention(order, reset, z, gate))
        if not options:
            return self
        convention: Convention = replace(self.convention, **options)  # type: ignore[arg-type]  # none is the forget bias
        changes = ", ".join(f"{option} {value}" for option, value in options.items())
        evidence = self.evidence if convention == self.convention else f"{changes}: as you said; otherwise {self.evidence}"
        warning = self.warning if set(options) == {"order"} else ""  # the warning was about the convention that the file suggests
        return replace(self, convention=convention, evidence=evidence, warning=warning)

    def proved_as(self, convention: Convention, evidence: str) -> FoundGRU:
        """Return the same layers in a convention that was proved."""
        return replace(self, convention=convention, evidence=evidence, warning="")


@dataclass(frozen=True)
class FileLayers:
    """The recurrent layers found in a file. `refused` has one line for each that cannot be opened, which says what to do."""

    layers: tuple[FoundGRU, ...] = ()
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileFormat:
    """A file format: `fits` recognises it by its content, and `find` finds the recurrent layers in it.

    `find(file, order)` raises `ModelFileError` if it refuses the file; `order` is the order of gates given by the user, or None.
    """

    name: str
    fits: Callable[[OpenedFile], bool]
    find: Callable[[OpenedFile, str | None], FileLayers]
