"""Reads safetensors and npz files."""

from __future__ import annotations

import io
import json
import math
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np

from tui_gru.errors import ModelFileError, printable
from tui_gru.files.arrays import (
    ITEM_SIZE,
    AnyArray,
    ByteOrder,
    FileFormat,
    FileLayers,
    Member,
    OpenedFile,
    Tensor,
    byte_size,
    checked_shape,
    decode,
)
from tui_gru.files.matching import find_by_name

# ------------------------------------------------------------------------------
# Format safetensors: a JSON header of names, types, shapes and offsets, then the bytes of the tensors.
#
# The safetensors library is as safe, but with NumPy it does not read bfloat16, which most of these files use. This reader refuses
# the same files: those with overlaps, gaps, sizes that do not fit, or duplicate names.


MOST_HEADER = 1 << 25
DTYPES = {
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"F8_{kind}": "float8" for kind in ("E4M3", "E5M2", "E8M0", "E4M3FNUZ", "E5M2FNUZ")},
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "BOOL": "bool",
    "C64": "complex64",
}
DAMAGED = "its header is damaged; get the file again"


def is_safetensors(file: OpenedFile) -> bool:
    return len(file.head) > 8 and file.head[8:9] == b"{" and _header_length(file) <= file.size - 8


def _header_length(file: OpenedFile) -> int:
    return int(struct.unpack("<Q", file.head[:8])[0])


def header_text(file: OpenedFile) -> bytes:
    """Return the JSON text of the header. Raises `ModelFileError`."""
    if not is_safetensors(file):
        raise ModelFileError("it is not a safetensors file, or it is cut off; get it again")
    length = _header_length(file)
    if length > MOST_HEADER:
        raise ModelFileError(f"its header has {length} bytes, more than {MOST_HEADER}; it is not read")
    if 8 + length <= len(file.head):
        return file.head[8 : 8 + length]
    with file.path.open("rb") as opened:
        opened.seek(8)
        return opened.read(length)


def safetensors_header(file: OpenedFile) -> dict[str, Any]:
    """Return the parsed header, unchecked. Raises `ModelFileError`."""
    try:
        header = json.loads(header_text(file), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, ModelFileError) else ModelFileError(DAMAGED) from None
    if not isinstance(header, dict):
        raise ModelFileError(DAMAGED)
    return header


def safetensors_tensors(
    file: OpenedFile, entries: dict[str, Any] | None = None, checksums: Mapping[str, int] | None = None
) -> dict[str, Tensor]:
    """Return the tensors by name. `entries` is the header if it has been read already; `checksums` are of their bytes (CRC-32).
    Raises `ModelFileError`."""
    entries = safetensors_header(file) if entries is None else entries
    start = 8 + _header_length(file)
    tensors, spans = {}, []
    for name, entry in entries.items():
        if name == "__metadata__":
            continue
        tensor, span = _tensor(file.path, name, entry, start, (checksums or {}).get(name))
        tensors[name] = tensor
        spans.append(span)
    _check_tiled(spans, file.size - start)
    return tensors


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise ModelFileError("its header names a tensor twice; get the file again")
    return entries


def _tensor(path: Path, name: str, entry: Any, start: int, checksum: int | None) -> tuple[Tensor, tuple[int, int]]:
    try:
        kind, shape, (begin, end) = str(entry["dtype"]), checked_shape(entry["shape"]), entry["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise error if isinstance(error, ModelFileError) else ModelFileError(DAMAGED) from None
    dtype = DTYPES.get(kind, kind)  # an unknown type is refused when the tensor is read
    is_span = type(begin) is type(end) is int and 0 <= begin <= end
    if not is_span or (kind in DTYPES and end - begin != byte_size(shape, dtype)):
        raise ModelFileError(f"the size of {printable(name)} in it does not fit its shape; get the file again")

    def read() -> AnyArray:
        with path.open("rb") as opened:
            opened.seek(start + begin)
            data = opened.read(end - begin)
        if len(data) < end - begin:
            raise ModelFileError(f"{printable(name)} in it is cut off; get the file again")
        if checksum is not None and zlib.crc32(data) != checksum:
            raise ModelFileError(f"{printable(name)} in it does not match its checksum; get the file again")
        return decode(data, dtype, shape)

    return Tensor(shape, dtype, read), (begin, end)


def _check_tiled(spans: list[tuple[int, int]], size: int) -> None:
    """Raise `ModelFileError` unless every byte after the header belongs to exactly one tensor."""
    at = 0
    for begin, end in sorted(spans):
        if begin != at:
            raise ModelFileError("its tensors overlap or leave gaps; get the file again")
        at = end
    if at != size:
        raise ModelFileError(f"its tensors take {at} bytes and it has {size}: it is cut off or damaged; get the file again")


# ------------------------------------------------------------------------------
# Format npz: a zip archive of NumPy arrays. Arrays of Python objects are pickled, so they are not read.


NAME = "npz"
MOST_NPY_HEADER = 1 << 14
#: The errors of NumPy's parser of headers. It parses Python literals of any kind.
UNREADABLE = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, SyntaxError, OverflowError, RecursionError, MemoryError),
    TokenError,
)
SUFFIX = ".npy"


def is_npz(file: OpenedFile) -> bool:
    return any(name.endswith(SUFFIX) for name in file.members)


def npz_tensors(file: OpenedFile) -> dict[str, Tensor]:
    """Return the arrays by name. Raises `ModelFileError`."""
    arrays = {name.removesuffix(SUFFIX): member for name, member in file.members.items() if name.endswith(SUFFIX)}
    return {name: _npy_tensor(member) for name, member in arrays.items()}


def _npy_tensor(member: Member) -> Tensor:
    head = io.BytesIO(member.read_span(0, min(member.size, MOST_NPY_HEADER)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, column_major, dtype = npy_header(head)
    except UNREADABLE:
        raise ModelFileError(f"{printable(member.name)} in it is not a NumPy array, or is damaged; get the file again") from None
    start, shape = head.tell(), checked_shape(shape)
    kind = dtype.newbyteorder("=").name
    if kind in ITEM_SIZE and member.size != start + byte_size(shape, kind):
        raise ModelFileError(f"the size of {printable(member.name)} in it does not fit its shape; get the file again")
    order: ByteOrder = ">" if dtype.byteorder == ">" else "<"

    def read() -> AnyArray:
        data = memoryview(member.read())[start:]
        return decode(data, kind, shape[::-1], order).T if column_major else decode(data, kind, shape, order)

    return Tensor(shape, kind, read)


def npy_header(head: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an array as numpy.save writes it. Returns the shape, True for column-major order, and the type. Raises one
    of `UNREADABLE`."""
    version = np.lib.format.read_magic(head)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(head)
    return np.lib.format.read_array_header_2_0(head)


def find_in_safetensors(file: OpenedFile, order: str | None) -> FileLayers:
    return find_by_name(npz_tensors(file), NAME, file.path, order)


FORMAT = FileFormat(NAME, is_npz, find_in_safetensors)


# ------------------------------------------------------------------------------
# One array that a caller gives: as it is, as a tensor, or in a .npy file.


def array_of(value: Any, option: str) -> AnyArray:
    """Return an array, or the array in a .npy file. Raises a `ModelFileError` about `option`."""
    if isinstance(value, (str, PathLike)):
        path = Path(os.path.expanduser(value))
        try:
            with path.open("rb") as file, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                shape, _, dtype = npy_header(file)
                if math.prod(shape) * dtype.itemsize > os.fstat(file.fileno()).st_size - file.tell():
                    raise ValueError("it is cut off")
                file.seek(0)
                array: AnyArray = np.lib.format.read_array(file, allow_pickle=False)
        except OSError as error:
            reason = error.strerror or "it cannot be read"
            raise ModelFileError(f"{printable(path, 250)}: {reason.lower()}; check the name", option=option) from None
        except (*UNREADABLE, EOFError) as error:
            why = printable(error, 100)
            if path.is_file() and zipfile.is_zipfile(path):  # a name with a zero byte is none of a file
                why = "it is a zip of arrays (npz) or of a checkpoint; load it, and save the one array with numpy.save"
            raise ModelFileError(
                f"{printable(path, 250)}: it is not an array written by numpy.save: {why}", option=option
            ) from None
    else:
        try:
            array = np.asarray(_without_graph(value))
        except (ValueError, TypeError, RuntimeError) as error:
            raise ModelFileError(f"{option} is not an array: {printable(error, 100)}", option=option) from None
    if array.dtype.kind not in "iufb":
        raise ModelFileError(f"{option} has the type {printable(array.dtype, 40)}; give real numbers", option=option)
    return array


def _without_graph(value: Any) -> Any:
    """Return a tensor of torch in a form that NumPy can read: without its graph, on the CPU, bfloat16 as float32."""
    if not hasattr(value, "detach"):
        return value
    tensor = value.detach().cpu()
    return tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor
